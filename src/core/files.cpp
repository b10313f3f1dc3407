#include "core/files.h"

#include <fcntl.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <iostream>
#include <optional>
#include <utility>
#include <vector>

#include "core/leftovers.h"
#include "core/scratch_folder.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

fs::path temporary_beside(const fs::path& target) {
  static std::atomic<uint64_t> counter{0};
  return target.parent_path() / cat(".", target.filename().string(), ".tmp-", ::getpid(), "-", counter++);
}

fs::path parent_of(const fs::path& path) { return path.has_parent_path() ? path.parent_path() : fs::path("."); }

/// What changes when a file is replaced or written; "" for a file that is not there.
std::string appearance(const fs::path& file) {
  struct stat s = {};
  if (::stat(file.c_str(), &s) != 0) return "";
  return cat(s.st_dev, " ", s.st_ino, " ", s.st_size, " ", s.st_mtim.tv_sec, ".", s.st_mtim.tv_nsec);
}

/// Digits at the start of an open file, "" when there are none.
std::string first_number(int descriptor) {
  char text[24] = {};
  if (::pread(descriptor, text, sizeof(text) - 1, 0) <= 0) return "";
  const std::string_view all(text);
  return std::string(all.substr(0, all.find_first_not_of("0123456789")));
}

/// An open file; closed with the object, or by close(), which says when the disk refuses.
struct Descriptor {
  Descriptor(int opened, const fs::path& file) : number(opened) {
    check(opened >= 0, "cannot write ", file.string(), ": ", std::strerror(errno));
  }
  ~Descriptor() {
    if (number >= 0) ::close(number);
  }
  Descriptor(const Descriptor&) = delete;
  Descriptor& operator=(const Descriptor&) = delete;
  void close(const fs::path& file) {
    check(::close(std::exchange(number, -1)) == 0, "cannot write ", file.string(), ": ", std::strerror(errno));
  }
  int number;
};

/// Where the bytes for a path go: its links followed, and what is there.
struct Target {
  fs::path place;
  std::optional<struct stat> there;
  int descriptor = -1;  ///< of this process, which /dev/stdout and /dev/fd/N are other names of

  /// A device, a pipe, a socket: nothing that a new file could take the place of.
  bool takes_bytes_as_they_come() const {
    return descriptor >= 0 || (there && !S_ISREG(there->st_mode) && !S_ISDIR(there->st_mode));
  }
};

/// The open descriptor that a path is another name of, else -1. Opening the path would start a file on standard output
/// anew.
int own_descriptor(const fs::path& file) {
  const std::string name = fs::absolute(file).lexically_normal().string();
  if (name == "/dev/stdout") return STDOUT_FILENO;
  if (name == "/dev/stderr") return STDERR_FILENO;
  for (const std::string& folder :
       {std::string("/dev/fd/"), std::string("/proc/self/fd/"), cat("/proc/", ::getpid(), "/fd/")}) {
    if (!name.starts_with(folder)) continue;
    const std::string digits = name.substr(folder.size());
    if (!digits.empty() && digits.size() < 8 && digits.find_first_not_of("0123456789") == std::string::npos)
      return std::stoi(digits);
  }
  return -1;
}

Target target_of(const fs::path& file) {
  constexpr int kMostLinks = 40;
  Target target{file, std::nullopt};
  for (int links = 0; links < kMostLinks; ++links) {
    target.descriptor = own_descriptor(target.place);
    struct stat found = {};
    if (target.descriptor >= 0 || ::lstat(target.place.c_str(), &found) != 0) return target;
    if (!S_ISLNK(found.st_mode)) {
      target.there = found;
      return target;
    }
    std::error_code failed;
    const fs::path next = fs::read_symlink(target.place, failed);
    check(!failed, "cannot write ", file.string(), ": ", failed.message());
    target.place = parent_of(target.place) / next;
  }
  fail("cannot write ", file.string(), ": ", std::strerror(ELOOP));
}

/// Writes into what is there, a device or a pipe.
void pass_on(const Target& target, const fs::path& file, std::string_view content) {
  if (target.descriptor >= 0) {
    std::cout.flush();  // what was printed before comes first
    return write_all(target.descriptor, content, file);
  }
  Descriptor descriptor(::open(target.place.c_str(), O_WRONLY | O_CLOEXEC | O_NOCTTY), file);
  write_all(descriptor.number, content, file);
  descriptor.close(file);
}

void rename_into_place(const fs::path& from, const fs::path& to) {
  std::error_code failed;
  fs::rename(from, to, failed);
  check(!failed, "cannot write ", to.string(), ": ", failed.message());
  // Two hard links to one file: rename() says done and keeps both names.
  fs::remove(from, failed);
  sync_path(parent_of(to));
}

/// Fills a file beside the target and renames it over. A file that is there hands on its mode, and its owner where that
/// is allowed; the new one is never open to more people than the old one, not even while it is written.
void replace(const Target& target, const fs::path& file, const std::function<void(const fs::path&)>& write) {
  check(!target.there || !S_ISDIR(target.there->st_mode), "cannot write ", file.string(), ": ", std::strerror(EISDIR));
  const fs::path temporary = temporary_beside(target.place);
  try {
    const mode_t mode = target.there ? target.there->st_mode & 07777 : 0;
    if (target.there)
      Descriptor(::open(temporary.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, mode | S_IWUSR), file).close(file);
    write(temporary);
    if (target.there) {
      [[maybe_unused]] const int not_ours = ::chown(temporary.c_str(), target.there->st_uid, target.there->st_gid);
      check(::chmod(temporary.c_str(), mode) == 0, "cannot write ", file.string(), ": ", std::strerror(errno));
    }
    sync_path(temporary);
    rename_into_place(temporary, target.place);
  } catch (...) {
    std::error_code ignored;
    fs::remove(temporary, ignored);
    throw;
  }
}

}  // namespace

void write_all(int descriptor, std::string_view content, const fs::path& file) {
  while (!content.empty()) {
    const ssize_t written = ::write(descriptor, content.data(), content.size());
    if (written < 0 && errno == EINTR) continue;
    check(written > 0, "cannot write ", file.string(), ": ", std::strerror(written < 0 ? errno : ENOSPC));
    content.remove_prefix(static_cast<size_t>(written));
  }
}

std::string read_file(const fs::path& file, std::string_view what) {
  std::error_code ignored;
  check(fs::exists(file, ignored), what, " ", file.string(), " does not exist");
  check(!fs::is_directory(file, ignored), what, " ", file.string(), " is a folder; expected a file");
  const UnchangedFile same(file);
  std::ifstream in(file, std::ios::binary);
  check(in.good(), what, " ", file.string(), " cannot be read: ", std::strerror(errno));
  std::string content((std::istreambuf_iterator<char>(in)), std::istreambuf_iterator<char>());
  check(!in.bad(), what, " ", file.string(), " cannot be read to its end");
  same.verify(what);
  return content;
}

void sync_path(const fs::path& path) {
  const int descriptor = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
  check(descriptor >= 0, "cannot open ", path.string(), ": ", std::strerror(errno));
  const int result = ::fsync(descriptor);
  const int reason = errno;
  ::close(descriptor);
  // Some file systems refuse fsync on a folder; only a real input/output error counts.
  check(result == 0 || reason == EINVAL || reason == EROFS, "cannot write ", path.string(), ": ",
        std::strerror(reason));
}

void write_file_atomically(const fs::path& file, const std::function<void(const fs::path&)>& write) {
  const Target target = target_of(file);
  if (!target.takes_bytes_as_they_come()) return replace(target, file, write);
  const ScratchFolder scratch("output");
  const fs::path whole = scratch.path() / "whole";
  write(whole);
  pass_on(target, file, read_file(whole));
}

void write_file_atomically(const fs::path& file, std::string_view content) {
  const Target target = target_of(file);
  if (target.takes_bytes_as_they_come()) return pass_on(target, file, content);
  replace(target, file, [&](const fs::path& temporary) {
    const int begin = target.there ? O_TRUNC : O_CREAT | O_EXCL;
    Descriptor descriptor(::open(temporary.c_str(), O_WRONLY | O_CLOEXEC | O_NOFOLLOW | begin, 0666), file);
    write_all(descriptor.number, content, file);
    descriptor.close(file);
  });
}

void write_folder_atomically(const fs::path& folder, const std::function<void(const fs::path&)>& fill) {
  const fs::path place = target_of(folder).place, temporary = temporary_beside(place);
  try {
    std::error_code failed;
    fs::create_directories(temporary, failed);
    check(!failed, "cannot create ", folder.string(), ": ", failed.message());
    fill(temporary);
    for (const auto& entry : fs::directory_iterator(temporary)) sync_path(entry.path());
    rename_into_place(temporary, place);
  } catch (...) {
    std::error_code ignored;
    fs::remove_all(temporary, ignored);
    throw;
  }
}

bool is_valid_utf8(std::string_view text) {
  size_t i = 0;
  while (i < text.size()) {
    const auto lead = static_cast<unsigned char>(text[i]);
    if (lead < 0x80) {
      ++i;
      continue;
    }
    const size_t length = (lead >> 5) == 0x6 ? 2 : (lead >> 4) == 0xE ? 3 : (lead >> 3) == 0x1E ? 4 : 0;
    if (length == 0 || i + length > text.size()) return false;
    uint32_t code = lead & (0x7F >> length);
    for (size_t k = 1; k < length; ++k) {
      const auto next = static_cast<unsigned char>(text[i + k]);
      if ((next >> 6) != 0x2) return false;
      code = (code << 6) | (next & 0x3F);
    }
    constexpr uint32_t kSmallest[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < kSmallest[length] || code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) return false;
    i += length;
  }
  return true;
}

bool is_leftover(const fs::path& path) {
  const std::string name = path.filename().string();
  return name.starts_with(".") && name.find(".tmp-") != std::string::npos;
}

void remove_leftovers(const fs::path& folder) {
  std::error_code ignored;
  std::vector<fs::path> leftovers;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (is_leftover(entry.path())) leftovers.push_back(entry.path());
  for (const auto& path : leftovers) fs::remove_all(path, ignored);
}

UnchangedFile::UnchangedFile(fs::path file) : file_(std::move(file)), before_(appearance(file_)) {}

void UnchangedFile::verify(std::string_view what) const {
  check(appearance(file_) == before_, what, " ", file_.string(),
        " changed while it was read; wait until it is written, then start again");
}

FolderLock::FolderLock(const fs::path& folder) {
  const fs::path file = folder / ".lock";
  descriptor_ = ::open(file.c_str(), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
  check(descriptor_ >= 0, "cannot write into ", folder.string(), ": ", std::strerror(errno));
  if (::flock(descriptor_, LOCK_EX | LOCK_NB) != 0) {
    const int reason = errno;
    const std::string holder = first_number(descriptor_);
    ::close(descriptor_);
    check(reason == EWOULDBLOCK, "cannot lock ", file.string(), ": ", std::strerror(reason));
    fail("run folder ", folder.string(), " is in use by another deeplora process",
         holder.empty() ? "" : cat(" (pid ", holder, ")"), "; wait for it or choose another --run");
  }
  // Only for the message: a disk too full for the number does not make the lock less of one.
  const std::string number = cat(::getpid(), "\n");
  if (::ftruncate(descriptor_, 0) != 0 || ::pwrite(descriptor_, number.data(), number.size(), 0) < 0) return;
}

FolderLock::~FolderLock() {
  if (descriptor_ < 0) return;
  [[maybe_unused]] const int kept = ::ftruncate(descriptor_, 0);  // the number is the holder's
  ::close(descriptor_);
}

}  // namespace deeplora
