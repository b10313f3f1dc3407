#include "text/aligned_text.h"

namespace deeplora {

AlignedText::AlignedText(std::string_view original, uint32_t base, bool with_spans)
    : text(original), tracked(with_spans) {
  if (!tracked) return;
  spans.reserve(text.size());
  for (size_t at = 0; at < text.size();) {
    const size_t length = utf8_length(text[at]);
    const auto begin = base + static_cast<uint32_t>(at);
    spans.insert(spans.end(), length, {begin, begin + static_cast<uint32_t>(length)});
    at += length;
  }
}

void AlignedText::transform(std::span<const Change> changes, size_t removed) {
  std::string made;
  made.reserve(text.size());
  std::vector<ByteSpan> origins;
  if (tracked) origins.reserve(text.size());
  size_t at = 0;  // in the old text
  const auto skip = [&](size_t count) {
    for (; count > 0 && at < text.size(); --count) at += utf8_length(text[at]);
  };
  if (tracked) skip(removed);
  for (const Change& one : changes) {
    const size_t before = made.size();
    append_utf8(made, one.code);
    if (!tracked) continue;
    ByteSpan span;
    if (one.change > 0) span = at > 0 ? spans[at - 1] : ByteSpan{};
    else if (at < text.size()) span = spans[at];
    origins.insert(origins.end(), made.size() - before, span);
    if (one.change <= 0) skip(1 + static_cast<size_t>(-one.change));
  }
  text = std::move(made);
  spans = std::move(origins);
}

void AlignedText::prepend(std::string_view prefix) {
  if (text.empty()) return;
  text.insert(0, prefix);
  if (tracked) {
    const ByteSpan first = spans.front();
    spans.insert(spans.begin(), prefix.size(), first);
  }
}

void AlignedText::append(const AlignedText& other, size_t begin, size_t end) {
  text.append(other.text, begin, end - begin);
  if (tracked)
    spans.insert(spans.end(), other.spans.begin() + static_cast<std::ptrdiff_t>(begin),
                 other.spans.begin() + static_cast<std::ptrdiff_t>(end));
}

void AlignedText::append_aligned(std::string_view content, const AlignedText& other, size_t at) {
  text.append(content);
  if (tracked) spans.insert(spans.end(), content.size(), at < other.spans.size() ? other.spans[at] : ByteSpan{});
}

ByteSpan AlignedText::original(size_t begin, size_t end) const {
  if (begin >= end || end > spans.size()) return {};
  return {spans[begin].begin, spans[end - 1].end};
}

}  // namespace deeplora
