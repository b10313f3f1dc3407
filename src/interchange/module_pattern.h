// Names of modules matched as Python's `re` matches them, in the ways in which PEFT asks.
#pragma once

#include <optional>
#include <regex>
#include <string>

namespace deeplora {

/// A regular expression over names of modules, in time that grows with its length times the name's. What the two
/// dialects read differently, or this one does not know (look-behind, named groups, back-references), is an Error,
/// never another meaning.
class ModulePattern {
 public:
  /// `where` names the key in errors.
  ModulePattern(const std::string& pattern, const std::string& where);

  bool is_whole(const std::string& name) const;  ///< re.fullmatch(pattern, name)
  bool is_end(const std::string& name)
      const;  ///< re.match(rf"(.*\.)?({pattern})$", name): all of it, or what stands behind some dot
  bool is_part(
      const std::string& name) const;  ///< re.match(rf"(^|.*\.){pattern}($|\..*)", name): some run of whole parts

 private:
  std::string plain_;  ///< the pattern where nothing in it is special but "."
  std::optional<std::regex> whole_, end_, part_;
};

}  // namespace deeplora
