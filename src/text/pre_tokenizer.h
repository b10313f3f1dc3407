// How a normalised text is cut before the model sees it: tokenizer.json's "pre_tokenizer".
#pragma once

#include <memory>
#include <vector>

#include "text/aligned_text.h"
#include "text/component.h"

namespace deeplora {

/// Bytes begin..end of the text; `id` of an added token, which nothing cuts any further.
struct Piece {
  uint32_t begin = 0, end = 0;
  int64_t id = -1;
};

/// A text cut into pieces. Pieces may leave bytes out; none is empty but an added token.
struct Pieces {
  AlignedText text;
  std::vector<Piece> list;
};

class PreTokenizer {
 public:
  virtual ~PreTokenizer() = default;
  virtual void apply(Pieces& pieces) const = 0;
  /// True when it asks where a piece begins in the original text.
  virtual bool asks_for_origin() const { return false; }
  /// True when it changes the text itself.
  virtual bool rewrites() const { return false; }
};

/// Reads a component, sequences taken apart; null gives none. Throws Error that names what is not known.
std::vector<std::unique_ptr<PreTokenizer>> read_pre_tokenizers(const nlohmann::json& value, const std::string& where);

}  // namespace deeplora
