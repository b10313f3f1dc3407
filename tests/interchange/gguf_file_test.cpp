// Oracle: the format's own description (ggml's docs/gguf.md), byte by byte; the gguf package reads whole files in
// tests/python/test_gguf.py.
#include "interchange/gguf_file.h"

#include <gtest/gtest.h>

#include <cstring>

#include "core/files.h"
#include "support/errors.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {

using testing::error_of;
using testing::TempFolder;

/// A file's bytes, taken off from the front.
class Reader {
 public:
  explicit Reader(std::string bytes) : bytes_(std::move(bytes)) {}
  template <class Number>
  Number number() {
    Number out;
    std::memcpy(&out, take(sizeof out).data(), sizeof out);
    return out;
  }
  std::string take(size_t count) {
    const std::string out = bytes_.substr(at_, count);
    EXPECT_EQ(out.size(), count);
    at_ += count;
    return out;
  }
  std::string text() { return take(number<uint64_t>()); }
  void align() { at_ = (at_ + 31) / 32 * 32; }
  size_t at() const { return at_; }
  size_t size() const { return bytes_.size(); }

 private:
  std::string bytes_;
  size_t at_ = 0;
};

TEST(GgufFileTest, HasTheBytesOfVersion3) {
  const TempFolder folder;
  const std::vector<float> a{1, 2, 3, 4, 5, 6}, b{7};
  write_gguf(folder / "x.gguf",
             {{"name", std::string("adapter")}, {"count", uint32_t{3}}, {"alpha", 1.5F}, {"flag", true}},
             {{"a", {2, 3}, a}, {"b", {1}, b}});
  Reader in(read_file(folder / "x.gguf"));
  EXPECT_EQ(in.take(4), "GGUF");
  EXPECT_EQ(in.number<uint32_t>(), 3U);
  EXPECT_EQ(in.number<uint64_t>(), 2U) << "tensors";
  EXPECT_EQ(in.number<uint64_t>(), 4U) << "settings";
  EXPECT_EQ(in.text(), "name");
  EXPECT_EQ(in.number<uint32_t>(), 8U);
  EXPECT_EQ(in.text(), "adapter");
  EXPECT_EQ(in.text(), "count");
  EXPECT_EQ(in.number<uint32_t>(), 4U);
  EXPECT_EQ(in.number<uint32_t>(), 3U);
  EXPECT_EQ(in.text(), "alpha");
  EXPECT_EQ(in.number<uint32_t>(), 6U);
  EXPECT_EQ(in.number<float>(), 1.5F);
  EXPECT_EQ(in.text(), "flag");
  EXPECT_EQ(in.number<uint32_t>(), 7U);
  EXPECT_EQ(in.number<uint8_t>(), 1U);
  EXPECT_EQ(in.text(), "a");
  EXPECT_EQ(in.number<uint32_t>(), 2U);
  EXPECT_EQ(in.number<uint64_t>(), 3U) << "the innermost size comes first";
  EXPECT_EQ(in.number<uint64_t>(), 2U);
  EXPECT_EQ(in.number<uint32_t>(), 0U) << "float32";
  EXPECT_EQ(in.number<uint64_t>(), 0U);
  EXPECT_EQ(in.text(), "b");
  EXPECT_EQ(in.number<uint32_t>(), 1U);
  EXPECT_EQ(in.number<uint64_t>(), 1U);
  EXPECT_EQ(in.number<uint32_t>(), 0U);
  EXPECT_EQ(in.number<uint64_t>(), 32U) << "the next multiple of 32 behind 24 bytes";
  in.align();
  for (const float value : a) EXPECT_EQ(in.number<float>(), value);
  in.align();
  EXPECT_EQ(in.number<float>(), 7.0F);
  in.align();
  EXPECT_EQ(in.at(), in.size());
}

TEST(GgufFileTest, AnEmptyFileIsAHeader) {
  const TempFolder folder;
  write_gguf(folder / "x.gguf", {}, {});
  EXPECT_EQ(read_file(folder / "x.gguf").substr(0, 8), std::string("GGUF\x03\0\0\0", 8));
}

TEST(GgufFileTest, WhatLlamaCppWouldRefuseIsNotWritten) {
  const TempFolder folder;
  const std::vector<float> two{1, 2};
  const std::string text = error_of([&] {
    write_gguf(folder / "x.gguf", {},
               {{"a", {2}, two}, {"a", {2}, two}, {std::string(64, 'x'), {2}, two}, {"", {2}, two}, {"c", {3}, two}});
  });
  for (const char* part : {"'a' is given twice", "1 to 63 bytes", "'c': shape [3] does not fit 2 values"})
    EXPECT_NE(text.find(part), std::string::npos) << text;
  EXPECT_FALSE(std::filesystem::exists(folder / "x.gguf"));
  EXPECT_NE(error_of([&] { write_gguf(folder / "no/x.gguf", {}, {}); }), "no error");
}

}  // namespace
}  // namespace deeplora
