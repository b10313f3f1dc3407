#include "generation_flags.h"

#include "core/error.h"

namespace deeplora {

void add_generation_flags(CLI::App& command, std::vector<std::string>& overrides) {
  const auto generation = [&](const char* flag, const char* key, const char* help) {
    command.add_option_function<std::string>(
        flag,
        [&overrides, key](const std::string& value) { overrides.push_back(cat("data.generation.", key, "=", value)); },
        help);
  };
  generation("--max-new-tokens", "max_new_tokens", "Longest generated text in tokens");
  generation("--beams", "beams", "Beam search with so many beams");
  generation("--temperature", "temperature", "Sample from the logits divided by it");
  generation("--top-p", "top_p", "Sample among the fewest likely tokens that hold this probability");
  generation("--top-k", "top_k", "Sample among so many likely tokens");
  generation("--seed", "seed", "Of sampling");
  generation("--stop", "stop", "A text that ends the generated one");
}

}  // namespace deeplora
