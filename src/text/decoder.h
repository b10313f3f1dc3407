// Pieces back to text: tokenizer.json's "decoder".
#pragma once

#include <memory>
#include <string>
#include <vector>

#include "text/component.h"

namespace deeplora {

class Decoder {
 public:
  virtual ~Decoder() = default;
  /// Rewrites the pieces of a text, in order.
  virtual void apply(std::vector<std::string>& pieces) const = 0;
};

/// Reads a component, sequences taken apart; null gives none. Throws Error that names what is not known.
std::vector<std::unique_ptr<Decoder>> read_decoders(const nlohmann::json& value, const std::string& where);

}  // namespace deeplora
