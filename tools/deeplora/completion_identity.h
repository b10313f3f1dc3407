// What a run of `deeplora complete` is known by: the settings that decide its course, and the names of files made of settings.
#pragma once

#include <nlohmann/json.hpp>
#include <set>
#include <string>

namespace deeplora {

/// Settings of a resolved configuration by their paths, without those that may change when a run goes on: title, threads, intervals of logs and
/// checkpoints, and `also_free`.
nlohmann::ordered_json deciding_settings(const std::string& resolved, const std::set<std::string>& also_free);

/// `name` with every character that a file name should not hold as '_'.
std::string file_name_of(const std::string& name);

}  // namespace deeplora
