// Merged exports: the archive's own code with W + delta in place of W, and a new head compiled around it.
#pragma once

#include <filesystem>
#include <string>

#include "graph/torchscript_forward.h"
#include "lm/adapt.h"
#include "model_files/torchscript_file.h"

namespace deeplora {

/// What was checked before the file was given its name.
struct MergeReport {
  double difference = 0;  ///< merged file against the live adapted model on a probe batch, relative to the largest logit
  int64_t merged_weights = 0;
  double rounding = 0;    ///< largest |cast(W + delta) - (W + delta)| over all weights: what the archive's dtype loses
};

/// Writes the merged TorchScript file: code, names, dtypes and extra files of the archive, plus `info` as deeplora.json.
/// `archive` is loaded again from its file, so the live model stays as it is. Throws Error, leaving nothing behind, when the
/// reloaded file does not give the live model's logits.
MergeReport export_torchscript(const TorchScriptArchive& archive, const ArchiveInterface& interface, AdaptedModel& adapted,
                               const nlohmann::ordered_json& info, const std::filesystem::path& output);

/// Writes all merged weights under their Hugging Face names (and head.weight, head.bias of a new head). `output` ending in
/// .safetensors is one file; else a new folder with model.safetensors, config.json and the tokenizer files.
MergeReport export_safetensors(const ModelFiles& archive, const AdaptedModel& adapted, const std::filesystem::path& output);

/// A TorchScript file used as it is: forward only, no adapter sites. What exported models are predicted with.
class ArchiveModel : public LanguageModel {
 public:
  ArchiveModel(const TorchScriptArchive& archive, const ArchiveInterface& interface)
      : archive_(archive), forward_(archive, interface), logits_(gives_logits(archive)) {}
  ModelOutput forward(const Batch& batch) override;
  std::vector<AdapterSite> sites() override { return {}; }
  std::vector<NamedTensor> base_parameters() override;
  std::string family() const override { return "archive"; }
  bool takes_padding() const override { return forward_.takes("attention_mask"); }

 private:
  TorchScriptArchive archive_;
  ArchiveForward forward_;
  bool logits_;
};

}  // namespace deeplora
