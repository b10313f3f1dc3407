#include "tasks/text_stream.h"

#include <algorithm>

namespace deeplora {
namespace {

constexpr std::string_view kReplacement = "\xEF\xBF\xBD";  // U+FFFD: bytes of a character that is not complete

/// Where the first stop text begins, or where the text ends.
size_t first_stop(const std::string& text, const std::vector<std::string>& stop) {
  size_t end = text.size();
  for (const auto& word : stop) end = std::min(end, text.find(word));
  return end;
}

/// `end` moved back over an end that may be the beginning of a stop text.
size_t before_begun_stop(const std::string& text, size_t end, const std::vector<std::string>& stop) {
  size_t out = end;
  for (const auto& word : stop)
    for (size_t length = std::min(word.size() - 1, end); length > 0; --length)
      if (text.compare(end - length, length, word, 0, length) == 0) {
        out = std::min(out, end - length);
        break;
      }
  return out;
}

}  // namespace

void TextStream::write_up_to(const std::string& text, size_t end) {
  if (end <= written_) return;
  write_(std::string_view(text).substr(written_, end - written_));
  written_ = end;
}

void TextStream::update(std::span<const int64_t> ids) {
  const std::string text = tokenizer_.decode(ids, /*skip_special=*/true);
  size_t end = before_begun_stop(text, first_stop(text, stop_), stop_);
  while (end >= kReplacement.size() && std::string_view(text).substr(0, end).ends_with(kReplacement))
    end -= kReplacement.size();
  while (end > 0 && (text[end - 1] == ' ' || text[end - 1] == '\n'))
    --end;  // decoders may drop white space before what follows
  write_up_to(text, end);
}

void TextStream::finish(std::span<const int64_t> ids) {
  const std::string text = tokenizer_.decode(ids, /*skip_special=*/true);
  write_up_to(text, first_stop(text, stop_));
}

}  // namespace deeplora
