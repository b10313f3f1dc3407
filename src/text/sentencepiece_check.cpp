#include "text/sentencepiece_check.h"

#include <cstdint>
#include <cstring>

#include "core/error.h"

namespace deeplora {
namespace {

/// Fields of a protocol buffer message, one after the other.
class Fields {
 public:
  Fields(const std::string& file, std::string_view bytes) : file_(file), rest_(bytes) {}

  /// False at the end. `content` is set for fields of bytes, else empty.
  bool next(uint64_t& field, std::string_view& content) {
    if (rest_.empty()) return false;
    const uint64_t key = varint(), wire = key & 7;
    field = key >> 3;
    content = {};
    if (wire == 0) varint();
    else if (wire == 1) take(8);
    else if (wire == 2) content = take(varint());
    else if (wire == 5) take(4);
    else fail(file_, ": not a sentencepiece model: its field ", field, " has the unknown wire type ", wire);
    return true;
  }

 private:
  uint64_t varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return value;
    }
    fail(file_, ": not a sentencepiece model: a number without an end");
  }
  std::string_view take(uint64_t size) {
    check(size <= rest_.size(), file_, ": not a whole sentencepiece model: it is cut off or of another format");
    const std::string_view out = rest_.substr(0, size);
    rest_.remove_prefix(size);
    return out;
  }

  const std::string& file_;
  std::string_view rest_;
};

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
  const auto sound = [&](bool ok) { check(ok, file, ": not a sound sentencepiece model: its table of character replacements is broken"); };
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
  // ModelProto {pieces 1, normalizer_spec 3, denormalizer_spec 5}, SentencePiece {piece 1}, NormalizerSpec {precompiled_charsmap 2}.
  Fields fields(file, model);
  uint64_t field = 0;
  for (std::string_view content; fields.next(field, content);) {
    if (field != 1 && field != 3 && field != 5) continue;
    Fields inner(file, content);
    uint64_t inner_field = 0;
    for (std::string_view value; inner.next(inner_field, value);)
      if (field == 1 && inner_field == 1)
        check(value.find('\0') == std::string_view::npos, file, ": not a sound sentencepiece model: a piece holds a NUL");
      else if (field != 1 && inner_field == 2)
        check_charsmap(file, value);
  }
}

}  // namespace deeplora
