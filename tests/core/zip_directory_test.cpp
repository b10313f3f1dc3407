// Oracle: archives put together by hand, field by field of PKWARE's APPNOTE.
#include "core/zip_directory.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {

std::string number(uint64_t value, size_t width) {
  std::string out;
  for (size_t i = 0; i < width; ++i, value >>= 8) out += static_cast<char>(value);
  return out;
}

struct Part {
  std::string name, data;
  uint64_t method = 0, flags = 0;
  uint64_t claimed = 0;      ///< size when unpacked; 0: that of data
  uint64_t shift = 0;        ///< added to the offset in the directory
  uint64_t stored_more = 0;  ///< added to the stored size in the directory
};

/// A zip archive of these files; `wide`: with the 64-bit records that LibTorch writes.
std::string zip_of(const std::vector<Part>& parts, bool wide = false) {
  std::string out, directory;
  for (const auto& part : parts) {
    const uint64_t size = part.claimed ? part.claimed : part.data.size(), offset = out.size() + part.shift,
                   stored = part.data.size() + part.stored_more;
    out += number(0x04034b50, 4) + number(0, 14) + number(part.data.size(), 4) + number(size, 4) +
           number(part.name.size(), 2) + number(0, 2) + part.name + part.data;
    const std::string extra =
        wide ? number(1, 2) + number(24, 2) + number(size, 8) + number(stored, 8) + number(offset, 8) : "";
    directory += number(0x02014b50, 4) + number(0, 4) + number(part.flags, 2) + number(part.method, 2) + number(0, 8) +
                 number(wide ? 0xffffffff : stored, 4) + number(wide ? 0xffffffff : size, 4) +
                 number(part.name.size(), 2) + number(extra.size(), 2) + number(0, 10) +
                 number(wide ? 0xffffffff : offset, 4) + part.name + extra;
  }
  const size_t begin = out.size(), count = parts.size();
  out += directory;
  if (wide) {
    const size_t end = out.size();
    out += number(0x06064b50, 4) + number(44, 8) + number(0, 12) + number(count, 8) + number(count, 8) +
           number(directory.size(), 8) + number(begin, 8);
    out += number(0x07064b50, 4) + number(0, 4) + number(end, 8) + number(1, 4);
    return out + number(0x06054b50, 4) + number(0, 4) + number(0xffff, 2) + number(0xffff, 2) + number(0xffffffff, 4) +
           number(0xffffffff, 4) + number(0, 2);
  }
  return out + number(0x06054b50, 4) + number(0, 4) + number(count, 2) + number(count, 2) +
         number(directory.size(), 4) + number(begin, 4) + number(0, 2);
}

class ZipDirectoryTest : public ::testing::Test {
 protected:
  std::vector<ZipEntry> read(const std::string& bytes) const {
    return read_zip_directory(folder_.write("a.zip", bytes), "model");
  }
  std::string error(const std::string& bytes) const {
    try {
      read(bytes);
    } catch (const Error& e) {
      return folder_.without_path(e.what());
    }
    return "no error";
  }
  const testing::TempFolder folder_;
};

TEST_F(ZipDirectoryTest, ListsEveryEntry) {
  for (const bool wide : {false, true}) {
    const auto entries = read(zip_of(
        {{.name = "m/data.pkl", .data = "abc"}, {.name = "m/extra/x..y", .data = "pack", .method = 8, .claimed = 900}},
        wide));
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[0].name, "m/data.pkl");
    EXPECT_EQ(entries[0].size, 3u);
    EXPECT_EQ(entries[1].size, 900u);
    EXPECT_EQ(entries[1].stored, 4u);
    EXPECT_EQ(entries[1].offset, 30u + 10 + 3);
  }
}

TEST_F(ZipDirectoryTest, AnArchiveInAnArchive) {
  for (const bool wide : {false, true}) {
    const std::string inner =
        zip_of({{.name = "m/data.pkl", .data = "abc"}, {.name = "m/data/0", .data = "pack"}}, wide);
    const std::string outer = zip_of({{.name = "m/a", .data = "aa"}, {.name = "m/x.pt", .data = inner}}, wide);
    const auto file = folder_.write("b.zip", outer);
    const uint64_t begin = outer.find(inner);
    const auto entries = read_zip_directory(file, "model", {begin, inner.size()});
    ASSERT_EQ(entries.size(), 2u);
    EXPECT_EQ(entries[1].name, "m/data/0");
    const uint64_t data = begin + data_begin(entries[1], std::string_view(outer).substr(begin + entries[1].offset, 30));
    EXPECT_EQ(outer.substr(data, 4), "pack");
    EXPECT_THROW(read_zip_directory(file, "model", {begin, inner.size() - 1}), Error);
    EXPECT_THROW(read_zip_directory(file, "model", {begin, outer.size()}), Error);
  }
}

TEST_F(ZipDirectoryTest, NamesThatLeaveTheirFolderAreErrors) {
  for (const char* name : {"../x", "m/../../x", "m/..", "/etc/x", "m\\..\\x", ""})
    EXPECT_NE(error(zip_of({{.name = name, .data = "x"}})).find("could leave its folder"), std::string::npos) << name;
  EXPECT_NE(error(zip_of({{.name = std::string("a\0b", 3), .data = "x"}})), "no error");
  EXPECT_NE(error(zip_of({{.name = "m/x", .data = "x"}, {.name = "m/x", .data = "x"}})).find("twice"),
            std::string::npos);
}

TEST_F(ZipDirectoryTest, SizesAndPlacesThatCannotBeAreErrors) {
  for (const bool wide : {false, true}) {
    const auto fault = [&](Part part) { return error(zip_of({std::move(part), {.name = "m/z", .data = "zz"}}, wide)); };
    EXPECT_NE(fault({.name = "m/a", .data = "abc", .claimed = 4}).find("claims 4 bytes"), std::string::npos);
    EXPECT_NE(fault({.name = "m/a", .data = "abc", .method = 8, .claimed = 1000000}).find("cannot unpack to"),
              std::string::npos);
    EXPECT_NE(fault({.name = "m/a", .data = "abc", .stored_more = 100000}).find("claims 100003 bytes"),
              std::string::npos);
    EXPECT_NE(fault({.name = "m/a", .data = "abc", .claimed = 30, .stored_more = 27}).find("over another entry"),
              std::string::npos);
    EXPECT_NE(fault({.name = "m/a", .data = "abc", .shift = 2000}).find("outside the file"), std::string::npos);
  }
  EXPECT_NE(error(zip_of({{.name = "m/a", .data = "abc", .method = 12}})).find("packed by method 12"),
            std::string::npos);
  EXPECT_NE(error(zip_of({{.name = "m/a", .data = "abc", .flags = 1}})).find("encrypted"), std::string::npos);
}

TEST_F(ZipDirectoryTest, NoPrefixIsAccepted) {
  for (const bool wide : {false, true}) {
    const std::string whole = zip_of({{.name = "m/a", .data = "abc"}, {.name = "m/b", .data = "abcdef"}}, wide);
    EXPECT_EQ(error(whole), "no error");
    for (size_t size = 0; size < whole.size(); ++size)
      EXPECT_NE(error(whole.substr(0, size)).find("truncated or damaged"), std::string::npos) << size;
  }
}

}  // namespace
}  // namespace deeplora
