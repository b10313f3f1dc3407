// Model files that hold code which computes the model.
#pragma once

#include <torch/script.h>

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model_files/model_files.h"

namespace deeplora {

/// What a program was made for of one size of an input.
struct SizeLimit {
  std::optional<int64_t> fixed;        ///< no other size
  std::optional<int64_t> least, most;  ///< bounds of a free size
  std::string expression;              ///< of other sizes ("2*s0"), where it is no size of its own
};

/// What a program was made for of one input.
struct InputLimit {
  std::optional<torch::ScalarType> dtype;
  std::vector<SizeLimit> sizes;
};

class CodeFiles : public ModelFiles {
 public:
  bool holds_code() const override { return true; }
  const torch::jit::Module& module() const { return module_; }
  /// By argument ("input_ids"), or entry of a dict argument ("batch.ids"); empty for code that checks its inputs
  /// itself.
  const std::map<std::string, InputLimit>& limits() const { return limits_; }
  /// How such files are made again at other sizes: for messages.
  virtual std::string how_to_export() const = 0;
  /// Return type of forward as TorchScript prints it ("Tensor", "Dict[str, Tensor]").
  std::string output_type() const override {
    return module_.get_method("forward").function().getSchema().returns().front().type()->annotation_str();
  }

 protected:
  torch::jit::Module module_;
  std::map<std::string, InputLimit> limits_;
};

}  // namespace deeplora
