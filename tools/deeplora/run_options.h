// What the subcommands that make a run folder have in common: CONFIG, --set, --run, --resume, --print-config.
#pragma once

#include <filesystem>
#include <string>
#include <utility>
#include <vector>

#include "core/config.h"

namespace deeplora {

struct RunOptions {
  std::string config;
  std::vector<std::pair<std::string, std::string>>
      flags;  ///< {"train.lr", "1e-3"}: keys that were given as options of their own
  std::vector<std::string> overrides;
  std::string run;
  bool resume = false, print_config = false;
};

/// RUN, or runs/<name of the configuration> when no --run is given; without a configuration runs/<name of the training
/// file>-<method>.
std::filesystem::path run_folder_of(const RunOptions& options);

/// The command line that these options stand for, quoted for a shell: "deeplora finetune lora.yaml --set train.lr=1e-3
/// --run runs/lora".
std::string command_of(const std::string& subcommand, const RunOptions& options);
/// A word as a shell takes it.
std::string shell_word(const std::string& text);

/// CONFIG, or the run folder's own when it is left out (nothing for a new run), under the flags, under the overrides.
Config given_config(const RunOptions& options, const char* own_name = "config.yaml");

}  // namespace deeplora
