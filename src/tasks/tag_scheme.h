// Schemes by which tags of words mark entities. Free of LibTorch.
#pragma once

#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// plain: each tag is one on its own (parts of speech). iob1: B- only where an entity follows another of its type.
/// iob2: every entity begins with B-. iobes: it also ends with E-, and S- is one of a single word. bilou: the same with
/// L- and U-.
enum class TagScheme { plain, iob1, iob2, iobes, bilou };
/// Throws Error for a text that names none.
TagScheme parse_tag_scheme(const std::string& name);
std::string to_string(TagScheme scheme);

/// A tag that is outside of every entity.
inline constexpr std::string_view kOutside = "O";

/// B, I, E, S, L or U of "B-PER" (or of "B" alone, an entity without a type); 0 for every other tag.
char tag_letter(std::string_view tag);
/// "PER" of "B-PER"; "" of "B".
std::string_view tag_type(std::string_view tag);

/// Tags of one text, and where it stands.
struct TaggedText {
  std::string source;
  std::vector<std::string> tags;
};

/// The scheme of the texts: by the letters that occur; IOB1 or IOB2, whichever fewer tags break. Throws Error, with the
/// first places, where tags with and without a prefix are mixed, and for letters of no one scheme.
TagScheme find_tag_scheme(const std::vector<TaggedText>& texts);

/// That of a model's classes: by their letters alone; plain where they are of no one scheme.
TagScheme scheme_of_classes(const std::vector<std::string>& classes);

/// True where `tag` may follow `before`; kOutside stands before and behind a text.
bool may_follow(TagScheme scheme, std::string_view before, std::string_view tag);

/// "tag 3, 'I-PER', follows 'O'" for the first tag of a text that breaks the scheme, or has a letter that is none of
/// its; "" where none does. The place behind the last tag counts too.
std::string first_break(TagScheme scheme, const std::vector<std::string>& tags);

/// The same entities in IOBES: L- is written as E-, U- as S-.
std::vector<std::string> as_iobes(std::vector<std::string> tags);

}  // namespace deeplora
