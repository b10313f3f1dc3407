// A folder for files that nobody needs afterwards.
#pragma once

#include <cstdlib>
#include <filesystem>
#include <string>

#include "core/error.h"

namespace deeplora {

/// A new folder, by default among the system's temporary ones, removed with all it holds when the object dies.
class ScratchFolder {
 public:
  /// Throws Error when the system refuses.
  explicit ScratchFolder(const std::string& name,
                         const std::filesystem::path& parent = std::filesystem::temp_directory_path()) {
    std::string pattern = (parent / ("deeplora-" + name + "-XXXXXX")).string();
    check(::mkdtemp(pattern.data()) != nullptr, "cannot create a folder in ", parent.string());
    path_ = pattern;
  }
  ~ScratchFolder() {
    std::error_code ignored;
    std::filesystem::remove_all(path_, ignored);
  }
  ScratchFolder(const ScratchFolder&) = delete;
  ScratchFolder& operator=(const ScratchFolder&) = delete;
  const std::filesystem::path& path() const { return path_; }

 private:
  std::filesystem::path path_;
};

}  // namespace deeplora
