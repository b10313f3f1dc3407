// What other trainers call the options that this program has: transformers, PEFT, TRL, axolotl, LLaMA-Factory,
// scikit-learn.
#pragma once

#include <string>
#include <string_view>

namespace deeplora {

/// The key that an option of another trainer means: "learning_rate" and "--learning-rate" -> "train.lr"; "" for none.
std::string key_meant_by(std::string_view name);

}  // namespace deeplora
