// Heads for classifying texts as transformers' ...ForSequenceClassification classes have them, on one state of every
// row, and those of its ...ForTokenClassification classes, on every state.
#pragma once

#include "models/norms.h"
#include "models/weight_map.h"

namespace deeplora {

/// What the families' heads differ in.
struct ClassHeadForm {
  std::string first{}, last{};  ///< layers by their names; no first: one linear layer
  bool first_in_base = false;   ///< the first is the base model's pooler
  std::string activation{"tanh"};
  std::string norm{};  ///< LayerNorm behind the first layer and its activation; empty: none
  double norm_eps = 1e-5;
  bool norm_bias = true;
  std::optional<double> first_dropout{};  ///< in front of the first layer; absent: that in front of the last
  DeclaredBias first_bias{true}, last_bias{true};
  bool of_tokens = false;  ///< on every state
};

/// What a head starts with: normal(0, spread) within `cut` spreads, 0 for no limit.
struct ClassHeadStart {
  double first = 0, last = 0, cut = 0;
};

/// The head that config.json's model has in transformers: weights, names and start. `name` is the family's in class
/// names ("Bert"), `base` the base model's in them ("bert."), `prefix` what stands before its weights in the files, D
/// the width of the states. `start`: absent: one spread for all, as config.json says.
ClassHead describe_class_head(const ClassHeadForm& form, const ModelFiles& files, const std::string& name,
                              const std::string& base, const std::string& prefix, int64_t width, int64_t outputs,
                              std::optional<ClassHeadStart> start = std::nullopt);

/// True when the files hold the head's last layer.
bool holds_class_head(const ModelFiles& files, const ClassHeadForm& form, const std::string& above);

/// The head of BART's and T5's kind, on the decoder's state at the end of the text.
ClassHeadForm end_state_form();

/// The head for tokens: dropout and one linear layer of that name.
ClassHeadForm token_form(const std::string& layer = "classifier");

/// The probability of that dropout in decoders, which have no key of their own for it.
double token_dropout(const JsonFile& config, const ModelOptions& options);

/// The decoder's states [B, T, D] at the last end token of every row of ids [B, T]: [B, D]. Throws Error for a row
/// without one.
torch::Tensor end_states(const torch::Tensor& states, const torch::Tensor& ids, const torch::Tensor& mask, int64_t end);

/// The last state of every row [B, D] of states [B, T, D] at the ids [B, T] that `chosen` [B, T] marks. Rows without
/// any give their first.
torch::Tensor last_chosen(const torch::Tensor& states, const torch::Tensor& chosen);

/// [..., D] -> logits [..., C].
class ClassificationHead : public torch::nn::Module {
 public:
  /// `above` reads the weights beside the base model, `base` those of the base model. A pooler that the files hold is a
  /// layer that adapters may change; everything else is the head.
  ClassificationHead(WeightMap& above, WeightMap& base, const ClassHeadForm& form, int64_t width, double dropout,
                     const ModelOptions& options);
  torch::Tensor forward(torch::Tensor x);
  void add_sites(std::vector<AdapterSite>& sites);

 private:
  ClassHeadForm form_;
  double dropout_, shift_, scale_;
  std::string first_role_ = "head";
  Projection first_{nullptr}, last_{nullptr};
  FrozenLayerNorm norm_{nullptr};
};

/// True when an encoder below `prefix` is to have its family's head of that form: it is asked for, or the files hold
/// one, for texts or for tokens.
bool takes_class_head(const ModelFiles& files, const ClassHeadForm& form, const std::string& prefix,
                      const ModelOptions& options);

/// That head, and the weights beside the base model that it reads. `base` reads the base model, of that width. Throws
/// Error with what the files lack of it.
struct EncoderHead {
  std::shared_ptr<ClassificationHead> head{};
  std::vector<NamedTensor> weights{};
  bool of_tokens = false;
};
EncoderHead encoder_head(const ModelFiles& files, WeightMap& base, const ClassHeadForm& form, const std::string& family,
                         int64_t width, double dropout, const ModelOptions& options);

}  // namespace deeplora
