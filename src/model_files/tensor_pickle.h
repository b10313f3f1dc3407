// The dictionary of tensors that torch.save writes, read as data: no class of the pickle is ever made. Free of
// LibTorch.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "model_files/exported_program.h"

namespace deeplora {

/// Tensors by name of a pickle's bytes ("archive/data.pkl"), and where in its archive their values lie ("data/0"). What
/// is read is what a dictionary of tensors and parameters needs: texts, numbers, tuples, dictionaries and the functions
/// of torch that stand for a tensor. Throws Error, naming `where`, for any other class or function by its name, and for
/// what is damaged.
std::map<std::string, ExportedPayload> parse_pickled_tensors(const std::string& where, std::string_view bytes);

}  // namespace deeplora
