// Options of generation that predict and chat share.
#pragma once

#include <CLI/CLI.hpp>

#include <string>
#include <vector>

namespace deeplora {

/// Each is short for a key of data.generation and goes into `overrides`, which must outlive the parsing.
void add_generation_flags(CLI::App& command, std::vector<std::string>& overrides);

}  // namespace deeplora
