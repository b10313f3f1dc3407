#include "template/python_text.h"

#include <utf8proc.h>

#include <algorithm>
#include <charconv>
#include <cmath>

#include "core/error.h"
#include "template/special_casing.h"
#include "text/unicode.h"

namespace deeplora::jinja::python_text {
namespace {

utf8proc_category_t category(char32_t code) { return utf8proc_category(static_cast<utf8proc_int32_t>(code)); }

const SpecialCase* special(char32_t code) {
  if (code < 0xDF) return nullptr;
  const auto* end = std::end(kSpecialCases);
  const auto* found = std::lower_bound(std::begin(kSpecialCases), end, code,
                                       [](const SpecialCase& one, char32_t c) { return one.code < c; });
  return found != end && found->code == code ? found : nullptr;
}

void append_upper(std::string& out, char32_t code) {
  if (const auto* several = special(code)) out += to_utf8(several->upper);
  else append_utf8(out, static_cast<char32_t>(utf8proc_toupper(static_cast<utf8proc_int32_t>(code))));
}

void append_title(std::string& out, char32_t code) {
  if (const auto* several = special(code)) out += to_utf8(several->title);
  else append_utf8(out, static_cast<char32_t>(utf8proc_totitle(static_cast<utf8proc_int32_t>(code))));
}

bool is_cased(char32_t code) { return is_upper(code) || is_lower(code) || is_title(code); }

/// Characters that the rule of the final sigma looks through.
bool is_case_ignorable(char32_t code) {
  const auto kind = category(code);
  return kind == UTF8PROC_CATEGORY_MN || kind == UTF8PROC_CATEGORY_ME || kind == UTF8PROC_CATEGORY_CF ||
         kind == UTF8PROC_CATEGORY_LM || kind == UTF8PROC_CATEGORY_SK || code == '\'' || code == '.' || code == ':' ||
         code == 0xB7 || code == 0x2018 || code == 0x2019;
}

void append_lower(std::string& out, const std::u32string& codes, size_t at) {
  if (codes[at] == 0x3A3) {
    size_t before = at, after = at + 1;
    while (before > 0 && is_case_ignorable(codes[before - 1])) --before;
    while (after < codes.size() && is_case_ignorable(codes[after])) ++after;
    const bool final = before > 0 && is_cased(codes[before - 1]) && !(after < codes.size() && is_cased(codes[after]));
    append_utf8(out, final ? 0x3C2 : 0x3C3);
    return;
  }
  if (codes[at] == 0x130) {
    out += "i\xCC\x87";
    return;
  }
  append_utf8(out, static_cast<char32_t>(utf8proc_tolower(static_cast<utf8proc_int32_t>(codes[at]))));
}

bool in_set(char32_t code, const std::optional<std::u32string>& set) {
  return set ? set->find(code) != std::u32string::npos : is_space(code);
}

bool is_line_end(char32_t code) {
  return (code >= 0x0A && code <= 0x0D) || (code >= 0x1C && code <= 0x1E) || code == 0x85 || code == 0x2028 ||
         code == 0x2029;
}

std::vector<std::string> split_at_space(std::string_view text, int64_t most, bool from_right) {
  std::u32string codes = to_code_points(text);
  if (from_right) std::reverse(codes.begin(), codes.end());
  std::vector<std::u32string> parts;
  size_t at = 0;
  for (;;) {
    while (at < codes.size() && is_space(codes[at])) ++at;
    if (at >= codes.size()) break;
    if (most >= 0 && static_cast<int64_t>(parts.size()) >= most) {
      parts.push_back(codes.substr(at));  // the rest keeps the white space at its far end
      break;
    }
    size_t end = at;
    while (end < codes.size() && !is_space(codes[end])) ++end;
    parts.push_back(codes.substr(at, end - at));
    at = end;
  }
  std::vector<std::string> out;
  for (auto& part : parts) {
    if (from_right) std::reverse(part.begin(), part.end());
    out.push_back(to_utf8(part));
  }
  if (from_right) std::reverse(out.begin(), out.end());
  return out;
}

}  // namespace

size_t length(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

size_t next(std::string_view text, size_t at) {
  ++at;
  while (at < text.size() && (static_cast<unsigned char>(text[at]) & 0xC0) == 0x80) ++at;
  return at;
}

char32_t code_at(std::string_view text, size_t at) {
  const auto lead = static_cast<unsigned char>(text[at]);
  if (lead < 0x80) return lead;
  return to_code_points(text.substr(at, next(text, at) - at)).front();
}

size_t byte_of(std::string_view text, size_t index) {
  size_t at = 0;
  while (index > 0 && at < text.size()) {
    at = next(text, at);
    --index;
  }
  return at;
}

bool is_space(char32_t code) { return deeplora::is_space(code) || (code >= 0x1C && code <= 0x1F); }

bool is_printable(char32_t code) {
  if (code == ' ') return true;
  switch (category(code)) {
    case UTF8PROC_CATEGORY_CC:
    case UTF8PROC_CATEGORY_CF:
    case UTF8PROC_CATEGORY_CS:
    case UTF8PROC_CATEGORY_CO:
    case UTF8PROC_CATEGORY_CN:
    case UTF8PROC_CATEGORY_ZL:
    case UTF8PROC_CATEGORY_ZP:
    case UTF8PROC_CATEGORY_ZS: return false;
    default: return true;
  }
}

bool is_alphabetic(char32_t code) {
  const auto kind = category(code);
  return kind >= UTF8PROC_CATEGORY_LU && kind <= UTF8PROC_CATEGORY_LO;
}

bool is_decimal(char32_t code) { return category(code) == UTF8PROC_CATEGORY_ND; }

bool is_digit(char32_t code) {
  return is_decimal(code) || code == 0xB2 || code == 0xB3 || code == 0xB9 || code == 0x2070 ||
         (code >= 0x2074 && code <= 0x2079) || (code >= 0x2080 && code <= 0x2089) || (code >= 0x2460 && code <= 0x2468);
}

bool is_numeric(char32_t code) {
  const auto kind = category(code);
  return is_digit(code) || kind == UTF8PROC_CATEGORY_NL || kind == UTF8PROC_CATEGORY_NO;
}

bool is_upper(char32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LU || (code >= 0x2160 && code <= 0x216F) ||
         (code >= 0x24B6 && code <= 0x24CF);
}

bool is_lower(char32_t code) {
  return category(code) == UTF8PROC_CATEGORY_LL || code == 0xAA || code == 0xBA || (code >= 0x2170 && code <= 0x217F) ||
         (code >= 0x24D0 && code <= 0x24E9) || (code >= 0x2B0 && code <= 0x2B8);
}

bool is_title(char32_t code) { return category(code) == UTF8PROC_CATEGORY_LT; }

std::string lower(std::string_view text) {
  const std::u32string codes = to_code_points(text);
  std::string out;
  for (size_t i = 0; i < codes.size(); ++i) append_lower(out, codes, i);
  return out;
}

std::string upper(std::string_view text) {
  std::string out;
  for (const char32_t code : to_code_points(text)) append_upper(out, code);
  return out;
}

std::string capitalize(std::string_view text) {
  const std::u32string codes = to_code_points(text);
  std::string out;
  for (size_t i = 0; i < codes.size(); ++i) {
    if (i == 0) append_title(out, codes[i]);
    else append_lower(out, codes, i);
  }
  return out;
}

std::string title(std::string_view text) {
  const std::u32string codes = to_code_points(text);
  std::string out;
  bool inside = false;
  for (size_t i = 0; i < codes.size(); ++i) {
    if (inside) append_lower(out, codes, i);
    else append_title(out, codes[i]);
    inside = is_cased(codes[i]);
  }
  return out;
}

std::string swapcase(std::string_view text) {
  const std::u32string codes = to_code_points(text);
  std::string out;
  for (size_t i = 0; i < codes.size(); ++i) {
    if (is_upper(codes[i])) append_lower(out, codes, i);
    else if (is_lower(codes[i])) append_upper(out, codes[i]);
    else append_utf8(out, codes[i]);
  }
  return out;
}

std::string casefold(std::string_view text) {
  for (const char c : text)
    check(static_cast<unsigned char>(c) < 0x80, "str.casefold of characters beyond ASCII is not supported");
  return lower(text);
}

std::string strip(std::string_view text, Side side, const std::optional<std::string>& set) {
  const auto wanted = set ? std::optional(to_code_points(*set)) : std::nullopt;
  size_t begin = 0, end = text.size();
  if (side != Side::right)
    while (begin < end && in_set(code_at(text, begin), wanted)) begin = next(text, begin);
  if (side != Side::left)
    while (end > begin) {
      size_t last = end - 1;
      while ((static_cast<unsigned char>(text[last]) & 0xC0) == 0x80) --last;
      if (!in_set(code_at(text, last), wanted)) break;
      end = last;
    }
  return std::string(text.substr(begin, end - begin));
}

std::vector<std::string> split(std::string_view text, const std::optional<std::string>& separator, int64_t most,
                               bool from_right) {
  if (!separator) return split_at_space(text, most, from_right);
  check(!separator->empty(), "empty separator");
  std::vector<std::string> out;
  if (from_right) {
    size_t end = text.size();
    for (; most != 0; --most) {
      const size_t at =
          end < separator->size() ? std::string_view::npos : text.rfind(*separator, end - separator->size());
      if (at == std::string_view::npos) break;
      out.emplace_back(text.substr(at + separator->size(), end - at - separator->size()));
      end = at;
    }
    out.emplace_back(text.substr(0, end));
    std::reverse(out.begin(), out.end());
    return out;
  }
  size_t begin = 0;
  for (; most != 0; --most) {
    const size_t at = text.find(*separator, begin);
    if (at == std::string_view::npos) break;
    out.emplace_back(text.substr(begin, at - begin));
    begin = at + separator->size();
  }
  out.emplace_back(text.substr(begin));
  return out;
}

std::vector<std::string> split_lines(std::string_view text, bool keep_ends) {
  std::vector<std::string> out;
  for (size_t begin = 0; begin < text.size();) {
    size_t end = begin;
    while (end < text.size() && !is_line_end(code_at(text, end))) end = next(text, end);
    size_t after = end < text.size() ? next(text, end) : end;
    if (text.substr(end).starts_with("\r\n")) after = end + 2;
    out.emplace_back(text.substr(begin, (keep_ends ? after : end) - begin));
    begin = after;
  }
  return out;
}

std::string replace(std::string_view text, std::string_view from, std::string_view to, int64_t most) {
  std::string out;
  size_t done = 0;
  if (from.empty()) {
    for (size_t at = 0;; at = next(text, at)) {
      if (most-- == 0) return out.append(text.substr(at));
      out += to;
      if (at >= text.size()) return out;
      out += text.substr(at, next(text, at) - at);
    }
  }
  for (; most != 0; --most) {
    const size_t at = text.find(from, done);
    if (at == std::string_view::npos) break;
    out.append(text.substr(done, at - done)).append(to);
    done = at + from.size();
    check(out.size() < (size_t{1} << 25), "a text grows too long");
  }
  return out.append(text.substr(done));
}

std::string justify(std::string_view text, int64_t width, const std::string& fill, int where) {
  check(length(fill) == 1, "The fill character must be exactly one character long");
  const auto own = static_cast<int64_t>(length(text));
  if (width <= own) return std::string(text);
  check(width < (1 << 24), "a text of ", width, " characters is too long");
  const int64_t missing = width - own;
  const int64_t left = where < 0 ? 0 : where > 0 ? missing : missing / 2 + (missing & width & 1);
  std::string out;
  for (int64_t i = 0; i < left; ++i) out += fill;
  out += text;
  for (int64_t i = left; i < missing; ++i) out += fill;
  return out;
}

std::string expand_tabs(std::string_view text, int64_t size) {
  check(size < 1000, "tabs of ", size, " characters are not supported");
  std::string out;
  int64_t column = 0;
  for (size_t at = 0; at < text.size(); at = next(text, at)) {
    if (text[at] == '\t') {
      const int64_t count = size > 0 ? size - column % size : 0;
      out.append(static_cast<size_t>(count), ' ');
      column += count;
      continue;
    }
    out += text.substr(at, next(text, at) - at);
    column = text[at] == '\n' || text[at] == '\r' ? 0 : column + 1;
  }
  return out;
}

std::string repr(std::string_view text) {
  const bool doubled = text.find('\'') != std::string_view::npos && text.find('"') == std::string_view::npos;
  const char quote = doubled ? '"' : '\'';
  std::string out(1, quote);
  const char* hex = "0123456789abcdef";
  for (const char32_t code : to_code_points(text)) {
    if (code == static_cast<char32_t>(quote) || code == '\\') (out += '\\') += static_cast<char>(code);
    else if (code == '\n') out += "\\n";
    else if (code == '\r') out += "\\r";
    else if (code == '\t') out += "\\t";
    else if (is_printable(code)) append_utf8(out, code);
    else {
      const int digits = code < 0x100 ? 2 : code < 0x10000 ? 4 : 8;
      out += digits == 2 ? "\\x" : digits == 4 ? "\\u" : "\\U";
      for (int shift = 4 * digits - 4; shift >= 0; shift -= 4) out += hex[(code >> shift) & 15];
    }
  }
  return out + quote;
}

std::string repr(double number) {
  if (std::isnan(number)) return "nan";
  if (std::isinf(number)) return number < 0 ? "-inf" : "inf";
  char buffer[64];
  const auto [end, error] = std::to_chars(buffer, buffer + sizeof buffer, number, std::chars_format::scientific);
  const std::string shortest(buffer, end);
  const size_t mark = shortest.find('e');
  const int exponent = std::stoi(shortest.substr(mark + 1));
  if (exponent < -4 || exponent >= 16) {
    std::string digits = shortest.substr(0, mark);
    const std::string power = std::to_string(std::abs(exponent));
    return digits + "e" + (exponent < 0 ? "-" : "+") + (power.size() < 2 ? "0" : "") + power;
  }
  const auto [last, failed] = std::to_chars(buffer, buffer + sizeof buffer, number, std::chars_format::fixed);
  std::string fixed(buffer, last);
  return fixed.find('.') == std::string::npos ? fixed + ".0" : fixed;
}

namespace {

/// Digits without the underscores that Python allows between them; nothing where one stands elsewhere.
std::optional<std::string> without_underscores(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] != '_') {
      out += text[i];
      continue;
    }
    const auto is_digit = [](char c) { return std::isalnum(static_cast<unsigned char>(c)) != 0; };
    if (i == 0 || i + 1 >= text.size() || !is_digit(text[i - 1]) || !is_digit(text[i + 1])) return std::nullopt;
  }
  return out;
}

}  // namespace

std::optional<int64_t> parse_int(std::string_view text, int64_t base) {
  check(base == 0 || (base >= 2 && base <= 36), "int() base must be >= 2 and <= 36, or 0");
  std::string digits = strip(text, Side::both, std::nullopt);
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.erase(0, 1);
  const auto prefixed = [&](char letter) {
    return digits.size() > 2 && digits[0] == '0' && std::tolower(digits[1]) == letter;
  };
  for (const auto& [letter, own] : {std::pair{'x', 16}, std::pair{'o', 8}, std::pair{'b', 2}})
    if ((base == own || base == 0) && prefixed(letter)) {
      digits.erase(0, digits[2] == '_' ? 3 : 2);
      base = own;
      break;
    }
  if (base == 0) {
    if (digits.size() > 1 && digits[0] == '0' && digits.find_first_not_of("0_") != std::string::npos)
      return std::nullopt;
    base = 10;
  }
  const auto clean = without_underscores(digits);
  if (!clean || clean->empty()) return std::nullopt;
  uint64_t value = 0;
  const auto [end, error] =
      std::from_chars(clean->data(), clean->data() + clean->size(), value, static_cast<int>(base));
  if (end != clean->data() + clean->size()) return std::nullopt;
  check(error == std::errc() && value <= static_cast<uint64_t>(INT64_MAX) + (negative ? 1 : 0), "the whole number ",
        *clean, " is beyond 64 bits");
  return negative ? static_cast<int64_t>(0 - value) : static_cast<int64_t>(value);
}

std::optional<double> parse_float(std::string_view text) {
  std::string digits = strip(text, Side::both, std::nullopt);
  const bool negative = digits.starts_with('-');
  if (negative || digits.starts_with('+')) digits.erase(0, 1);
  const auto clean = without_underscores(digits);
  if (!clean || clean->empty() || clean->front() == '-' || clean->front() == '+') return std::nullopt;
  const std::string word = lower(*clean);
  double value = 0;
  if (word == "inf" || word == "infinity") value = INFINITY;
  else if (word == "nan") value = NAN;
  else {
    if (!std::isdigit(static_cast<unsigned char>(word[0])) && word[0] != '.') return std::nullopt;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), value);
    if (end != word.data() + word.size()) return std::nullopt;
    if (error == std::errc::result_out_of_range) value = std::strtod(word.c_str(), nullptr);
    else if (error != std::errc()) return std::nullopt;
  }
  return negative ? -value : value;
}

std::string escape_html(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (c == '&') out += "&amp;";
    else if (c == '<') out += "&lt;";
    else if (c == '>') out += "&gt;";
    else if (c == '\'') out += "&#39;";
    else if (c == '"') out += "&#34;";
    else out += c;
  }
  return out;
}

}  // namespace deeplora::jinja::python_text
