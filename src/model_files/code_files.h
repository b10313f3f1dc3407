// Model files that hold code which computes the model.
#pragma once

#include <torch/script.h>

#include <algorithm>
#include <limits>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "model_files/model_files.h"
#include "model_files/size_guards.h"

namespace deeplora {

/// What a program was made for of one size of an input: times * n + plus, for any n.
struct SizeLimit {
  std::optional<int64_t> fixed;        ///< no other size
  std::optional<int64_t> least, most;  ///< bounds of n
  std::string symbol;                  ///< the program's name for n: one name, one number
  int64_t times = 1, plus = 0;         ///< times 0: an expression that is not followed

  bool free() const { return !fixed && times == 1 && plus == 0; }
};
/// "7", "any", "2*n + 1".
std::string shown(const SizeLimit& size);

/// What a program was made for of one input.
struct InputLimit {
  std::optional<torch::ScalarType> dtype;
  std::vector<SizeLimit> sizes;
};
/// "[any, 3, 32, 32]".
std::string shown(const InputLimit& limit);

/// Bounds of a size, both included.
struct SizeSpan {
  int64_t least = 1, most = std::numeric_limits<int64_t>::max();

  int64_t nearest(int64_t size) const { return std::max(least, std::min(size, most)); }
};
/// What a program was made for of the rows (dimension 0) or tokens (dimension 1) of its inputs [B, T]; of other files
/// any size.
SizeSpan sizes_taken(const ModelFiles& files, size_t dimension);

class CodeFiles : public ModelFiles {
 public:
  bool holds_code() const override { return true; }
  const torch::jit::Module& module() const { return module_; }
  /// By argument ("input_ids"), or entry of a dict argument ("batch.ids"); empty for code that checks its inputs
  /// itself.
  const std::map<std::string, InputLimit>& limits() const { return limits_; }
  /// What else the code demands of their sizes.
  const std::vector<SizeGuard>& guards() const { return guards_; }
  /// How such files are made again at other sizes: for messages.
  virtual std::string how_to_export() const = 0;
  /// Return type of forward as TorchScript prints it ("Tensor", "Dict[str, Tensor]").
  std::string output_type() const override {
    return module_.get_method("forward").function().getSchema().returns().front().type()->annotation_str();
  }

 protected:
  torch::jit::Module module_;
  std::map<std::string, InputLimit> limits_;
  std::vector<SizeGuard> guards_;
};

}  // namespace deeplora
