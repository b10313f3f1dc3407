// Files written so that a reader never meets a half-written one, and the lock of a run folder.
#pragma once

#include <filesystem>
#include <functional>
#include <string>
#include <string_view>

#include "core/error.h"

namespace deeplora {

/// The whole file. Throws Error when it is missing, a folder or unreadable; `what` names it in the message
/// ("data.train").
std::string read_file(const std::filesystem::path& file, std::string_view what = "file");

/// Writes through a temporary file beside `file`, fsync and rename: afterwards `file` is old or new, never half. Links
/// are followed, and a file that is there keeps its mode (and owner, where the system allows it). What is no file is
/// written into: a device, a pipe, /dev/stdout, /dev/fd/N. Throws Error on a full disk or a missing permission and
/// leaves nothing behind.
void write_file_atomically(const std::filesystem::path& file, std::string_view content);

/// The same, for writers that want a path: `write` fills the temporary path it is given, where an empty file may be
/// already.
void write_file_atomically(const std::filesystem::path& file,
                           const std::function<void(const std::filesystem::path&)>& write);

/// Fills a temporary folder and renames it to `folder`, which must not exist yet. Nothing is left when `fill` throws.
void write_folder_atomically(const std::filesystem::path& folder,
                             const std::function<void(const std::filesystem::path&)>& fill);

/// Writes everything to an open descriptor, going on after interruptions. Throws Error naming `file` when the disk
/// refuses.
void write_all(int descriptor, std::string_view content, const std::filesystem::path& file);

/// Flushes a file or folder to the disk. Throws Error when the disk refuses.
void sync_path(const std::filesystem::path& path);

/// True when all of `text` is well-formed UTF-8 (no surrogates, no overlong forms).
bool is_valid_utf8(std::string_view text);

/// Notices that a file is written or replaced while it is read.
class UnchangedFile {
 public:
  /// Looks at the file's identity, size and time of change; a file that is not there is the reader's to report.
  explicit UnchangedFile(std::filesystem::path file);
  /// Throws Error "WHAT FILE changed while it was read" unless it still looks the same.
  void verify(std::string_view what) const;

 private:
  std::filesystem::path file_;
  std::string before_;
};

/// Holds FOLDER/.lock while alive, so that two programs never write one run. Released by the system when a process
/// dies; the file holds the number of the process that has it, and is empty again when that one lets go.
class FolderLock {
 public:
  /// Throws Error, naming the process, when another one holds it.
  explicit FolderLock(const std::filesystem::path& folder);
  ~FolderLock();
  FolderLock(const FolderLock&) = delete;
  FolderLock& operator=(const FolderLock&) = delete;

 private:
  int descriptor_ = -1;
};

}  // namespace deeplora
