// What was found out about large files, remembered for as long as they do not change.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace deeplora {

/// From here on findings are kept in `folder`, which need not exist; before, and for an empty path, none are. With
/// `recompute` those that are there are not read, only written anew.
void keep_findings(std::filesystem::path folder, bool recompute = false);

/// $XDG_CACHE_HOME/deeplora, else $HOME/.cache/deeplora; empty where neither names a folder.
std::filesystem::path user_cache_folder();

/// Something found out about files as they are when the object is made: a text. Files are told by their paths, devices,
/// inodes, sizes and times, and by this machine's name, not by their content. A folder that cannot be read or written,
/// or holds something else, is as good as none.
class Findings {
 public:
  /// `kind` says what is found and how: another way to find it is another kind.
  Findings(std::string kind, std::vector<std::filesystem::path> files);

  /// What was remembered of these files; nothing where they changed since.
  std::optional<std::string> known() const;
  /// Remembers it, unless the files changed since the object was made, or just before it: a file that is written twice
  /// within the resolution of its times looks unchanged.
  void remember(const std::string& found) const;

 private:
  std::filesystem::path place() const;
  std::string kind_;
  std::vector<std::filesystem::path> files_;
  std::string state_;  ///< of the files; empty where one cannot be looked at
};

}  // namespace deeplora
