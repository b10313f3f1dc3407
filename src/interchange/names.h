// Names of an archive's weights outside of it.
#pragma once

#include <set>
#include <string>
#include <vector>

#include "model_files/own_head.h"
#include "model_files/model_files.h"

namespace deeplora {

/// Archive name -> Hugging Face name: the prefix that the export recorded is taken off; under a family's own head the
/// name in its class.
std::string hugging_face_name(const ModelFiles& archive, const std::string& name);

/// Names of the archive's parameters; its other tensors are buffers.
std::set<std::string> parameter_names(const ModelFiles& archive);

/// Every other parameter name of the tensor under `name`: tied weights.
std::vector<std::string> tied_names(const ModelFiles& archive, const std::string& name);

/// True for tables whose module does not take the ids of its rows: OPT's and BART's positions look themselves up from a
/// mask or a shape, so PEFT's layer around them reads other rows than the model.
bool looks_up_by_itself(const std::string& module);

}  // namespace deeplora
