// What every merged file with code has in common: its extra files, and that it is compared with the live model before
// it gets its name.
#pragma once

#include <map>
#include <optional>
#include <string>

#include "graph/torchscript_forward.h"
#include "interchange/head_module.h"
#include "interchange/merge.h"
#include "lm/adapt.h"
#include "model_files/code_files.h"

namespace deeplora {

/// Rows of several lengths and what the live adapted model, in evaluation, says to them.
struct LiveProbe {
  Batch batch;             ///< on the CPU
  torch::Tensor expected;  ///< its output
};
/// Cells beyond a text hold `padding`, if it is given and the model takes padding, so that a pooling that reads them is
/// found out.
LiveProbe probe_live(const CodeFiles& archive, AdaptedModel& adapted, std::optional<int64_t>& padding);

/// Compares a written file with the live model and notes the difference. Throws Error when it is more than the dtypes
/// allow.
void check_merged(const CodeFiles& written, const ArchiveInterface& interface, const LiveProbe& probe,
                  const CodeFiles& archive, const AdaptedModel& adapted, MergeReport& report);

/// The archive's extra files with deeplora.json and the labels of the task in config.json. With an `end` export.json
/// says what the file gives, where a new head lies, and that `base` ("base.", or "") stands in front of the names of
/// all other weights.
std::map<std::string, std::string> merged_extras(const CodeFiles& archive, const nlohmann::ordered_json& info,
                                                 const std::optional<StatesEnd>& end, const std::string& head_module,
                                                 const std::string& base);

}  // namespace deeplora
