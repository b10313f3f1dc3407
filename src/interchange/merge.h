// Merged exports: the archive's own code with W + delta in place of W, and a new head compiled around it.
#pragma once

#include <filesystem>
#include <optional>
#include <string>

#include "core/long_work.h"
#include "graph/torchscript_forward.h"
#include "interchange/model_card.h"
#include "lm/adapt.h"
#include "model_files/torchscript_file.h"

namespace deeplora {

/// What was checked before the file was given its name.
struct MergeReport {
  /// Merged file against the live adapted model on rows of several lengths, relative to the largest logit; of a
  /// regression with a new head, in units of the targets' spread.
  double difference = 0;
  int64_t merged_weights = 0;
  double rounding =
      0;  ///< largest |cast(W + delta) - (W + delta)| over all weights and a new head: what the file's dtypes lose
};

/// W + delta of every adapted weight and what was trained itself, one weight at a time, in the dtypes of a target.
class MergedValues {
 public:
  MergedValues(const ModelFiles& target, const AdaptedModel& adapted);
  const std::vector<std::string>& names() const { return names_; }
  torch::Tensor of(const std::string& name);
  /// What the weights asked for so far lost by rounding. Throws Error with all of them that their dtype cannot hold.
  double rounding() const;

 private:
  const ModelFiles& target_;
  const AdaptedModel& adapted_;
  std::vector<std::string> names_;
  LongWork work_;
  double rounding_ = 0;
  Errors errors_;
};

/// Throws Error unless `target` is `files` opened once more, unchanged; puts the head that a run put on those on it
/// too.
void prepare_target(ModelFiles& target, const ModelFiles& files);

/// Puts W + delta of every adapted weight, and what was trained itself, into `target`: the same files opened once more.
/// Throws Error when they changed, and with every weight that its dtype cannot hold.
void merge_into(ModelFiles& target, const ModelFiles& files, const AdaptedModel& adapted, MergeReport& report);

/// "12 weights merged, rounding at most 0"
std::string said_of_merge(const MergeReport& report);

/// Writes the merged TorchScript file: code, names, dtypes and extra files of the archive, plus `info` as
/// deeplora.json. A new head lies beside the archive's module, and export.json says so: the file is a model with a head
/// for whoever trains it next. `archive` is loaded again from its file, so the live model stays as it is. `padding` is
/// the id that rows are padded with: a new head around a model without attention_mask finds padding by it. Throws
/// Error, leaving nothing behind, when a weight does not fit its dtype or the reloaded file does not give the live
/// model's logits.
MergeReport export_torchscript(const TorchScriptArchive& archive, const ArchiveInterface& interface,
                               AdaptedModel& adapted, const nlohmann::ordered_json& info,
                               const std::filesystem::path& output, std::optional<int64_t> padding = std::nullopt);

/// Writes the merged parameters under their Hugging Face names, tied ones once, in the model files' dtypes. `output`
/// ending in .safetensors is one file (with head.weight and head.bias of a new head); else a new folder as transformers
/// opens it: model.safetensors, config.json, the tokenizer files, README.md, head.safetensors (weight, bias) where the
/// head is none of transformers', and `info` as deeplora.json unless it is empty. Throws Error when a weight does not
/// fit its dtype.
MergeReport export_safetensors(const ModelFiles& archive, const AdaptedModel& adapted,
                               const std::filesystem::path& output, const ModelCard& card = {},
                               const nlohmann::ordered_json& info = {});

/// Fills an empty folder so. Throws Error as export_safetensors does.
MergeReport write_merged_folder(const std::filesystem::path& folder, const ModelFiles& archive,
                                const AdaptedModel& adapted, const ModelCard& card, const nlohmann::ordered_json& info);

/// "weight" [C, D] and "bias" [C] of a new head with the targets' mean and spread in them, as files hold them: float32,
/// of a regression float64.
std::vector<NamedTensor> head_tensors(const ModelWithHead& head);

/// A file with code used as it is: forward only, no adapter sites. What exported models are predicted with.
class ArchiveModel : public LanguageModel {
 public:
  ArchiveModel(std::shared_ptr<const CodeFiles> files, const ArchiveInterface& interface)
      : files_(std::move(files)),
        forward_(*files_, interface),
        tensors_(interface.tensors),
        logits_(gives_logits(*files_)) {}
  ModelOutput forward(const Batch& batch) override;
  std::vector<AdapterSite> sites() override { return {}; }
  std::vector<NamedTensor> base_parameters() override;
  std::string family() const override { return "archive"; }
  bool takes_padding() const override { return !takes_ids() || forward_.takes("attention_mask"); }
  bool takes_ids() const override { return forward_.takes("input_ids"); }
  std::vector<TensorInput> tensor_inputs() const override { return tensors_; }

 private:
  std::shared_ptr<const CodeFiles> files_;
  ArchiveForward forward_;
  std::vector<TensorInput> tensors_;
  bool logits_;
};

}  // namespace deeplora
