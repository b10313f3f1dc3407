// The archive's own forward on a batch: what runs where no native family does, and what native families are compared with.
#pragma once

#include <map>
#include <memory>
#include <string>
#include <vector>

#include "lm/parity.h"
#include "model_files/torchscript_file.h"

namespace deeplora {

/// Which argument of forward takes which input of a batch, and which part of the result is the output.
struct ArchiveInterface {
  std::map<std::string, std::string> inputs;  ///< input ("input_ids") -> argument name where they differ (model.inputs)
  std::string output;                         ///< "" the first tensor; "1", "logits", "0.logits" (model.output)
  bool complete = true;                       ///< false: arguments that are no known input are let pass; the model is only looked at
};

/// The archive's own forward on a batch.
class ArchiveForward : public ReferenceForward {
 public:
  /// Throws Error when an argument without default is no known input, or input_ids has no argument.
  ArchiveForward(const TorchScriptArchive& archive, const ArchiveInterface& interface);

  /// Runs the module's forward in eval mode; the caller guards gradients. Throws Error when the archive's code fails on
  /// the batch (sizes baked in by tracing, ids beyond the vocabulary), with the reason in one line.
  torch::Tensor operator()(const Batch& batch) const override;
  std::vector<torch::Tensor> layer_norms(const Batch& batch) const override;
  /// Arguments of the batch in the order of forward.
  std::vector<torch::jit::IValue> arguments(const Batch& batch) const;
  /// True when some argument takes that input of a batch ("attention_mask").
  bool takes(const std::string& input) const;
  /// The chosen tensor of forward's result.
  torch::Tensor select(const torch::jit::IValue& result) const;

 private:
  mutable torch::jit::Module module_;
  std::vector<std::string> roles_;  ///< input of the batch for each argument, "" for its default
  std::vector<c10::IValue> defaults_;
  std::string output_;
};

/// compare_with_reference() with the archive's own forward.
ParityResult compare_with_archive(const TorchScriptArchive& archive, const ArchiveInterface& interface, LanguageModel& model);

/// The forward pass that these files hold; null where they hold none.
std::unique_ptr<ReferenceForward> reference_forward(const ModelFiles& files, const ArchiveInterface& interface);

/// True when the model takes that input of a batch ("decoder_input_ids"). Throws Error as ArchiveForward does.
bool takes_input(const ModelFiles& files, const ArchiveInterface& interface, const std::string& input);

/// The archive that these files are. Throws Error, saying what needs one, where they are no archive.
const TorchScriptArchive& archive_of(const ModelFiles& files, const std::string& needed_by);

}  // namespace deeplora
