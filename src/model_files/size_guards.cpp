#include "model_files/size_guards.h"

#include <algorithm>
#include <array>
#include <charconv>

#include "core/error.h"

namespace deeplora {

/// A number, the size of an input, or an operator with its operands; true is 1.
struct SizeGuard::Part {
  std::string op;  ///< "" a number, "size" of `input`
  int64_t number = 0;
  std::string input;
  std::vector<Part> operands;
};

namespace {

using Part = SizeGuard::Part;

constexpr size_t kDeepest = 64, kLongestText = 20000, kLongestShown = 200;

bool in_words(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

/// Python's order of binding, the loosest first.
class GuardParser {
 public:
  GuardParser(const std::string& where, std::string_view text) : where_(where), text_(text) {}

  Part whole() {
    if (text_.size() > kLongestText) refuse();
    Part out = any_of(0);
    if (peek() != '\0') refuse();
    return out;
  }

 private:
  [[noreturn]] void refuse() const {
    fail(where_, ": the program asks of its inputs that ", text_.substr(0, kLongestShown),
         ", which cannot be checked here; export the model at sizes that are free");
  }

  Part any_of(size_t depth) {
    if (depth > kDeepest) refuse();
    Part out = all_of(depth + 1);
    while (take_word("or")) out = both("or", std::move(out), all_of(depth + 1));
    return out;
  }

  Part all_of(size_t depth) {
    Part out = denied(depth);
    while (take_word("and")) out = both("and", std::move(out), denied(depth));
    return out;
  }

  Part denied(size_t depth) {
    if (depth > kDeepest) refuse();
    if (take_word("not")) return {"not", 0, "", {denied(depth + 1)}};
    return comparison(depth);
  }

  Part comparison(size_t depth) {
    static constexpr std::array<const char*, 6> kOperators{"==", "!=", "<=", ">=", "<", ">"};
    Part left = sum(depth), out;
    for (bool more = true, first = true; more; first = false) {
      const auto* const op = std::find_if(kOperators.begin(), kOperators.end(), [&](const char* o) { return take(o); });
      more = op != kOperators.end();
      if (!more) return first ? left : out;
      Part right = sum(depth);
      Part pair = both(*op, left, right);  // a < b < c is a < b and b < c
      out = first ? std::move(pair) : both("and", std::move(out), std::move(pair));
      left = std::move(right);
    }
    return out;
  }

  Part sum(size_t depth) {
    Part out = product(depth);
    for (;;) {
      if (take("+")) out = both("+", std::move(out), product(depth));
      else if (take("-")) out = both("-", std::move(out), product(depth));
      else return out;
    }
  }

  Part product(size_t depth) {
    Part out = factor(depth);
    for (;;) {
      if (take("//")) out = both("//", std::move(out), factor(depth));
      else if (take("*")) out = both("*", std::move(out), factor(depth));
      else if (take("%")) out = both("%", std::move(out), factor(depth));
      else return out;
    }
  }

  Part factor(size_t depth) {
    if (depth > kDeepest) refuse();
    if (take("-")) return both("-", Part{}, factor(depth + 1));
    if (take("(")) return closed(any_of(depth + 1));
    const std::string name(word());
    if (name == "True" || name == "False") return {"", name == "True", "", {}};
    if (name == "L") return size();
    if ((name == "max" || name == "min") && take("(")) {
      Part out{name, 0, "", {any_of(depth + 1)}};
      while (take(",")) out.operands.push_back(any_of(depth + 1));
      return closed(std::move(out));
    }
    return number(name);
  }

  Part number(const std::string& digits) const {
    Part out;
    const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), out.number);
    if (error != std::errc() || end != digits.data() + digits.size() || peek() == '.') refuse();
    return out;
  }

  /// ['batch']['x'].size()[1]
  Part size() {
    Part out{"size", 0, "", {}};
    while (take("[")) {
      const bool quoted = take("'");
      const std::string key(word());
      if (key.empty() || (quoted && !take("'")) || !take("]")) refuse();
      out.input += cat(out.input.empty() ? "" : ".", key);
    }
    if (out.input.empty() || !take(".") || word() != "size" || !take("(") || !take(")") || !take("[")) refuse();
    out.number = number(std::string(word())).number;
    if (!take("]")) refuse();
    return out;
  }

  Part closed(Part inner) {
    if (!take(")")) refuse();
    return inner;
  }

  static Part both(const char* op, Part left, Part right) { return {op, 0, "", {std::move(left), std::move(right)}}; }

  char peek() const {
    const size_t next = text_.find_first_not_of(' ', at_);
    return next == std::string_view::npos ? '\0' : text_[next];
  }

  bool take(std::string_view sign) {
    const size_t next = text_.find_first_not_of(' ', at_);
    if (next == std::string_view::npos || !text_.substr(next).starts_with(sign)) return false;
    at_ = next + sign.size();
    return true;
  }

  bool take_word(std::string_view wanted) {
    const size_t before = at_;
    if (word() == wanted) return true;
    at_ = before;
    return false;
  }

  std::string_view word() {
    const size_t begin = std::min(text_.find_first_not_of(' ', at_), text_.size());
    at_ = begin;
    while (at_ < text_.size() && in_words(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  const std::string& where_;
  std::string_view text_;
  size_t at_ = 0;
};

using Number = std::optional<int64_t>;

/// As Python: rounded down, the rest with the divisor's sign.
Number divided(int64_t a, int64_t b, bool rest) {
  if (b == 0 || b == -1) return b == 0 ? Number() : Number(rest ? 0 : -a);
  const int64_t down = a / b - (a % b != 0 && (a < 0) != (b < 0) ? 1 : 0);
  return rest ? a - down * b : down;
}

Number combined(const std::string& op, int64_t a, int64_t b) {
  int64_t out = 0;
  if (op == "+") return __builtin_add_overflow(a, b, &out) ? Number() : out;
  if (op == "-") return __builtin_sub_overflow(a, b, &out) ? Number() : out;
  if (op == "*") return __builtin_mul_overflow(a, b, &out) ? Number() : out;
  if (op == "//" || op == "%") return divided(a, b, op == "%");
  if (op == "max") return std::max(a, b);
  if (op == "min") return std::min(a, b);
  return op == "=="   ? a == b
         : op == "!=" ? a != b
         : op == "<=" ? a <= b
         : op == ">=" ? a >= b
         : op == "<"  ? a < b
                      : a > b;
}

Number value_of(const Part& part, const SizeGuard::Sizes& sizes) {
  if (part.op.empty()) return part.number;
  if (part.op == "size") {
    const auto& found = sizes.at(part.input);
    if (part.number < 0 || static_cast<size_t>(part.number) >= found.size()) return std::nullopt;
    return found[static_cast<size_t>(part.number)];
  }
  Number out = value_of(part.operands.at(0), sizes);
  if (!out) return out;
  if (part.op == "not") return *out == 0;
  if (part.op == "or" || part.op == "and")
    return (*out != 0) == (part.op == "or") ? out : value_of(part.operands.at(1), sizes);
  for (size_t i = 1; i < part.operands.size(); ++i) {
    const Number next = value_of(part.operands[i], sizes);
    if (!next) return next;
    out = combined(part.op, *out, *next);
    if (!out) return out;
  }
  return out;
}

bool given(const Part& part, const SizeGuard::Sizes& sizes) {
  if (part.op == "size") return sizes.count(part.input) != 0;
  return std::all_of(part.operands.begin(), part.operands.end(), [&](const Part& p) { return given(p, sizes); });
}

/// "x.size(1)" of "L['x'].size()[1]".
std::string readable(std::string_view text) {
  std::string out;
  for (size_t i = 0; i < text.size() && out.size() < kLongestShown; ++i) {
    const std::string_view rest = text.substr(i);
    if (rest.starts_with("L['")) i += 2;
    else if (rest.starts_with("'].size()[")) out += ".size(", i += 9;
    else if (rest.starts_with("']['")) out += ".", i += 3;
    else out += text[i] == ']' ? ')' : text[i];
  }
  return out.size() < kLongestShown ? out : out + "...";
}

}  // namespace

SizeGuard SizeGuard::parse(const std::string& where, std::string_view text) {
  SizeGuard out;
  out.root_ = std::make_shared<const Part>(GuardParser(where, text).whole());
  out.shown_ = readable(text);
  return out;
}

bool SizeGuard::holds(const Sizes& sizes) const {
  return !given(*root_, sizes) || value_of(*root_, sizes).value_or(0) != 0;
}

}  // namespace deeplora
