#include "template/lexer.h"

#include <algorithm>
#include <charconv>
#include <cstring>

#include "template/python_text.h"
#include "text/unicode.h"

namespace deeplora::jinja {
namespace {

using Kind = Token::Kind;

bool is_name_start(char c) { return std::isalpha(static_cast<unsigned char>(c)) || c == '_'; }
bool is_digit(char c) { return c >= '0' && c <= '9'; }

/// One kind of line break, and not one at the very end.
std::string normalized(std::string_view source) {
  std::string out;
  for (size_t i = 0; i < source.size(); ++i) {
    if (source[i] == '\r') {
      out += '\n';
      if (i + 1 < source.size() && source[i + 1] == '\n') ++i;
    } else {
      out += source[i];
    }
  }
  if (out.ends_with('\n')) out.pop_back();
  return out;
}

class Lexer {
 public:
  explicit Lexer(std::string_view source) : text_(normalized(source)) {}

  std::vector<Token> run() {
    while (at_ < text_.size()) data();
    add(Kind::end, at_, "");
    return std::move(tokens_);
  }

 private:
  std::string_view rest(size_t from) const { return std::string_view(text_).substr(std::min(from, text_.size())); }
  bool starts(size_t at, std::string_view word) const { return rest(at).starts_with(word); }

  Place place(size_t at) {
    // Tokens come in order, so counting goes on where it was.
    if (at < counted_) counted_ = 0, place_ = {};
    for (; counted_ < at; counted_ = python_text::next(text_, counted_)) {
      if (text_[counted_] == '\n') ++place_.line, place_.column = 1;
      else ++place_.column;
    }
    return place_;
  }

  template <class... Parts>
  [[noreturn]] void complain(size_t where, const Parts&... parts) {
    fail(jinja::at(place(where)), parts...);
  }

  Token& add(Kind kind, size_t where, std::string text) {
    tokens_.push_back({kind, place(where), std::move(text)});
    return tokens_.back();
  }

  size_t skip_space(size_t at) const {
    while (at < text_.size() && python_text::is_space(python_text::code_at(text_, at)))
      at = python_text::next(text_, at);
    return at;
  }

  /// Where `{% raw %}` that begins at `at` ends, or npos. `trims`: it ends with -%}.
  size_t raw_end(size_t at) const {
    size_t here = at + 2;
    if (starts(here, "-") || starts(here, "+")) ++here;
    here = skip_space(here);
    if (!starts(here, "raw")) return std::string::npos;
    here = skip_space(here + 3);
    if (starts(here, "-%}")) return skip_space(here + 3);
    return starts(here, "%}") ? here + 2 : std::string::npos;
  }

  /// Text up to the next tag, then that tag.
  void data() {
    const size_t begin = at_;
    size_t tag = begin;
    for (;; ++tag) {
      tag = text_.find('{', tag);
      if (tag == std::string::npos || starts(tag, "{%") || starts(tag, "{{") || starts(tag, "{#")) break;
    }
    if (tag == std::string::npos) {
      emit_data(begin, rest(begin));
      at_ = text_.size();
      return;
    }
    const char sign = tag + 2 < text_.size() ? text_[tag + 2] : ' ';
    emit_data(begin, stripped(begin, tag, sign, text_[tag + 1] == '{'));
    const size_t raw = text_[tag + 1] == '%' ? raw_end(tag) : std::string::npos;
    at_ = tag + 2 + (sign == '-' || sign == '+' ? 1 : 0);
    if (raw != std::string::npos) raw_block(tag, raw);
    else if (text_[tag + 1] == '#') comment(tag);
    else inside(tag, text_[tag + 1] == '{');
  }

  void emit_data(size_t where, std::string_view text) {
    if (!text.empty()) add(Kind::data, where, std::string(text));
  }

  /// The text before a tag: without white space before `{%-`, without the tag's own indentation otherwise.
  std::string stripped(size_t begin, size_t tag, char sign, bool output) const {
    const std::string text = text_.substr(begin, tag - begin);
    if (sign == '-') return python_text::strip(text, python_text::Side::right, std::nullopt);
    if (sign == '+' || output) return text;
    const size_t line = text.rfind('\n') + 1;  // npos + 1 is 0
    if (line == 0 && !line_starts_) return text;
    return python_text::strip(text.substr(line), python_text::Side::both, std::nullopt).empty() ? text.substr(0, line)
                                                                                                : text;
  }

  /// Behind a tag that ends at `at`; -%} and its like take the white space after it, others a line break.
  void after_tag(size_t begin, size_t at, bool trims, bool block, bool keeps = false) {
    if (trims) at = skip_space(at);
    else if (block && !keeps && starts(at, "\n")) ++at;
    line_starts_ = at > begin && text_[at - 1] == '\n';
    at_ = at;
  }

  void comment(size_t tag) {
    if (at_ >= text_.size()) return;
    const size_t end = text_.find("#}", at_);
    if (end == std::string::npos) complain(tag, "a comment {# without its end #}");
    const char sign = end > at_ ? text_[end - 1] : ' ';
    after_tag(end, end + 2, sign == '-', true, sign == '+');
  }

  void raw_block(size_t tag, size_t content) {
    at_ = content;
    if (at_ >= text_.size()) return;
    for (size_t end = text_.find("{%", content); end != std::string::npos; end = text_.find("{%", end + 1)) {
      const char sign = end + 2 < text_.size() ? text_[end + 2] : ' ';
      size_t here = skip_space(end + 2 + (sign == '-' || sign == '+' ? 1 : 0));
      if (!starts(here, "endraw")) continue;
      here = skip_space(here + 6);
      const char last = here < text_.size() ? text_[here] : ' ';
      const size_t close = here + (last == '-' || last == '+' ? 1 : 0);
      if (!starts(close, "%}")) continue;
      line_starts_ = text_[content - 1] == '\n';
      emit_data(content, stripped(content, end, sign, false));
      after_tag(end, close + 2, last == '-', true, last == '+');
      return;
    }
    complain(tag, "{% raw %} without its {% endraw %}");
  }

  /// The end of the tag at `at_`, if one is there.
  bool tag_end(bool output) {
    const std::string_view mark = output ? "}}" : "%}";
    const char sign = text_[at_];
    const bool trims = sign == '-', keeps = !output && sign == '+';
    const size_t close = at_ + (trims || keeps ? 1 : 0);
    if (!starts(close, mark)) return false;
    const size_t begin = at_;
    add(output ? Kind::output_end : Kind::block_end, begin, std::string(mark));
    after_tag(begin, close + 2, trims, !output, keeps);
    return true;
  }

  void inside(size_t tag, bool output) {
    add(output ? Kind::output_begin : Kind::block_begin, tag, "");
    brackets_.clear();
    while (at_ < text_.size()) {
      if (brackets_.empty() && tag_end(output)) return;
      one_token();
    }
  }

  void one_token() {
    const size_t begin = at_;
    const char c = text_[begin];
    if (python_text::is_space(python_text::code_at(text_, begin))) at_ = skip_space(begin);
    else if (is_digit(c)) number();
    else if (is_name_start(c)) {
      while (at_ < text_.size() && (is_name_start(text_[at_]) || is_digit(text_[at_]))) ++at_;
      if (at_ < text_.size() && static_cast<unsigned char>(text_[at_]) >= 0x80)
        complain(at_, "names beyond ASCII letters, digits and _ are not supported");
      add(Kind::name, begin, text_.substr(begin, at_ - begin));
    } else if (c == '\'' || c == '"') quoted(c);
    else symbol();
  }

  /// Digits with single underscores between them; where they end, or `from`.
  size_t digits(size_t from, const char* allowed) const {
    size_t at = from;
    while (at < text_.size()) {
      const size_t here = at > from && text_[at] == '_' ? at + 1 : at;
      if (here >= text_.size() || text_[here] == '\0' || !std::strchr(allowed, text_[here])) break;
      at = here + 1;
    }
    return at;
  }

  /// Where a number with a fraction or an exponent ends, or `at_`.
  size_t real_end() const {
    static const char* kDecimal = "0123456789";
    if (at_ > 0 && text_[at_ - 1] == '.') return at_;
    const size_t whole = digits(at_, kDecimal);
    size_t end = whole;
    if (starts(end, ".")) {
      const size_t fraction = digits(end + 1, kDecimal);
      if (fraction > end + 1) end = fraction;
    }
    if (starts(end, "e") || starts(end, "E")) {
      const size_t sign = end + 1 + (starts(end + 1, "+") || starts(end + 1, "-") ? 1 : 0);
      const size_t exponent = digits(sign, kDecimal);
      if (exponent > sign) return exponent;
    }
    return end > whole ? end : at_;
  }

  void number() {
    const size_t begin = at_, real = real_end();
    if (real > begin) {
      at_ = real;
      const auto value = python_text::parse_float(text_.substr(begin, real - begin));
      if (!value || *value > 1.7976931348623157e308)
        complain(begin, "the number ", text_.substr(begin, real - begin), " is beyond a float");
      add(Kind::real, begin, text_.substr(begin, real - begin)).real = *value;
      return;
    }
    size_t end = begin;
    for (const auto& [prefix, allowed] :
         {std::pair{'x', "0123456789abcdefABCDEF"}, std::pair{'o', "01234567"}, std::pair{'b', "01"}}) {
      if (text_[begin] != '0' || begin + 1 >= text_.size() || std::tolower(text_[begin + 1]) != prefix) continue;
      const size_t first = begin + 2 + (starts(begin + 2, "_") ? 1 : 0), last = digits(first, allowed);
      if (last > first) end = last;
    }
    if (end == begin) end = digits(begin, text_[begin] == '0' ? "0" : "0123456789");
    at_ = end;
    const std::string written = text_.substr(begin, end - begin);
    std::optional<int64_t> value;
    try {
      value = python_text::parse_int(written, 0);
    } catch (const Error&) {
      complain(begin, "the whole number ", written, " is beyond 64 bits");
    }
    if (!value) complain(begin, "'", written, "' is no number");
    add(Kind::integer, begin, written).integer = *value;
  }

  void symbol() {
    static const char* kSymbols[] = {"//", "**", "==", "!=", ">=", "<=", "+", "-", "/", "*", "%", "~", "[",
                                     "]",  "(",  ")",  "{",  "}",  ">",  "<", "=", ".", ":", "|", ",", ";"};
    const auto* found =
        std::find_if(std::begin(kSymbols), std::end(kSymbols), [&](const char* one) { return starts(at_, one); });
    if (found == std::end(kSymbols)) {
      const size_t end = python_text::next(text_, at_);
      complain(at_, "unexpected character ", python_text::repr(text_.substr(at_, end - at_)));
    }
    const std::string mark = *found;
    if (mark == "{" || mark == "(" || mark == "[") {
      brackets_ += mark == "{" ? '}' : mark == "(" ? ')' : ']';
    } else if (mark == "}" || mark == ")" || mark == "]") {
      if (brackets_.empty()) complain(at_, "unexpected '", mark, "'");
      if (brackets_.back() != mark[0]) complain(at_, "unexpected '", mark, "', expected '", brackets_.back(), "'");
      brackets_.pop_back();
    }
    add(Kind::symbol, at_, mark);
    at_ += mark.size();
  }

  void quoted(char quote) {
    const size_t begin = at_;
    size_t end = begin + 1;
    while (end < text_.size() && text_[end] != quote) end += text_[end] == '\\' ? 2 : 1;
    if (end >= text_.size()) complain(begin, "a text without its closing ", quote);
    at_ = end + 1;
    add(Kind::text, begin, unescaped(begin + 1, end));
  }

  /// Python's escapes. A character beyond ASCII after a backslash is its own escape there, so the backslash stays
  /// before that text.
  std::string unescaped(size_t at, size_t end) {
    std::string out;
    while (at < end) {
      if (text_[at] != '\\') {
        out += text_[at++];
        continue;
      }
      const char c = text_[at + 1];
      static const std::string_view kLetters = "abfnrtv\\'\"", kMeanings = "\a\b\f\n\r\t\v\\'\"";
      if (const size_t letter = kLetters.find(c); letter != std::string_view::npos) {
        out += kMeanings[letter];
        at += 2;
      } else if (c == '\n') {
        at += 2;
      } else if (c >= '0' && c <= '7') {
        at = numbered(at, at + 1, std::min(end, at + 4), 8, out);
      } else if (c == 'x' || c == 'u' || c == 'U') {
        const size_t count = c == 'x' ? 2 : c == 'u' ? 4 : 8;
        const size_t last = numbered(at, at + 2, std::min(end, at + 2 + count), 16, out);
        if (last != at + 2 + count) complain(at, "truncated \\", c, " escape");
        at = last;
      } else if (c == 'N' || static_cast<unsigned char>(c) >= 0x80) {
        complain(at, c == 'N' ? "\\N{...} is not supported"
                              : "a backslash before a character beyond ASCII is not supported");
      } else {
        out += '\\';
        ++at;
      }
    }
    return out;
  }

  /// Appends the character whose number stands at [from, end); returns where the digits end.
  size_t numbered(size_t escape, size_t from, size_t end, int base, std::string& out) {
    uint32_t code = 0;
    const auto [last, error] = std::from_chars(text_.data() + from, text_.data() + end, code, base);
    const auto done = static_cast<size_t>(last - text_.data());
    if (done == from) complain(escape, "an escape without its number");
    if (code > 0x10FFFF) complain(escape, "an escape that is no character");
    if (code >= 0xD800 && code < 0xE000) complain(escape, "escapes of half a surrogate pair are not supported");
    append_utf8(out, code);
    return done;
  }

  std::string text_;
  std::vector<Token> tokens_;
  std::string brackets_;  ///< closing ones that are expected
  size_t at_ = 0;
  bool line_starts_ = true;
  size_t counted_ = 0;
  Place place_;
};

}  // namespace

std::string at(Place place) { return cat("line ", place.line, ", column ", place.column, ": "); }

std::vector<Token> tokens_of(std::string_view source) {
  to_code_points(source, "the template");
  return Lexer(source).run();
}

}  // namespace deeplora::jinja
