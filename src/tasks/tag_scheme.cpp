#include "tasks/tag_scheme.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <utility>

#include "core/error.h"

namespace deeplora {
namespace {

/// What is particular to a scheme.
struct SchemeRules {
  TagScheme scheme;
  const char* name;
  const char* letters;  ///< that its tags begin with
  const char* inside;   ///< of these, those that go on with an entity
  bool closes;          ///< an entity that is open must be gone on with
};
constexpr std::array<SchemeRules, 5> kSchemes{{{TagScheme::plain, "plain", "", "", false},
                                               {TagScheme::iob1, "iob1", "BI", "", false},
                                               {TagScheme::iob2, "iob2", "BI", "I", false},
                                               {TagScheme::iobes, "iobes", "BIES", "IE", true},
                                               {TagScheme::bilou, "bilou", "BILU", "IL", true}}};

const SchemeRules& rules_of(TagScheme scheme) { return kSchemes[static_cast<size_t>(scheme)]; }

bool holds(std::string_view letters, char letter) {
  return letter != 0 && letters.find(letter) != std::string_view::npos;
}

std::vector<std::string> scheme_names() {
  std::vector<std::string> out;
  for (const auto& one : kSchemes) out.emplace_back(one.name);
  return out;
}

/// The first place of every letter, of tags that are none ('-') and of tags of one letter alone ('1').
using FirstPlaces = std::map<char, std::pair<const std::string*, const std::string*>>;  ///< {source, tag}

FirstPlaces first_places(const std::vector<TaggedText>& texts) {
  FirstPlaces out;
  for (const auto& text : texts)
    for (const auto& tag : text.tags) {
      if (tag == kOutside) continue;
      const char letter = tag_letter(tag);
      out.try_emplace(letter == 0 ? '-' : tag.size() == 1 ? '1' : letter, &text.source, &tag);
      if (letter != 0) out.try_emplace(letter, &text.source, &tag);
    }
  return out;
}

size_t breaks(TagScheme scheme, const std::vector<TaggedText>& texts) {
  size_t out = 0;
  for (const auto& text : texts) {
    std::string_view before = kOutside;
    for (const auto& tag : text.tags) out += !may_follow(scheme, std::exchange(before, tag), tag);
  }
  return out;
}

std::string at(const FirstPlaces& first, char letter) {
  const auto& [source, tag] = first.at(letter);
  return cat("'", *tag, "' (", *source, ")");
}

constexpr const char* kOneScheme =
    "; write all tags in one scheme, or set data.tag_scheme: plain to take each as it is";

}  // namespace

TagScheme parse_tag_scheme(const std::string& name) {
  for (const auto& one : kSchemes)
    if (name == one.name) return one.scheme;
  fail("unknown tag scheme '", name, "'; known: ", join(scheme_names()));
}

std::string to_string(TagScheme scheme) { return rules_of(scheme).name; }

char tag_letter(std::string_view tag) {
  const bool has_prefix = tag.size() == 1 || (tag.size() > 2 && tag[1] == '-');
  return has_prefix && holds("BIESLU", tag[0]) ? tag[0] : '\0';
}

std::string_view tag_type(std::string_view tag) { return tag.size() > 2 ? tag.substr(2) : std::string_view(); }

TagScheme find_tag_scheme(const std::vector<TaggedText>& texts) {
  const FirstPlaces first = first_places(texts);
  const auto has = [&](char letter) { return first.contains(letter); };
  const bool typed = std::any_of(first.begin(), first.end(), [](const auto& one) {
    return tag_type(*one.second.second) != "" && tag_letter(*one.second.second) != 0;
  });
  if (!typed && has('-')) return TagScheme::plain;  // letters alone among other tags are tags like these
  std::optional<char> some;
  for (const char letter : {'B', 'I', 'E', 'S', 'L', 'U'})
    if (!some && has(letter)) some = letter;
  if (!some) return TagScheme::plain;
  check(!has('-'), "tags of mixed schemes: ", at(first, *some), " has a prefix, ", has('-') ? at(first, '-') : "",
        " has none", kOneScheme);
  const bool iobes = has('E') || has('S'), bilou = has('L') || has('U');
  check(!iobes || !bilou, "tags of mixed schemes: ", iobes ? at(first, has('E') ? 'E' : 'S') : "", " is one of IOBES, ",
        bilou ? at(first, has('L') ? 'L' : 'U') : "", " one of BILOU", kOneScheme);
  check(!has('E') || has('B') || has('S'), "tags of a scheme that is not known here: ", has('E') ? at(first, 'E') : "",
        ", but none with B- or S- (IOE); known: IOB1, IOB2, IOBES, BILOU", kOneScheme);
  if (iobes) return TagScheme::iobes;
  if (bilou) return TagScheme::bilou;
  return breaks(TagScheme::iob1, texts) < breaks(TagScheme::iob2, texts) ? TagScheme::iob1 : TagScheme::iob2;
}

TagScheme scheme_of_classes(const std::vector<std::string>& classes) {
  std::vector<TaggedText> each;
  for (const auto& name : classes) each.push_back({"", {name}});
  try {
    return find_tag_scheme(each);
  } catch (const Error&) {
    return TagScheme::plain;
  }
}

bool may_follow(TagScheme scheme, std::string_view before, std::string_view tag) {
  const SchemeRules& rules = rules_of(scheme);
  const char was = tag_letter(before), is = tag_letter(tag);
  const bool same = was != 0 && is != 0 && tag_type(before) == tag_type(tag);
  if (scheme == TagScheme::iob1) return is != 'B' || same;
  const bool open = was == 'B' || was == 'I';
  if (holds(rules.inside, is)) return open && same;
  return !(rules.closes && open);
}

std::string first_break(TagScheme scheme, const std::vector<std::string>& tags) {
  if (scheme == TagScheme::plain) return "";
  std::string_view before = kOutside;
  for (size_t i = 0; i <= tags.size(); ++i) {
    const std::string_view tag = i < tags.size() ? std::string_view(tags[i]) : kOutside;
    if (tag != kOutside && !holds(rules_of(scheme).letters, tag_letter(tag)))
      return cat("tag ", i + 1, ", '", tag, "', is none of ", to_string(scheme));
    if (!may_follow(scheme, before, tag))
      return i < tags.size() ? cat("tag ", i + 1, ", '", tag, "', follows ", i == 0 ? "nothing" : cat("'", before, "'"))
                             : cat("the last tag, '", before, "', ends nothing");
    before = tag;
  }
  return "";
}

std::vector<std::string> as_iobes(std::vector<std::string> tags) {
  for (auto& tag : tags) {
    const char letter = tag_letter(tag);
    if (letter == 'L') tag[0] = 'E';
    if (letter == 'U') tag[0] = 'S';
  }
  return tags;
}

}  // namespace deeplora
