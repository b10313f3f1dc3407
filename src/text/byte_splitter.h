// How text is cut into words before byte-level BPE: tokenizer.json's "pre_tokenizer", without a regular
// expression engine.
#pragma once

#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// ByteLevel, alone or at the end of a Sequence of Digits and Split steps. Split knows the expressions of
/// GPT-2, of Qwen 2 and of Llama 3; words are left as text, the mapping to bytes is the model's business.
class ByteSplitter {
 public:
  /// Throws Error naming `file` and the step that is not supported.
  static ByteSplitter from_json(const nlohmann::json& pre_tokenizer, const std::string& file);

  std::vector<std::u32string> split(std::u32string_view text) const;

 private:
  enum class Step { digits_each, digits_together, gpt2, qwen2, llama3, prefix_space };
  void add_step(const nlohmann::json& one, const std::string& file);
  std::vector<Step> steps_;
};

}  // namespace deeplora
