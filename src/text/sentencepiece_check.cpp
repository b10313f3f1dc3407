#include "text/sentencepiece_check.h"

#include <cstdint>
#include <cstring>

#include "core/error.h"
#include "text/sentencepiece_fields.h"

namespace deeplora {
namespace {

/// A unit of darts-clone's double array (https://github.com/s-yata/darts-clone, darts.h).
struct Unit {
  uint32_t bits = 0;
  bool is_value() const { return (bits >> 31) != 0; }
  bool has_value() const { return ((bits >> 8) & 1) != 0; }
  size_t offset() const { return static_cast<size_t>(bits >> 10) << ((bits & (1U << 9)) >> 6); }
  size_t value() const { return bits & ((1U << 31) - 1); }
};

/// precompiled_charsmap: bytes of the trie (4), the trie, then the replacements, each ended by a NUL.
void check_charsmap(const std::string& file, std::string_view map) {
  if (map.empty()) return;
  const auto sound = [&](bool ok) {
    check(ok, file, ": not a sound sentencepiece model: its table of character replacements is broken");
  };
  uint32_t size = 0;
  sound(map.size() > sizeof(size));
  std::memcpy(&size, map.data(), sizeof(size));
  map.remove_prefix(sizeof(size));
  constexpr size_t kBlock = 256;  // a unit's children lie in one block
  sound(size > 0 && size < map.size() && size % (kBlock * sizeof(Unit)) == 0);
  const std::string_view texts = map.substr(size);
  sound(texts.back() == '\0');
  const size_t count = size / sizeof(Unit);
  const auto unit = [&](size_t i) {
    Unit out;
    std::memcpy(&out, map.data() + i * sizeof(Unit), sizeof(Unit));
    return out;
  };
  for (size_t i = 0; i < count; ++i) {
    const Unit here = unit(i);
    if (here.is_value() && i > 0) continue;
    const size_t children = i ^ here.offset();
    sound(children < count);
    if (here.has_value()) sound(unit(children).value() < texts.size());
  }
}

}  // namespace

void check_sentencepiece_model(const std::string& file, std::string_view model) {
  // ModelProto {pieces 1, normalizer_spec 3, denormalizer_spec 5}, SentencePiece {piece 1}, NormalizerSpec
  // {precompiled_charsmap 2}.
  for (SentencePieceFields fields(file, model); fields.next();) {
    const uint64_t field = fields.number;
    if (field != 1 && field != 3 && field != 5) continue;
    for (SentencePieceFields inner(file, fields.content); inner.next();)
      if (field == 1 && inner.number == 1)
        check(inner.content.find('\0') == std::string_view::npos, file,
              ": not a sound sentencepiece model: a piece holds a NUL");
      else if (field != 1 && inner.number == 2) check_charsmap(file, inner.content);
  }
}

}  // namespace deeplora
