// Errors of the user: wrong input, configuration, files. Everything else stays a LibTorch or standard exception.
#pragma once

#include <algorithm>
#include <sstream>
#include <stdexcept>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// Concatenates its arguments as an ostream prints them.
template <class... Parts>
std::string cat(const Parts&... parts) {
  std::ostringstream out;
  (out << ... << parts);
  return out.str();
}

/// A user's mistake. what() is one line that says what is wrong, where, what was expected and found, and a hint.
/// Programs print it after "error: " and leave with exit code 1.
class Error : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Training left the finite numbers: an Error that a comparison of learning rates expects.
class Diverged : public Error {
 public:
  using Error::Error;
};

/// The run was interrupted by a signal after its state was saved; programs leave with exit code 130.
class Interrupted : public std::runtime_error {
 public:
  using std::runtime_error::runtime_error;
};

/// Throws Error with the concatenated message.
template <class... Parts>
[[noreturn]] void fail(const Parts&... parts) {
  throw Error(cat(parts...));
}

/// Throws Error with the concatenated message unless `condition` holds. For the user's mistakes only.
template <class... Parts>
void check(bool condition, const Parts&... parts) {
  if (!condition) fail(parts...);
}

/// "a, b, c", cut after `most` entries with the number left out.
template <class Range>
std::string join(const Range& items, std::string_view separator = ", ", size_t most = 24) {
  std::ostringstream out;
  size_t count = 0;
  for (const auto& item : items) {
    if (count < most) out << (count ? separator : std::string_view{}) << item;
    ++count;
  }
  if (count > most) out << separator << "... (" << count - most << " more)";
  return out.str();
}

/// Collects every mismatch so that the user sees all of them at once.
class Errors {
 public:
  template <class... Parts>
  void add(const Parts&... parts) {
    items_.push_back(cat(parts...));
  }
  bool empty() const { return items_.empty(); }
  size_t size() const { return items_.size(); }
  /// Throws one Error "prefix: first; second; ..." if anything was added.
  void throw_if_any(std::string_view prefix = {}) const {
    if (items_.empty()) return;
    throw Error(cat(prefix, prefix.empty() ? "" : ": ", join(items_, "; ", 12)));
  }

 private:
  std::vector<std::string> items_;
};

/// The entry of `known` with the smallest edit distance to `word`, or "" when none is near (more than a third off).
std::string nearest(std::string_view word, const std::vector<std::string>& known);

/// " (did you mean 'x'?)" or "".
std::string did_you_mean(std::string_view word, const std::vector<std::string>& known);

}  // namespace deeplora
