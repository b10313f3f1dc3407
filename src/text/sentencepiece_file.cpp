#include "text/sentencepiece_file.h"

#include "core/error.h"
#include "core/files.h"
#include "text/sentencepiece_fields.h"

namespace deeplora {
namespace {

SentencePiece read_piece(const std::string& file, std::string_view bytes) {
  SentencePiece out;
  for (SentencePieceFields fields(file, bytes); fields.next();) {
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
  for (SentencePieceFields fields(file, bytes); fields.next();) {
    if (fields.number == 1) out.pieces.push_back(read_piece(file, fields.content));
    if (fields.number == 2)
      for (SentencePieceFields trainer(file, fields.content); trainer.next();) {
        if (trainer.number == 3) model_type = trainer.value;
        if (trainer.number == 35) out.byte_fallback = trainer.value != 0;
        if (trainer.number == 40) out.unknown_id = static_cast<int32_t>(trainer.value);
        if (trainer.number == 41) out.bos_id = static_cast<int32_t>(trainer.value);
        if (trainer.number == 42) out.eos_id = static_cast<int32_t>(trainer.value);
        if (trainer.number == 45) out.unknown_piece = trainer.text();
        if (trainer.number == 46) out.bos_piece = trainer.text();
        if (trainer.number == 47) out.eos_piece = trainer.text();
      }
    if (fields.number == 3)
      for (SentencePieceFields rules(file, fields.content); rules.next();) {
        if (rules.number == 2) out.charsmap = rules.text();
        if (rules.number == 3) out.add_dummy_prefix = rules.value != 0;
        if (rules.number == 4) out.remove_extra_whitespaces = rules.value != 0;
        if (rules.number == 5) out.escape_whitespaces = rules.value != 0;
      }
  }
  check(!out.pieces.empty(), file, ": not a sentencepiece model: it has no pieces");
  check(model_type == 1 || model_type == 2, file, ": a sentencepiece model of type ", model_type,
        " is not supported; known: unigram (1), bpe (2)");
  out.unigram = model_type == 1;
  return out;
}

}  // namespace deeplora
