#include "interchange/module_pattern.h"

#include <algorithm>
#include <cctype>

#include "core/error.h"

namespace deeplora {
namespace {

constexpr size_t kLongestPattern = 2000, kLongestName = 1000;  // the compiler of patterns is recursive

#ifdef __GLIBCXX__
constexpr auto kFlags =
    std::regex::ECMAScript | std::regex_constants::__polynomial;  // no pattern of a stranger takes forever
#else
constexpr auto kFlags = std::regex::ECMAScript;
#endif

bool is_plain(const std::string& pattern) {
  return std::all_of(pattern.begin(), pattern.end(),
                     [](unsigned char c) { return std::isalnum(c) || c == '_' || c == '-' || c == '.'; });
}

/// `name` from `begin` on starts with the plain pattern.
bool plain_at(const std::string& pattern, const std::string& name, size_t begin) {
  if (begin + pattern.size() > name.size()) return false;
  for (size_t i = 0; i < pattern.size(); ++i)
    if (pattern[i] != '.' && pattern[i] != name[begin + i]) return false;
  return true;
}

}  // namespace

ModulePattern::ModulePattern(const std::string& pattern, const std::string& where) {
  check(pattern.size() <= kLongestPattern, where, ": a regular expression of ", pattern.size(), " characters; at most ",
        kLongestPattern, " are read");
  if (is_plain(pattern)) {
    plain_ = pattern;
    return;
  }
  const bool other = pattern.find("[]") != std::string::npos || pattern.find("[^]") != std::string::npos;
  try {
    check(!other, where, ": '", pattern,
          "' has a character class that begins with ], which is not read here; name the modules");
    whole_.emplace(pattern, kFlags);
    end_.emplace("(.*\\.)?(" + pattern + ")", kFlags);
    part_.emplace("(^|.*\\.)" + pattern + "($|\\..*)", kFlags);
  } catch (const std::regex_error& e) {
    fail(where, ": '", pattern, "' is no regular expression that is read here (", e.what(), "); name the modules");
  }
}

bool ModulePattern::is_whole(const std::string& name) const {
  if (name.size() > kLongestName) return false;
  return whole_ ? std::regex_match(name, *whole_) : name.size() == plain_.size() && plain_at(plain_, name, 0);
}

bool ModulePattern::is_end(const std::string& name) const {
  if (name.size() > kLongestName) return false;
  if (end_) return std::regex_match(name, *end_);
  if (name.size() < plain_.size()) return false;
  const size_t begin = name.size() - plain_.size();
  return plain_at(plain_, name, begin) && (begin == 0 || name[begin - 1] == '.');
}

bool ModulePattern::is_part(const std::string& name) const {
  if (name.size() > kLongestName) return false;
  if (part_)
    return std::regex_search(
        name, *part_, std::regex_constants::match_continuous);  // an | in the pattern splits all of it, as in PEFT
  for (size_t begin = 0; begin + plain_.size() <= name.size(); ++begin) {
    const size_t end = begin + plain_.size();
    if ((begin == 0 || name[begin - 1] == '.') && (end == name.size() || name[end] == '.') &&
        plain_at(plain_, name, begin))
      return true;
  }
  return false;
}

}  // namespace deeplora
