// The forms that `deeplora export` can write. One file each, one line each in interchange/registration.cpp.
#pragma once

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "core/registry.h"
#include "graph/torchscript_forward.h"
#include "interchange/model_card.h"
#include "lm/adapt.h"
#include "model_files/model_files.h"

namespace deeplora {

/// What a form may read of the run that is exported.
struct ExportSource {
  const ModelFiles& files;            ///< of the base model
  const ArchiveInterface& interface;  ///< how the run calls an archive
  AdaptedModel& adapted;
  ModelCard card;
  nlohmann::ordered_json info;     ///< deeplora.json: what predict needs to use the export without the run
  std::optional<int64_t> padding;  ///< the id that rows are padded with
};

struct ExportForm {
  std::string help;  ///< what is written, on one line
  /// Writes `output`, which does not exist, whole or not at all, and says what was written ("12 weights merged").
  /// Throws Error, naming them, for methods, weights and models that the form cannot hold.
  std::function<std::string(const ExportSource& source, const std::filesystem::path& output)> write;
  /// Whether what is written is compared with the live model, which then must read the files' own weights.
  bool compares_live = false;
};

/// modules.json, the modules that it names and a README.md, in a folder that write_merged_folder() wrote:
/// SentenceTransformer then opens it.
void add_sentence_modules(const std::filesystem::path& folder, const ExportSource& source);

using ExportForms = Registry<ExportForm>;

ExportForm torchscript_form();
ExportForm safetensors_form();
ExportForm peft_form();
ExportForm sentence_transformers_form();
ExportForm gguf_form();
ExportForm pt2_form();

}  // namespace deeplora
