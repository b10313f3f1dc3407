// Any TorchScript model with adapter slots: its own graph runs, and each adapted operator is replaced by a
// call of the adapter.
#pragma once

#include <ATen/core/function_schema.h>

#include <memory>
#include <string>
#include <vector>

#include "graph/sites.h"
#include "graph/torchscript_forward.h"
#include "lm/language_model.h"
#include "model_files/code_files.h"

namespace deeplora {

/// The fallback for models without a native family. Weights are aliases of the archive's; the archive's
/// module stays untouched.
///
/// A weight that is stored [in, out] (GPT-2's Conv1D) has a site [out, in] on a transposed view. With
/// half-precision weights an adapted layer computes in float32 and returns the archive's dtype. Of a weight that is
/// read by operators of another kind (an LSTM, a convolution, W * 2) the graph reads W + delta, formed once a pass; a
/// site of more dimensions is a matrix [first, rest].
class GraphModel : public LanguageModel {
 public:
  /// Never runs the archive's code. Throws Error when the archive is frozen or quantised, has no weight that
  /// an adapter can change, or was traced in training mode.
  GraphModel(const CodeFiles& archive, const ArchiveInterface& interface, const ModelOptions& options);

  /// 3-D outputs are hidden states unless export.json says logits; [B] becomes logits [B, 1]. Throws Error
  /// for a batch with padding when the model neither takes an attention_mask nor ignores padding by itself.
  ModelOutput forward(const Batch& batch) override;
  /// The adapted forward on its own arguments, in their order; those at the end that have defaults may be left out.
  /// Throws Error when the code refuses them.
  c10::IValue run(std::vector<c10::IValue> arguments);
  /// In the archive's order of names. The model owns the slots: it must outlive the sites.
  std::vector<AdapterSite> sites() override;
  std::vector<NamedTensor> base_parameters() override;
  std::string family() const override { return "graph"; }
  bool takes_padding() const override { return takes_padding_; }
  bool takes_ids() const override { return arguments_.takes("input_ids"); }
  std::vector<TensorInput> tensor_inputs() const override { return tensors_; }

  /// Takes a 3-D output as logits of every token [B, T, V], where the archive does not say what it is.
  void take_output_as_logits();

  /// Weights without a slot: {path, why}.
  std::vector<std::pair<std::string, std::string>> other_weights() const;
  /// Fields of rows that it takes.
  const std::vector<std::string>& row_tensors() const { return arguments_.row_tensors(); }
  /// The argument of forward whose values are looked up in a table as they come, as ids are; "" for none.
  std::string looked_up_argument(const CodeFiles& archive) const;
  /// Runs two batches of different sizes and, for a model without attention_mask, one text with and without
  /// padding. Throws Error when sizes were baked in by tracing.
  void probe(const CodeFiles& archive);

 private:
  struct Place;  ///< a site with its slot
  std::shared_ptr<Place> place_of(const GraphSite& use);
  /// Gives the layer that makes the chosen output its role, by the graph: a language model's is lm_head, any other's
  /// head. None where it makes hidden states.
  void name_output_layer(const char* role);
  /// Graph with the attached adapters spliced in; the executor runs no optimisation of its own.
  void rebuild();
  torch::Tensor check_probe(const CodeFiles& archive, const Batch& batch);
  /// Does the model find padding by itself, from its id?
  bool ignores_padding(const CodeFiles& archive);
  torch::Tensor output(const Batch& batch);
  /// What the graph with its adapters gives on the arguments of forward.
  c10::IValue execute(std::vector<c10::IValue> stack);
  std::string where_;
  ArchiveForward arguments_;
  std::vector<TensorInput> tensors_;
  LoweredForward lowered_;
  std::optional<double> dropout_;
  std::string chosen_;  ///< model.output
  std::vector<std::shared_ptr<Place>> places_;
  std::vector<std::pair<std::string, std::string>> others_;
  bool logits_ = false, takes_padding_ = true, changed_ = true;
  bool of_tokens_ = false;  ///< logits [B, T, C] of a head that classifies tokens

  struct Plan;
  std::shared_ptr<Plan> plan_;
  std::shared_ptr<const c10::FunctionSchema> schema_;  ///< of forward, without self
};

}  // namespace deeplora
