// What a mistyped command or option may have meant.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

namespace deeplora {

/// An option that is short for a configuration key.
struct KeyFlag {
  const char *flag, *key;
};
/// Those of finetune.
const std::vector<KeyFlag>& key_flags();

/// One line for what a failed parse of the command line does not know, with the nearest name; "" where that is not what
/// is wrong.
std::string usage_hint(const CLI::App& app, const std::vector<std::string>& arguments);

}  // namespace deeplora
