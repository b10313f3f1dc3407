// A folder for the files of a test.
#pragma once

#include <fstream>

#include "core/scratch_folder.h"

namespace deeplora::testing {

/// A folder that is removed when the object dies.
class TempFolder : public ScratchFolder {
 public:
  explicit TempFolder(const std::filesystem::path& parent = std::filesystem::temp_directory_path())
      : ScratchFolder("test", parent) {}
  std::filesystem::path operator/(const std::string& name) const { return path() / name; }

  std::filesystem::path write(const std::string& name, const std::string& content) const {
    std::ofstream(path() / name, std::ios::binary) << content;
    return path() / name;
  }
  /// `message` without the path of the folder.
  std::string without_path(std::string message) const {
    const std::string prefix = path().string() + "/";
    for (size_t at = message.find(prefix); at != std::string::npos; at = message.find(prefix))
      message.erase(at, prefix.size());
    return message;
  }
};

}  // namespace deeplora::testing
