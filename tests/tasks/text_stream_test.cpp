// Oracle: the whole text decoded at once. Pieces that are shown may never have to be taken back.
#include "tasks/text_stream.h"

#include <gtest/gtest.h>

namespace deeplora {
namespace {

/// A token a byte; broken characters decode to U+FFFD as tokenizers do.
class ByteTokenizer : public Tokenizer {
 public:
  Encoding encode(std::string_view text, std::optional<std::string_view>, int64_t, bool = false) const override {
    return {.ids = tokenize(text)};
  }
  std::vector<int64_t> tokenize(std::string_view text) const override {
    std::vector<int64_t> out;
    for (const char c : text) out.push_back(static_cast<unsigned char>(c));
    return out;
  }
  std::string decode(std::span<const int64_t> ids, bool) const override {
    std::string out;
    for (const int64_t id : ids) out += static_cast<char>(id);
    for (size_t back = 1; back <= 3 && back <= out.size(); ++back) {
      const auto byte = static_cast<unsigned char>(out[out.size() - back]);
      const size_t length = byte >= 0xF0 ? 4 : byte >= 0xE0 ? 3 : byte >= 0xC0 ? 2 : 1;
      if (length == 1 && byte >= 0x80) continue;
      if (length > back) out = out.substr(0, out.size() - back) + "\xEF\xBF\xBD";
      break;
    }
    return out;
  }
  int64_t vocabulary_size() const override { return 256; }
  SpecialIds special() const override { return {}; }
  std::string piece(int64_t) const override { return ""; }
  std::string kind() const override { return "bytes"; }
};

std::string streamed(const std::string& text, std::vector<std::string> stop,
                     std::vector<std::string>* parts = nullptr) {
  const ByteTokenizer tokenizer;
  std::string out;
  TextStream stream(tokenizer, std::move(stop), [&](std::string_view part) {
    out += part;
    if (parts) parts->emplace_back(part);
  });
  const auto ids = tokenizer.tokenize(text);
  for (size_t n = 1; n <= ids.size(); ++n) stream.update(std::span(ids).first(n));
  stream.finish(ids);
  return out;
}

TEST(TextStreamTest, GivesTheWholeTextInWholeCharacters) {
  const std::string text = "A caf\u00e9 \u732b \U0001F600 end. ";
  std::vector<std::string> parts;
  EXPECT_EQ(streamed(text, {}, &parts), text);
  EXPECT_GT(parts.size(), 5u);
  for (const auto& part : parts) EXPECT_EQ(part.find("\xEF\xBF\xBD"), std::string::npos) << part;
}

TEST(TextStreamTest, NothingOfAStopTextIsShown) {
  EXPECT_EQ(streamed("one\n\ntwo", {"\n\n"}), "one");
  EXPECT_EQ(streamed("one EN END two", {"END"}), "one EN ");
  EXPECT_EQ(streamed("a##b", {"##", "b"}), "a");
  EXPECT_EQ(streamed("one EN", {"END"}), "one EN");
}

}  // namespace
}  // namespace deeplora
