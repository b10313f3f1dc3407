// What encoders share whose layers are of one kind: packed tokens, first tokens alone, checkpointing. A family gives
// its layer.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "lm/head.h"
#include "models/checkpointing.h"
#include "models/class_head.h"
#include "models/packing.h"

namespace deeplora {

using NamedStates = std::vector<std::pair<std::string, torch::Tensor>>;

/// What the layers share in one forward pass.
struct EncoderPass {
  Packing packing;
  std::vector<torch::Tensor> shared = {};  ///< tensors that layers read and gradients flow through
  NamedStates* trace = nullptr;            ///< collects the outputs of all norms when given

  /// x [N, D]
  void note(const std::string& name, const torch::Tensor& x) const {
    if (trace) trace->emplace_back(name, packing.unpack(x));
  }
};

/// `Layer` is a module with
///   Pass: an EncoderPass, or one with more in it;
///   forward(in, pass): in = {x [N, D], shared...} -> [N, D];
///   first_tokens(in, pass): the same for the first token of every row alone -> [B, D];
///   add_sites(sites).
template <class Layer>
class PackedEncoder : public LanguageModel {
 public:
  using Pass = typename Layer::Pass;

  ModelOutput forward(const Batch& batch) override {
    if (head_ && !of_tokens_) return {.hidden = {}, .logits = head_->forward(head_input(batch))};
    const auto pass = begin(batch);
    if (head_) return {.hidden = {}, .logits = pass->packing.unpack(head_->forward(all_states(batch, pass)))};
    return {.hidden = pass->packing.unpack(all_states(batch, pass)), .logits = {}};
  }

  torch::Tensor first_states(const Batch& batch) override {
    const auto pass = begin(batch);
    // A row that begins with padding has its first cell there, where no state is.
    if (layers_.empty() || !pass->packing.has_first_tokens())
      return pass->packing.unpack(all_states(batch, pass)).select(1, 0);
    const torch::Tensor x = run(embed(batch, *pass), pass, layers_.size() - 1);
    const auto& last = layers_.back();
    const auto first = [last, pass](const std::vector<torch::Tensor>& in) { return last->first_tokens(in, *pass); };
    return finish(through(*last, x, pass, first), *pass);
  }

  NamedStates checkpoints(const Batch& batch) override {
    NamedStates out;
    const auto pass = begin(batch);
    pass->trace = &out;
    all_states(batch, pass);
    return out;
  }

  std::vector<AdapterSite> sites() override {
    std::vector<AdapterSite> out;
    add_embedding_sites(out);
    for (size_t i = 0; i < layers_.size(); ++i)
      if (i == 0 || layers_[i] != layers_[i - 1]) layers_[i]->add_sites(out);
    add_sites_behind(out);
    if (head_) head_->add_sites(out);
    return out;
  }

  std::vector<NamedTensor> base_parameters() override { return base_parameters_; }
  std::string family() const override { return family_; }
  void set_gradient_checkpointing(bool on) override { checkpointing_ = on; }

 protected:
  explicit PackedEncoder(std::string family) : family_(std::move(family)) {}
  virtual std::shared_ptr<Pass> begin(const Batch& batch) = 0;
  /// [N, D]: what the first layer reads.
  virtual torch::Tensor embed(const Batch& batch, const Pass& pass) = 0;
  /// What stands behind the last layer, [..., D] -> [..., D].
  virtual torch::Tensor finish(const torch::Tensor& x, const Pass& /*pass*/) { return x; }
  virtual void add_embedding_sites(std::vector<AdapterSite>& sites) = 0;
  virtual void add_sites_behind(std::vector<AdapterSite>& /*sites*/) {}

  void add_layer(std::shared_ptr<Layer> layer) {
    layers_.push_back(register_module("layer" + std::to_string(layers_.size()), std::move(layer)));
  }
  /// The last layer stands for one more.
  void repeat_layer() { layers_.push_back(layers_.back()); }
  /// Puts a head on the first token's state, on the mean of all, or on every one; its weights join base_parameters_.
  void take_head(const EncoderHead& found, Pooling pooling) {
    if (!found.head) return;
    head_ = register_module("head", found.head);
    head_pooling_ = pooling;
    of_tokens_ = found.of_tokens;
    base_parameters_.insert(base_parameters_.end(), found.weights.begin(), found.weights.end());
  }
  std::vector<NamedTensor> base_parameters_;

 private:
  /// [B, D]
  torch::Tensor head_input(const Batch& batch) {
    if (head_pooling_ == Pooling::cls) return first_states(batch);
    const auto pass = begin(batch);
    return pool(pass->packing.unpack(all_states(batch, pass)), batch.attention_mask, head_pooling_);
  }

  torch::Tensor all_states(const Batch& batch, const std::shared_ptr<const Pass>& pass) {
    return finish(run(embed(batch, *pass), pass, layers_.size()), *pass);
  }

  /// x [N, D] through the first `count` layers.
  torch::Tensor run(torch::Tensor x, const std::shared_ptr<const Pass>& pass, size_t count) const {
    for (size_t i = 0; i < count; ++i) {
      const auto& layer = layers_[i];
      x = through(*layer, x, pass,
                  [layer, pass](const std::vector<torch::Tensor>& in) { return layer->forward(in, *pass); });
    }
    return x;
  }

  /// run({x, shared...}), keeping nothing but these for the backward pass where that is asked for.
  torch::Tensor through(const Layer& layer, const torch::Tensor& x, const std::shared_ptr<const Pass>& pass,
                        const LayerFunction& run) const {
    std::vector<torch::Tensor> in{x};
    in.insert(in.end(), pass->shared.begin(), pass->shared.end());
    return checkpointing_ ? recomputed(layer, in, run) : run(in);
  }

  std::string family_;
  std::vector<std::shared_ptr<Layer>> layers_;
  std::shared_ptr<ClassificationHead> head_;
  Pooling head_pooling_ = Pooling::cls;
  bool of_tokens_ = false, checkpointing_ = false;
};

}  // namespace deeplora
