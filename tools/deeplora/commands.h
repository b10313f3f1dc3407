// The subcommands: each setup adds one to the program and says what runs when it is chosen.
#pragma once

#include <CLI/CLI.hpp>

#include <functional>
#include <string>
#include <vector>

namespace deeplora {

/// What the chosen subcommand does; set by its callback, run after parsing.
using Action = std::function<void()>;

/// --model PATH of the subcommands that use a run.
void add_model_option(CLI::App& command, std::string& path);

void setup_inspect(CLI::App& app, Action& action);
void setup_finetune(CLI::App& app, Action& action);
void setup_evaluate(CLI::App& app, Action& action);
void setup_compare(CLI::App& app, Action& action);
void setup_predict(CLI::App& app, Action& action);
void setup_export(CLI::App& app, Action& action);
void setup_complete(CLI::App& app, Action& action);
void setup_init(CLI::App& app, Action& action);
void setup_chat(CLI::App& app, Action& action);
void setup_reference(CLI::App& app, Action& action);

}  // namespace deeplora
