#include "text/sentencepiece_file.h"

#include <bit>

#include "core/error.h"
#include "core/files.h"

namespace deeplora {
namespace {

/// Fields of a protocol buffer message, one after the other.
class Fields {
 public:
  Fields(const std::string& file, std::string_view bytes) : file_(file), rest_(bytes) {}

  uint64_t number = 0;       ///< which field
  std::string_view content;  ///< of fields of bytes, else empty
  uint64_t value = 0;        ///< of numbers, bits of reals

  /// False at the end.
  bool next() {
    if (rest_.empty()) return false;
    const uint64_t key = varint(), wire = key & 7;
    number = key >> 3;
    content = {};
    value = 0;
    if (wire == 0) value = varint();
    else if (wire == 1) take(8);
    else if (wire == 2) content = take(varint());
    else if (wire == 5) value = fixed();
    else fail(file_, ": not a sentencepiece model: its field ", number, " has the unknown wire type ", wire);
    return true;
  }
  float real() const { return std::bit_cast<float>(static_cast<uint32_t>(value)); }
  std::string text() const { return std::string(content); }

 private:
  uint64_t varint() {
    uint64_t out = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      out |= static_cast<uint64_t>(byte & 127) << shift;
      if (byte < 128) return out;
    }
    fail(file_, ": not a sentencepiece model: a number without an end");
  }
  uint64_t fixed() {
    const std::string_view bytes = take(4);
    uint64_t out = 0;
    for (size_t i = 4; i-- > 0;) out = out << 8 | static_cast<unsigned char>(bytes[i]);
    return out;
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

SentencePiece read_piece(const std::string& file, std::string_view bytes) {
  SentencePiece out;
  for (Fields fields(file, bytes); fields.next();) {
    if (fields.number == 1) out.text = fields.text();
    if (fields.number == 2) out.score = fields.real();
    if (fields.number == 3) out.type = static_cast<int>(fields.value);
  }
  check(is_valid_utf8(out.text), file, ": not a sound sentencepiece model: a piece is not UTF-8");
  return out;
}

}  // namespace

SentencePieceFile SentencePieceFile::parse(const std::string& file, std::string_view bytes) {
  SentencePieceFile out;
  uint64_t model_type = 1;
  // ModelProto {pieces 1, trainer_spec 2, normalizer_spec 3}
  for (Fields fields(file, bytes); fields.next();) {
    if (fields.number == 1) out.pieces.push_back(read_piece(file, fields.content));
    if (fields.number == 2)
      for (Fields trainer(file, fields.content); trainer.next();) {
        if (trainer.number == 3) model_type = trainer.value;
        if (trainer.number == 35) out.byte_fallback = trainer.value != 0;
        if (trainer.number == 40) out.unknown_id = static_cast<int64_t>(trainer.value);
        if (trainer.number == 45) out.unknown_piece = trainer.text();
      }
    if (fields.number == 3)
      for (Fields rules(file, fields.content); rules.next();) {
        if (rules.number == 2) out.charsmap = rules.text();
        if (rules.number == 3) out.add_dummy_prefix = rules.value != 0;
        if (rules.number == 4) out.remove_extra_whitespaces = rules.value != 0;
        if (rules.number == 5) out.escape_whitespaces = rules.value != 0;
      }
  }
  check(!out.pieces.empty(), file, ": not a sentencepiece model: it has no pieces");
  check(model_type == 1 || model_type == 2, file, ": a sentencepiece model of type ", model_type, " is not supported; known: unigram (1), bpe (2)");
  out.unigram = model_type == 1;
  return out;
}

}  // namespace deeplora
