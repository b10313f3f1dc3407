#include "core/files.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include <fstream>
#include <string>
#include <thread>

#include "support/errors.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {

using testing::error_of;
using testing::TempFolder;
namespace fs = std::filesystem;

mode_t mode_of(const fs::path& file) {
  struct stat found = {};
  return ::lstat(file.c_str(), &found) == 0 ? found.st_mode : 0;
}

size_t entries_of(const fs::path& folder) {
  return static_cast<size_t>(std::distance(fs::directory_iterator(folder), fs::directory_iterator()));
}

/// Both kinds of writer: content, and a function that fills a path.
void write_both_ways(const fs::path& file, const std::string& content, const std::function<void()>& verify) {
  write_file_atomically(file, content);
  verify();
  write_file_atomically(file,
                        [&](const fs::path& temporary) { std::ofstream(temporary, std::ios::binary) << content; });
  verify();
}

TEST(FilesTest, AFileThatIsThereKeepsItsModeAndIsNeverMoreOpenWhileItIsWritten) {
  const TempFolder folder;
  for (const mode_t mode : {0600, 0640, 0664, 0400}) {
    const fs::path file = folder.write("file", "old");
    ASSERT_EQ(::chmod(file.c_str(), mode), 0);
    write_both_ways(file, "new", [&] {
      EXPECT_EQ(mode_of(file), S_IFREG | mode);
      if (::access(file.c_str(), R_OK) == 0) {
        EXPECT_EQ(read_file(file), "new");
      }
    });
    write_file_atomically(file, [&](const fs::path& temporary) {
      EXPECT_EQ(mode_of(temporary) & 077 & ~mode, 0u);
      std::ofstream(temporary) << "more";
    });
    EXPECT_EQ(entries_of(folder.path()), 1u);
  }
}

TEST(FilesTest, LinksAreFollowedAlsoWhereNothingIsYet) {
  const TempFolder folder;
  fs::create_directory(folder / "far");
  folder.write("far/file", "old");
  fs::create_symlink("far/file", folder / "one");
  fs::create_symlink("one", folder / "two");
  fs::create_symlink(folder / "far/new", folder / "dangling");
  write_both_ways(folder / "two", "new", [&] {
    EXPECT_EQ(read_file(folder / "far/file"), "new");
    EXPECT_TRUE(fs::is_symlink(folder / "two") && fs::is_symlink(folder / "one"));
  });
  write_both_ways(folder / "dangling", "first", [&] { EXPECT_EQ(read_file(folder / "far/new"), "first"); });
  EXPECT_TRUE(fs::is_symlink(folder / "dangling"));
  EXPECT_EQ(entries_of(folder / "far"), 2u);
  fs::create_symlink("loop", folder / "loop");
  EXPECT_NE(error_of([&] { write_file_atomically(folder / "loop", "x"); }).find("loop"), std::string::npos);
  fs::create_symlink("far/folder", folder / "to-folder");
  write_folder_atomically(folder / "to-folder", [](const fs::path& into) { std::ofstream(into / "x") << "x"; });
  EXPECT_TRUE(fs::exists(folder / "far/folder/x"));
}

TEST(FilesTest, APipeGetsTheBytesAndStaysAPipe) {
  const TempFolder folder;
  const fs::path pipe = folder / "pipe";
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  const std::string content(200'000, 'x');  // more than a pipe holds at once
  for (const bool by_path : {false, true}) {
    std::string read;
    std::thread reader([&] {
      std::ifstream in(pipe, std::ios::binary);
      read.assign(std::istreambuf_iterator<char>(in), {});
    });
    if (by_path)
      write_file_atomically(pipe,
                            [&](const fs::path& temporary) { std::ofstream(temporary, std::ios::binary) << content; });
    else write_file_atomically(pipe, content);
    reader.join();
    EXPECT_EQ(read, content);
    EXPECT_TRUE(S_ISFIFO(mode_of(pipe)));
  }
  EXPECT_EQ(entries_of(folder.path()), 1u);
}

TEST(FilesTest, ADeviceStaysADevice) {
  const TempFolder folder;
  const fs::path null = folder / "null", full = folder / "full";
  if (::mknod(null.c_str(), S_IFCHR | 0600, makedev(1, 3)) != 0 ||
      ::mknod(full.c_str(), S_IFCHR | 0600, makedev(1, 7)) != 0)
    GTEST_SKIP() << "only root may make devices, and not everywhere";
  const int opened = ::open(null.c_str(), O_WRONLY | O_CLOEXEC);
  if (opened < 0) GTEST_SKIP() << "no devices in this folder";
  ::close(opened);
  write_both_ways(null, "gone", [&] { EXPECT_EQ(mode_of(null), static_cast<mode_t>(S_IFCHR | 0600)); });
  EXPECT_NE(error_of([&] { write_file_atomically(full, "x"); }).find("No space left on device"), std::string::npos);
  EXPECT_EQ(entries_of(folder.path()), 2u);
}

TEST(FilesTest, NamesOfOpenDescriptorsAreWrittenWhereTheyStand) {
  const TempFolder folder;
  const fs::path file = folder.write("file", "");
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CLOEXEC);
  ASSERT_GE(descriptor, 0);
  write_all(descriptor, "before ", file);
  write_file_atomically(cat("/dev/fd/", descriptor), "one ");
  fs::create_symlink(cat("/proc/self/fd/", descriptor), folder / "link");
  write_file_atomically(folder / "link", "two");
  ::close(descriptor);
  EXPECT_EQ(read_file(file), "before one two");
  EXPECT_NE(error_of([&] { write_file_atomically(cat("/dev/fd/", descriptor), "x"); }).find("cannot write /dev/fd/"),
            std::string::npos);
}

TEST(FilesTest, FoldersAndFailedWritersLeaveEverythingAsItWas) {
  const TempFolder folder;
  fs::create_directory(folder / "folder");
  EXPECT_NE(error_of([&] { write_file_atomically(folder / "folder", "x"); }).find("Is a directory"), std::string::npos);
  const fs::path file = folder.write("file", "old");
  EXPECT_EQ(error_of([&] { write_file_atomically(file, [](const fs::path&) { fail("no"); }); }), "no");
  EXPECT_EQ(read_file(file), "old");
  EXPECT_EQ(entries_of(folder.path()), 2u);
}

TEST(FilesTest, ALockNamesItsHolderOnlyWhileItIsHeld) {
  const TempFolder folder;
  {
    const FolderLock lock(folder.path());
    EXPECT_EQ(read_file(folder / ".lock"), cat(::getpid(), "\n"));
    EXPECT_NE(error_of([&] { const FolderLock second(folder.path()); }).find(cat("(pid ", ::getpid(), ")")),
              std::string::npos);
  }
  EXPECT_EQ(read_file(folder / ".lock"), "");
}

}  // namespace
}  // namespace deeplora
