// Heads for classifying texts as transformers' ...ForSequenceClassification classes have them, on one state of every
// row.
#pragma once

#include "models/weight_map.h"

namespace deeplora {

/// What the families' heads differ in.
struct ClassHeadForm {
  std::string first{}, last{};  ///< layers by their names; no first: one linear layer
  bool first_in_base = false;   ///< the first is the base model's pooler
  std::string activation{"tanh"};
  bool drops_first = true;  ///< dropout in front of the first layer too
  bool bias = true;
};

/// The head that config.json's model has in transformers: weights, names and start. `name` is the family's in class
/// names ("Bert"), `base` the base model's in them ("bert."), `prefix` what stands before its weights in the files, D
/// the width of the states. `spread`: of the start; absent: as config.json says.
ClassHead describe_class_head(const ClassHeadForm& form, const ModelFiles& files, const std::string& name,
                              const std::string& base, const std::string& prefix, int64_t width, int64_t outputs,
                              std::optional<double> spread = std::nullopt);

/// True when the files hold the head's last layer.
bool holds_class_head(const ModelFiles& files, const ClassHeadForm& form, const std::string& above);

/// The head of BART's and T5's kind, on the decoder's state at the end of the text.
ClassHeadForm end_state_form();

/// The decoder's states [B, T, D] at the last end token of every row of ids [B, T]: [B, D]. Throws Error for a row
/// without one.
torch::Tensor end_states(const torch::Tensor& states, const torch::Tensor& ids, const torch::Tensor& mask, int64_t end);

/// The last state of every row [B, D] of states [B, T, D] at the ids [B, T] that `chosen` [B, T] marks. Rows without
/// any give their first.
torch::Tensor last_chosen(const torch::Tensor& states, const torch::Tensor& chosen);

/// [B, D] -> logits [B, C].
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
};

}  // namespace deeplora
