#include "model_files/linear_size.h"

#include <algorithm>
#include <charconv>
#include <limits>

namespace deeplora {
namespace {

constexpr size_t kDeepest = 16;

bool small(int64_t number) {
  return number >= std::numeric_limits<int32_t>::min() && number <= std::numeric_limits<int32_t>::max();
}

bool in_names(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'; }

std::optional<LinearSize> sum(const LinearSize& a, const LinearSize& b) {
  if (!a.symbol.empty() && !b.symbol.empty() && a.symbol != b.symbol) return std::nullopt;
  LinearSize out{a.symbol.empty() ? b.symbol : a.symbol, a.times + b.times, a.plus + b.plus};
  return small(out.times) && small(out.plus) ? std::optional(out) : std::nullopt;
}

std::optional<LinearSize> product(const LinearSize& a, const LinearSize& b) {
  if (!a.symbol.empty() && !b.symbol.empty()) return std::nullopt;
  const LinearSize& number = a.symbol.empty() ? a : b;
  const LinearSize& other = a.symbol.empty() ? b : a;
  LinearSize out{other.symbol, other.times * number.plus, other.plus * number.plus};
  return small(out.times) && small(out.plus) ? std::optional(out) : std::nullopt;
}

/// Reads Name(part, part, key=value).
class SizeReader {
 public:
  explicit SizeReader(std::string_view text) : text_(text) {}

  std::optional<LinearSize> whole() {
    auto out = expression(0);
    return at_ == text_.size() ? out : std::nullopt;
  }

 private:
  std::optional<LinearSize> expression(size_t depth) {
    const std::string_view name = word();
    if (depth > kDeepest || name.empty()) return std::nullopt;
    if (!take('(')) return depth == 0 ? std::optional(LinearSize{std::string(name), 1, 0}) : std::nullopt;
    if (name == "Integer") return integer();
    if (name == "Symbol") return symbol();
    if (name != "Add" && name != "Mul") return std::nullopt;
    auto out = expression(depth + 1);
    while (out && take(',')) {
      const auto next = expression(depth + 1);
      out = !next ? std::nullopt : name == "Add" ? sum(*out, *next) : product(*out, *next);
    }
    return take(')') ? out : std::nullopt;
  }

  std::optional<LinearSize> integer() {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text_.data() + at_, text_.data() + text_.size(), value);
    if (error != std::errc() || !small(value)) return std::nullopt;
    at_ = static_cast<size_t>(end - text_.data());
    return take(')') ? std::optional(LinearSize{"", 0, value}) : std::nullopt;
  }

  /// 's7', positive=True, integer=True)
  std::optional<LinearSize> symbol() {
    if (!take('\'')) return std::nullopt;
    const std::string name(word());
    const size_t end = text_.find(')', at_);
    if (name.empty() || !take('\'') || end == std::string_view::npos) return std::nullopt;
    at_ = end + 1;
    return LinearSize{name, 1, 0};
  }

  std::string_view word() {
    while (at_ < text_.size() && text_[at_] == ' ') ++at_;
    const size_t begin = at_;
    while (at_ < text_.size() && in_names(text_[at_])) ++at_;
    return text_.substr(begin, at_ - begin);
  }

  bool take(char c) {
    const bool there = at_ < text_.size() && text_[at_] == c;
    at_ += there ? 1 : 0;
    return there;
  }

  std::string_view text_;
  size_t at_ = 0;
};

}  // namespace

std::optional<LinearSize> linear_size(std::string_view text) { return SizeReader(text).whole(); }

}  // namespace deeplora
