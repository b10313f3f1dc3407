#include "text/piece_tokenizer.h"

#include "core/error.h"
#include "text/unicode.h"

namespace deeplora {

PieceTokenizer::PieceTokenizer(TokenizerParts parts) : parts_(std::move(parts)) {
  for (const auto* layout : {&parts_.layout.single, &parts_.layout.pair})
    for (const LayoutPiece& piece : *layout)
      check(piece.kind != LayoutPiece::Kind::special || parts_.vocabulary.piece(piece.id),
            "the layout of texts uses token ", piece.id,
            ", which the tokenizer does not have; its ids are 0 to ", vocabulary_size() - 1);
}

std::vector<int64_t> PieceTokenizer::tokenize(std::string_view text) const {
  std::vector<int64_t> ids;
  for (const TextPiece& piece : parts_.added.split(to_code_points(text))) {
    if (piece.id)
      ids.push_back(*piece.id);
    else
      append_ids(piece.text, piece.at_start, ids);
  }
  return ids;
}

Encoding PieceTokenizer::encode(std::string_view text, std::optional<std::string_view> pair,
                                int64_t max_length) const {
  std::optional<std::vector<int64_t>> second;
  if (pair) second = tokenize(*pair);
  return parts_.layout.assemble(tokenize(text), std::move(second), max_length);
}

std::string PieceTokenizer::decode(std::span<const int64_t> ids, bool skip_special) const {
  std::vector<int64_t> kept;
  kept.reserve(ids.size());
  for (const int64_t id : ids)
    if (parts_.vocabulary.piece(id) && !(skip_special && parts_.added.is_special(id))) kept.push_back(id);
  return join_pieces(kept);
}

std::string PieceTokenizer::piece(int64_t id) const {
  const std::string* found = parts_.vocabulary.piece(id);
  check(found != nullptr, "the tokenizer has no token with id ", id, "; its ids are 0 to ",
        vocabulary_size() - 1);
  return *found;
}

}  // namespace deeplora
