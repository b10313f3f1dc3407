// Frozen weights with an adapter slot. Every weight that a native family multiplies with goes through one of these.
#pragma once

#include <torch/nn/module.h>
#include <torch/nn/pimpl.h>

#include "factorization/lookup.h"
#include "factorization/quantized_lines.h"
#include "lm/language_model.h"
#include "model_files/stored_tensors.h"
#include "models/autocast_copy.h"
#include "models/output_loss.h"

namespace deeplora {

/// The slot shared by both kinds: one adapter or none, registered as submodule so that train()/eval() reach it.
class AdapterSlot : public torch::nn::Module {
 public:
  void attach(std::shared_ptr<Adapter> adapter);
  const std::string& path() const { return path_; }
  const torch::Tensor& weight() const { return weight_; }
  /// `uses`: how many operators of a forward pass read the weight.
  AdapterSite site(const std::string& role, SiteKind kind, int64_t uses = 1);
  /// Where the weight's memory is left once there is a copy that serves its products.
  void may_stay_in(std::shared_ptr<const StoredTensors> stored) { stored_in_ = std::move(stored); }
  const std::shared_ptr<const StoredTensors>& stored_in() const { return stored_in_; }
  /// Whether the layer is its frozen weight and nothing else, so that token_losses() serves it.
  bool can_give_loss() const { return !adapter_ && !has_bias() && can_fuse_output_loss(weight_); }
  /// The weight as products read it; its memory is left to the file it came from, where a copy serves.
  FrozenMatrix operand() { return operand_of(weight_); }
  /// Products read the weight in 8 or 4 bits from here on. weight() stays what the file holds, and lies there alone
  /// where it is mapped. How many bytes that takes. Throws Error for a weight that has no such form.
  int64_t quantize(Quantization kind);
  bool is_quantized() const { return quantized_ != nullptr; }
  /// output_losses() of states [N, D] and labels [N] with this weight [V, D] as the output layer
  /// (models/output_loss.h).
  torch::Tensor token_losses(const torch::Tensor& states, const torch::Tensor& labels);

 protected:
  AdapterSlot(std::string path, torch::Tensor weight);
  virtual bool has_bias() const { return false; }
  FrozenMatrix operand_of(const torch::Tensor& weight);
  /// The layer [..., in] -> [..., out] with the adapter's change.
  torch::Tensor multiply(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias);
  torch::Tensor multiply_quantized(const torch::Tensor& x, const torch::Tensor& bias);
  std::string path_;  ///< archive name of the weight
  torch::Tensor weight_;
  std::shared_ptr<Adapter> adapter_;
  AutocastCopy copy_;
  std::shared_ptr<const StoredTensors> stored_in_;
  std::shared_ptr<const StoredLines> quantized_;
};

/// y = x W^T + b (+ the adapter's change). weight [out, in], bias [out] or undefined.
class ProjectionImpl : public AdapterSlot {
 public:
  ProjectionImpl(std::string path, torch::Tensor weight, torch::Tensor bias);
  /// A layer whose archive stores the weight as [in, out] (GPT-2's Conv1D); its site is [out, in] all the same.
  static std::shared_ptr<ProjectionImpl> of_transposed(std::string path, torch::Tensor stored, torch::Tensor bias);
  torch::Tensor forward(const torch::Tensor& x);  ///< [..., in] -> [..., out]
  /// forward(activate(x, activation)), in fewer passes over memory where the activation can be part of the layer.
  torch::Tensor of_activated(const torch::Tensor& x, const std::string& activation);
  /// forward(activate_gate(gate_up, activation)) of [..., 2 in], likewise; then what is kept for the way back is
  /// gate_up alone.
  torch::Tensor of_gated(const torch::Tensor& gate_up, const std::string& activation);
  const torch::Tensor& bias() const { return bias_; }
  /// The chain its adapter adds, no factors without one; nothing when the layer has to be computed on its own.
  std::optional<ChainUpdate> chain_update() const;
  AdapterSite site(const std::string& role, SiteKind kind = SiteKind::linear, int64_t uses = 1);

 private:
  bool has_bias() const override { return bias_.defined(); }
  /// The layer of function(x); undefined where it is not one operator.
  torch::Tensor of_function(const torch::Tensor& x, std::optional<InputFunction> function);
  torch::Tensor bias_;
  torch::Tensor stored_;  ///< [in, out], where the archive stores it so
};
TORCH_MODULE(Projection);

/// Projections that read one input (query, key and value; gate and up): one product for all while their adapters allow
/// it.
class JoinedProjections {
 public:
  JoinedProjections() = default;
  /// The first product puts the weights one below the other in one tensor and lets the projections, and whoever shares
  /// their storage in `owners`, look into it, so that nothing is held twice. Panels for bfloat16 stand for the joined
  /// weight. Weights in half precision stay where they are, parts of one product.
  JoinedProjections(std::vector<Projection> projections, std::vector<torch::Tensor> owners)
      : projections_(std::move(projections)), owners_(std::move(owners)) {}
  /// [..., in] -> the projections' outputs.
  std::vector<torch::Tensor> forward(const torch::Tensor& x) { return from(0, x, copy_); }
  /// [..., in] -> the projections' outputs side by side, [..., sum out].
  torch::Tensor as_one(const torch::Tensor& x);
  /// The same of all projections but the first.
  std::vector<torch::Tensor> without_first(const torch::Tensor& x) { return from(1, x, rest_copy_); }

 private:
  /// Projections that are one product.
  struct Joined {
    FrozenMatrix operand;
    torch::Tensor bias;
    std::vector<ChainLayer> layers;
  };
  /// projections[first] and those behind it, of whose weights `copy` keeps what autocast reads; nothing where they have
  /// to be computed one by one.
  std::optional<Joined> joined_from(size_t first, const torch::Tensor& x, AutocastCopy& copy);
  std::vector<torch::Tensor> from(size_t first, const torch::Tensor& x, AutocastCopy& copy);
  /// The rows of projections[first] and those behind it, of `parts` of all projections, which are put together in
  /// `joined` unless they lie there.
  torch::Tensor rows_from(size_t first, const std::vector<torch::Tensor>& parts, torch::Tensor& joined) const;
  /// Leaves the memory of the weights to the file they came from, where that serves.
  void leave_weights();
  std::vector<Projection> projections_;
  std::vector<torch::Tensor> owners_;
  torch::Tensor weight_, bias_;  ///< [sum out, in], [sum out] or undefined; undefined before they are asked for
  AutocastCopy copy_, rest_copy_;
};

/// Rows of W (+ the adapter's change). weight [V, D].
class EmbeddingTableImpl : public AdapterSlot {
 public:
  EmbeddingTableImpl(std::string path, torch::Tensor weight, LookupOptions lookups = {});
  torch::Tensor forward(const torch::Tensor& ids);  ///< [...] -> [..., D]
  /// The site of the table that the model's own input_ids are looked up in.
  AdapterSite word_site(int64_t uses = 1);
  /// The table as output layer of a language model with tied weights: x W^T, [..., D] -> [..., V]. One adapter changes
  /// both uses.
  torch::Tensor project(const torch::Tensor& x);

 private:
  LookupOptions lookups_;
};
TORCH_MODULE(EmbeddingTable);

}  // namespace deeplora
