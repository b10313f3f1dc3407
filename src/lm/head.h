// A new classification or regression head on an encoder without one.
#pragma once

#include <ATen/core/Generator.h>

#include "lm/language_model.h"

namespace deeplora {

/// How [B, T, D] becomes [B, D].
enum class Pooling {
  mean /* over tokens that are not padding */,
  cls /* first cell */,
  max,
  last /* last token */,
  none /* [B, T, D] stays as it is: a head for every token */
};
Pooling parse_pooling(const std::string& name);
std::string to_string(Pooling pooling);

/// What the model's own 1_Pooling/config.json (of sentence-transformers; pooling.json in an archive) says; nothing
/// where it has none. Throws Error for a pooling that this program does not know, and for several at once.
std::optional<Pooling> pooling_of(const ModelFiles& files);

/// Names of the modules that the model's own modules.json (of sentence-transformers) puts behind the pooling, in their
/// order: "Normalize", "Dense". Throws Error for a file that begins otherwise.
std::vector<std::string> modules_behind_pooling(const ModelFiles& files);

/// states [B, T, D], mask [B, T] or undefined (all cells count) -> [B, D] ([B, T, D] without pooling), float32 or
/// wider.
torch::Tensor pool(const torch::Tensor& states, const torch::Tensor& mask, Pooling pooling);

/// pooled [B, D] / |pooled|, as torch.nn.functional.normalize has it.
torch::Tensor normalized(const torch::Tensor& pooled);

struct HeadOptions {
  int64_t outputs = 1;
  Pooling pooling = Pooling::mean;
  bool normalize = false;  ///< normalized() in front of the linear layer
  double dropout = 0.1;
  double shift = 0, scale = 1;  ///< logits = scale * (W pooled + b) + shift, in float64 unless these are 0 and 1:
                                ///< regression targets are learnt standardised
  bool train = true;
};

/// The model's states of a batch as its head reads them [B, D] ([B, T, D] without pooling): pooled, or its
/// first_states() where these are asked for and it has some. `what` names the head in messages.
torch::Tensor pooled_states(LanguageModel& model, const Batch& batch, Pooling pooling, std::string_view what);

/// Encoder + pooling + linear as one LanguageModel: logits [B, C], or [B, T, C] without pooling. The base's adapter
/// sites stay its own.
class ModelWithHead : public LanguageModel {
 public:
  /// `width` is D. The head starts at uniform(-1/sqrt D, 1/sqrt D) with bias 0.
  ModelWithHead(std::shared_ptr<LanguageModel> base, int64_t width, HeadOptions options, at::Generator generator,
                torch::Device device);

  ModelOutput forward(const Batch& batch) override;
  std::vector<AdapterSite> sites() override { return base_->sites(); }
  std::vector<NamedTensor> base_parameters() override { return base_->base_parameters(); }
  bool takes_padding() const override { return base_->takes_padding(); }
  bool takes_ids() const override { return base_->takes_ids(); }
  std::vector<TensorInput> tensor_inputs() const override { return base_->tensor_inputs(); }
  void set_gradient_checkpointing(bool on) override { base_->set_gradient_checkpointing(on); }
  std::string family() const override { return base_->family(); }
  std::vector<std::pair<std::string, torch::Tensor>> checkpoints(const Batch& batch) override {
    return base_->checkpoints(batch);
  }

  const HeadOptions& options() const { return options_; }
  /// "weight" [C, D] and "bias" [C], before shift and scale.
  std::vector<NamedTensor> head_parameters() const { return {{"weight", weight_}, {"bias", bias_}}; }
  /// The same head without shift and scale, for exports: {weight [C, D], bias [C]} in float64.
  std::pair<torch::Tensor, torch::Tensor> folded() const;
  LanguageModel& base() { return *base_; }
  const std::shared_ptr<LanguageModel>& base_model() const { return base_; }
  /// Takes another weight [C, D] and bias [C] over.
  void set_head(const torch::Tensor& weight, const torch::Tensor& bias);

 private:
  std::shared_ptr<LanguageModel> base_;
  HeadOptions options_;
  torch::Tensor weight_, bias_;
};

}  // namespace deeplora
