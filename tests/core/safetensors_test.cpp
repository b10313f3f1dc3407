#include "core/safetensors.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <fstream>
#include <functional>

#include "core/files.h"

namespace deeplora {
namespace {
namespace fs = std::filesystem;

class SafeTensorsTest : public ::testing::Test {
 protected:
  SafeTensorsTest()
      : folder_(fs::temp_directory_path() / cat("deeplora-safetensors-", ::getpid(), "-",
                                                ::testing::UnitTest::GetInstance()->current_test_info()->name())) {
    fs::create_directories(folder_);
  }
  ~SafeTensorsTest() override { fs::remove_all(folder_); }

  fs::path file() const { return folder_ / "x.safetensors"; }

  /// Without the flush to disk that makes an atomic write slow.
  void put_bytes(const std::string& content) const { std::ofstream(file(), std::ios::binary) << content; }

  void put(const std::string& header, size_t data_bytes) const {
    const uint64_t length = header.size();
    std::string content(8, '\0');
    std::memcpy(content.data(), &length, 8);
    put_bytes(content + header + std::string(data_bytes, '\1'));
  }

  std::string reading_error() const {
    try {
      SafeTensorsFile::read(file());
    } catch (const Error& e) {
      return e.what();
    }
    return "no error";
  }

  fs::path folder_;
};

template <class T>
SafeTensorView view(std::string name, std::string dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
  return {std::move(name), std::move(dtype), std::move(shape), std::as_bytes(std::span(values))};
}

TEST_F(SafeTensorsTest, WhatIsWrittenIsReadBack) {
  const std::vector<float> weights = {1.5F, -2, 3, 4, 5, 6};
  const std::vector<int64_t> steps = {-7};
  const std::vector<uint8_t> bytes = {1, 2, 3};
  write_safetensors(
      file(),
      std::vector{view("w", "F32", {2, 3}, weights), view("b", "U8", {3}, bytes), view("step", "I64", {}, steps)},
      {{"method", "lora"}, {"note", "ä \"quoted\""}});
  SafeTensorsFile read = SafeTensorsFile::read(file());
  const SafeTensorsFile copy = read;
  read = SafeTensorsFile();  // the copy keeps the bytes
  EXPECT_EQ(copy.metadata(), (std::map<std::string, std::string>{{"method", "lora"}, {"note", "ä \"quoted\""}}));
  ASSERT_EQ(copy.tensors().size(), 3u);
  EXPECT_EQ(copy.tensors()[0].first, "step");  // widest dtype first
  EXPECT_EQ(copy.tensors()[1].first, "w");
  EXPECT_EQ(copy.tensors()[2].first, "b");
  EXPECT_EQ(copy.info("w").shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(copy.info("w").dtype, "F32");
  const auto data = copy.data("w");
  ASSERT_EQ(data.size(), 24u);
  EXPECT_EQ(std::memcmp(data.data(), weights.data(), 24), 0);
  EXPECT_EQ(reinterpret_cast<uintptr_t>(copy.data("step").data()) % 8, 0u);
  EXPECT_EQ(std::memcmp(copy.data("step").data(), steps.data(), 8), 0);
  EXPECT_FALSE(copy.contains("weights"));
}

// Oracle: the format's own description, byte by byte.
TEST_F(SafeTensorsTest, BytesOfASmallFileAreAsTheFormatSays) {
  const std::vector<uint8_t> bytes = {65, 66};
  write_safetensors(file(), std::vector{view("t", "U8", {2}, bytes)});
  const std::string header = R"({"t":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})";
  const std::string padded = header + std::string((8 - header.size() % 8) % 8, ' ');
  EXPECT_EQ(read_file(file()), std::string(1, static_cast<char>(padded.size())) + std::string(7, '\0') + padded + "AB");
}

TEST_F(SafeTensorsTest, AnUnknownNameIsAnErrorWithTheNearest) {
  const std::vector<float> one = {1};
  write_safetensors(file(), std::vector{view("layer.weight", "F32", {1}, one)});
  const SafeTensorsFile read = SafeTensorsFile::read(file());
  try {
    read.data("layer.wieght");
    FAIL() << "no error";
  } catch (const Error& e) {
    EXPECT_NE(std::string(e.what()).find("did you mean 'layer.weight'"), std::string::npos) << e.what();
  }
}

TEST_F(SafeTensorsTest, EveryMistakeOfAFileIsNamedAtOnce) {
  put(R"({"a":{"dtype":"F31","shape":[1],"data_offsets":[0,4]},"b":{"dtype":"F32","shape":[3],"data_offsets":[4,12]}})",
      12);
  const std::string message = reading_error();
  EXPECT_NE(message.find("tensor 'a': dtype \"F31\""), std::string::npos) << message;
  EXPECT_NE(message.find("tensor 'b': F32 [3] needs 12 bytes, data_offsets give 8"), std::string::npos) << message;
  EXPECT_NE(message.find(file().string()), std::string::npos) << message;
}

TEST_F(SafeTensorsTest, ATensorGivenTwiceIsAnError) {
  put(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}})",
      1);
  EXPECT_NE(reading_error().find("tensor 'a' is given twice"), std::string::npos) << reading_error();
  put(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"shape":[1]}})", 1);
  EXPECT_NE(reading_error().find("key 'shape' is given twice"), std::string::npos) << reading_error();
}

TEST_F(SafeTensorsTest, OverlapsHolesAndBytesOfNobodyAreErrors) {
  put(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
      5);
  EXPECT_NE(reading_error().find("tensor 'b' overlaps tensor 'a'"), std::string::npos) << reading_error();
  put(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[2],"data_offsets":[5,7]}})",
      8);
  EXPECT_NE(reading_error().find("1 bytes between tensor 'a' and tensor 'b'"), std::string::npos) << reading_error();
  EXPECT_NE(reading_error().find("1 bytes after tensor 'b'"), std::string::npos) << reading_error();
}

TEST_F(SafeTensorsTest, ADeepHeaderIsAnErrorAndNoRecursion) {
  put(R"({"a": {"dtype": "F32", "data_offsets": [0, 0], "shape": )" + std::string(1000000, '[') +
          std::string(1000000, ']') + "}}",
      0);
  EXPECT_NE(reading_error().find("nests deeper than"), std::string::npos);
}

TEST_F(SafeTensorsTest, SizesThatOverflowAreErrorsAndNotSmallTensors) {
  put(R"({"a":{"dtype":"F32","shape":[4611686018427387904,4],"data_offsets":[0,0]}})", 0);
  EXPECT_NE(reading_error().find("too large"), std::string::npos) << reading_error();
  put(R"({"a":{"dtype":"F32","shape":[1e400],"data_offsets":[0,0]}})", 0);
  EXPECT_NE(reading_error().find("out of range"), std::string::npos) << reading_error();
}

// Oracle: every prefix of a good file lacks something, so none may be accepted.
TEST_F(SafeTensorsTest, NoPrefixOfAFileIsAccepted) {
  const std::vector<float> values = {1, 2};
  write_safetensors(file(), std::vector{view("a", "F32", {2}, values)});
  const std::string whole = read_file(file());
  for (size_t size = 0; size < whole.size(); ++size) {
    put_bytes(whole.substr(0, size));
    EXPECT_NE(reading_error(), "no error") << size;
  }
}

// Oracle: a flipped byte either changes nothing the format constrains or is refused; memory stays sound
// (sanitizer build).
TEST_F(SafeTensorsTest, NoFlippedHeaderByteLeadsOutsideTheFile) {
  const std::vector<float> values = {1, 2}, last = {3};
  write_safetensors(file(), std::vector{view("a", "F32", {2}, values), view("b", "F32", {1, 1}, last)});
  const std::string whole = read_file(file());
  size_t refused = 0;
  for (size_t place = 0; place + 12 < whole.size(); ++place)
    for (const int bit : {0, 2, 5}) {
      std::string broken = whole;
      broken[place] = static_cast<char>(broken[place] ^ (1 << bit));
      put_bytes(broken);
      try {
        const SafeTensorsFile read = SafeTensorsFile::read(file());
        size_t total = 0;
        for (const auto& [name, info] : read.tensors()) total += read.data(name).size();
        EXPECT_EQ(total, 12u);
      } catch (const Error&) {
        ++refused;
      }
    }
  EXPECT_GT(refused, 200u);
}

TEST_F(SafeTensorsTest, WritingRefusesWhatCouldNotBeReadBack) {
  const std::vector<float> values = {1, 2};
  const auto message = [&](const std::vector<SafeTensorView>& views) {
    try {
      write_safetensors(file(), views);
    } catch (const Error& e) {
      return std::string(e.what());
    }
    return std::string("no error");
  };
  EXPECT_NE(message({view("a", "F32", {3}, values)}).find("does not fit 8 bytes"), std::string::npos);
  EXPECT_NE(message({view("a", "F32", {2}, values), view("a", "F32", {2}, values)}).find("given twice"),
            std::string::npos);
  EXPECT_NE(message({view("__metadata__", "F32", {2}, values)}).find("cannot be a tensor's name"), std::string::npos);
  EXPECT_NE(message({view("a", "float32", {2}, values)}).find("is not supported"), std::string::npos);
  EXPECT_FALSE(fs::exists(file()));
}

}  // namespace
}  // namespace deeplora
