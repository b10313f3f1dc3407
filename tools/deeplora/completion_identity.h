// What a run of `deeplora complete` is known by: the settings that decide its course, and the names of files made of
// settings.
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "train/run_folder.h"

namespace deeplora {

/// Settings of a resolved configuration by their paths, without those that may change when a run goes on: title,
/// threads, intervals of logs and checkpoints, and `also_free`.
nlohmann::ordered_json deciding_settings(const std::string& resolved, const std::set<std::string>& also_free);

/// Throws Error, naming them, when the run in `folder` was begun with other deciding settings than `resolved`, or is a
/// sweep where this is none (or the other way round). What may be added to a sweep, `completion.sweep`, `variants` and
/// `trials`, is not compared: its members are. Nothing is written.
void check_same_settings(const RunFolder& folder, const std::string& resolved, const std::set<std::string>& also_free,
                         bool sweep);

/// Settings of a synthetic run that may change when it goes on.
const std::set<std::string>& free_of_synthetic_runs();

/// `name` with every character that a file name should not hold as '_'; a name too long for one is cut and ends with
/// its checksum.
std::string file_name_of(const std::string& name);

}  // namespace deeplora
