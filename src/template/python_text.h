// Texts as Python's str sees them: places count code points, cases and classes are Unicode's. Texts are UTF-8 and
// valid.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace deeplora::jinja::python_text {

/// Code points.
size_t length(std::string_view text);
/// Byte where the code point after the one at `at` begins.
size_t next(std::string_view text, size_t at);
char32_t code_at(std::string_view text, size_t at);
/// Byte of the code point number `index` (the end of the text at most).
size_t byte_of(std::string_view text, size_t index);

/// str.isspace of one character: also U+001C..U+001F, which White_Space lacks.
bool is_space(char32_t code);
bool is_printable(char32_t code);
bool is_alphabetic(char32_t code);
bool is_decimal(char32_t code);
bool is_digit(char32_t code);
bool is_numeric(char32_t code);
bool is_upper(char32_t code);
bool is_lower(char32_t code);
bool is_title(char32_t code);

std::string lower(std::string_view text);
std::string upper(std::string_view text);
/// The first character in title case, the others in lower case.
std::string capitalize(std::string_view text);
/// str.title(): so for every word.
std::string title(std::string_view text);
std::string swapcase(std::string_view text);
std::string casefold(std::string_view text);

enum class Side { both, left, right };
/// str.strip: white space, or the characters of `set`.
std::string strip(std::string_view text, Side side, const std::optional<std::string>& set);
/// str.split and str.rsplit; no separator: runs of white space. `most` < 0: all.
std::vector<std::string> split(std::string_view text, const std::optional<std::string>& separator, int64_t most,
                               bool from_right);
std::vector<std::string> split_lines(std::string_view text, bool keep_ends);
/// str.replace; `most` < 0: all.
std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t most);
/// Filled to `width` code points; where = -1 left-aligned, 1 right-aligned, 0 as str.center.
std::string justify(std::string_view text, int64_t width, const std::string& fill, int where);
std::string expand_tabs(std::string_view text, int64_t size);

/// repr of a str and of a float.
std::string repr(std::string_view text);
std::string repr(double number);
/// int(text, base) and float(text); nothing where Python raises ValueError. Throws Error beyond 64 bits.
std::optional<int64_t> parse_int(std::string_view text, int64_t base);
std::optional<double> parse_float(std::string_view text);
/// & < > ' " as HTML writes them.
std::string escape_html(std::string_view text);

}  // namespace deeplora::jinja::python_text
