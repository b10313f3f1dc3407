// The text clean-up that comes before a tokenizer's model: tokenizer.json's "normalizer".
#pragma once

#include <memory>
#include <vector>

#include "text/aligned_text.h"
#include "text/component.h"

namespace deeplora {

class Normalizer {
 public:
  virtual ~Normalizer() = default;
  virtual void apply(AlignedText& text) const = 0;
};

/// Reads a component, sequences taken apart; null gives none. Throws Error that names what is not known.
std::vector<std::unique_ptr<Normalizer>> read_normalizers(const nlohmann::json& value, const std::string& where);

}  // namespace deeplora
