// Sentencepiece's table of character replacements: the normalizer "Precompiled".
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "text/normalizer.h"

namespace deeplora {

/// A double array that maps short texts to others (https://github.com/s-yata/darts-clone).
class Charsmap final : public Normalizer {
 public:
  /// From {"precompiled_charsmap": base64}. Throws Error when the table is broken.
  explicit Charsmap(const Component& part);

  void apply(AlignedText& text) const override;
  /// What the longest key at the beginning of a text becomes, and how many bytes it has: sentencepiece's own way.
  std::optional<std::pair<std::string_view, size_t>> find_longest(std::string_view text) const;

 private:
  /// What the shortest key at the beginning of a text becomes: the library's way.
  std::optional<std::string_view> find(std::string_view text) const;
  /// use(length, made) for every key at the beginning of a text, shortest first, until it returns false.
  template <class Use>
  void keys(std::string_view text, Use use) const;

  std::vector<uint32_t> units_;
  std::string texts_;  // each ends with a NUL
};

std::string to_base64(std::string_view bytes);

}  // namespace deeplora
