// Names of a model's weights as trainers write them that kept the model inside something of their own.
#pragma once

#include <string>
#include <vector>

namespace deeplora {

/// Takes off what stands around the names of transformers: `module.` of data-parallel wrappers, `_orig_mod.` of
/// torch.compile, and whatever stands before the base model's own prefix ("model.bert.encoder..." of a training module
/// that holds the model as `model`). Families that `model_type` does not tell keep everything but these two. Returns
/// what was taken off, for messages; empty for names as transformers has them.
std::string take_off_wrappers(std::vector<std::string>& names, const std::string& model_type);

}  // namespace deeplora
