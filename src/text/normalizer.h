// The text clean-up that comes before a tokenizer's model, from tokenizer.json's "normalizer".
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// BERT's clean-up; the steps run in this order.
struct BertNormalizer {
  bool clean_text = true;            ///< drop control characters, turn white space into ' '
  bool handle_chinese_chars = true;  ///< a space on each side of CJK ideographs
  bool strip_accents = true;         ///< NFD, then drop the non-spacing marks
  bool lowercase = true;

  std::u32string operator()(std::u32string_view text) const;
};

/// A chain of clean-up steps; an empty one changes nothing.
class Normalizer {
 public:
  Normalizer() = default;
  explicit Normalizer(BertNormalizer bert) : steps_{Step{Step::Kind::bert, bert}} {}
  /// BertNormalizer, Lowercase, NFC, NFD, a Sequence of them, or null. Throws Error for any other, naming
  /// `file`.
  static Normalizer from_json(const nlohmann::json& value, const std::string& file);

  std::u32string operator()(std::u32string_view text) const;

 private:
  struct Step {
    enum class Kind { bert, lowercase, nfc, nfd } kind;
    BertNormalizer bert{};
  };
  std::vector<Step> steps_;
};

}  // namespace deeplora
