// A program of torch.export as a torch::jit::Module: its operators become a graph, nothing of it is run.
#pragma once

#include <torch/script.h>

#include <map>
#include <string>

#include "model_files/code_files.h"
#include "model_files/exported_program.h"

namespace deeplora {

/// A file's tensors by name; parameters and others.
struct ExportedTensors {
  std::map<std::string, torch::Tensor> parameters, others;
};

struct ExportedModule {
  torch::jit::Module module;                     ///< forward() takes the program's arguments by name
  std::map<std::string, InputLimit> limits;      ///< of these arguments
  std::map<std::string, std::string> arguments;  ///< the graph's value behind each of them
};

/// "torch.float32" of the file's own numbering. Throws Error, naming `where`, for a type that LibTorch has none for.
torch::ScalarType exported_dtype(int64_t number, const std::string& where);

/// Submodules, parameters and buffers stand under their names and share the tensors' memory. Operators of ATen alone
/// become nodes, and those of foreign_operator(), written out; sizes are computed from the inputs; assertions are left
/// out; what torch.no_grad() surrounds is detached. Devices are `device`. A dict argument stays one. Throws Error,
/// naming `where` and the operator, for what has no counterpart: operators of other libraries, control flow, a forward
/// that changes its buffers, inputs that are no tensors.
ExportedModule exported_module(const ExportedProgram& program, const ExportedTensors& tensors, torch::Device device,
                               const std::string& where);

}  // namespace deeplora
