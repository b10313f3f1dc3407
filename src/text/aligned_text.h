// A text that is being rewritten, and where each of its bytes came from.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/unicode.h"

namespace deeplora {

/// Bytes begin..end of the original text.
struct ByteSpan {
  uint32_t begin = 0, end = 0;
};

/// UTF-8 with, when `tracked`, the span of the original text that every byte stands for (the whole character's span).
struct AlignedText {
  std::string text;
  std::vector<ByteSpan> spans;  ///< as long as text when tracked, else empty
  bool tracked = false;

  AlignedText() = default;
  /// The original itself; `base`: where it begins in the whole.
  AlignedText(std::string_view original, uint32_t base, bool with_spans);

  /// Rewrites the text by `changes`, one for every new code point; `removed`: code points that are gone before the
  /// first of them.
  void transform(std::span<const Change> changes, size_t removed = 0);
  /// Keeps the code points for which `keep` holds.
  template <class Keep>
  void filter(Keep keep);
  /// Puts `prefix` before the text, aligned with its first character. Does nothing to an empty text.
  void prepend(std::string_view prefix);
  /// Appends bytes begin..end of another text.
  void append(const AlignedText& other, size_t begin, size_t end);
  /// Appends `content`, aligned with byte `at` of `other`.
  void append_aligned(std::string_view content, const AlignedText& other, size_t at);
  /// The original's span of bytes begin..end.
  ByteSpan original(size_t begin, size_t end) const;
};

template <class Keep>
void AlignedText::filter(Keep keep) {
  std::vector<Change> changes;
  changes.reserve(text.size());
  size_t removed = 0, at_start = 0;
  for (size_t at = 0; at < text.size(); at += utf8_length(text[at])) {
    const char32_t code = utf8_at(text, at);
    if (!keep(code)) {
      ++removed;
      continue;
    }
    if (changes.empty()) at_start = removed;
    else changes.back().change = -static_cast<int32_t>(removed);
    changes.push_back({code, 0});
    removed = 0;
  }
  transform(changes, at_start);
}

}  // namespace deeplora
