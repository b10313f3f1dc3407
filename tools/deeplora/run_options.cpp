#include "run_options.h"

#include "commands.h"
#include "moved_files.h"

namespace deeplora {
namespace fs = std::filesystem;

fs::path run_folder_of(const RunOptions& options) {
  return options.run.empty() ? fs::path("runs") / fs::path(options.config).stem() : fs::path(options.run);
}

std::string shell_word(const std::string& text) {
  const char* plain = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=:,+@%";
  if (!text.empty() && text.find_first_not_of(plain) == std::string::npos) return text;
  std::string out = "'";
  for (const char c : text) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

std::string command_of(const std::string& subcommand, const RunOptions& options) {
  std::string out = "deeplora " + subcommand;
  if (!options.config.empty()) out += " " + shell_word(options.config);
  for (const auto& assignment : options.overrides) out += " --set " + shell_word(assignment);
  if (!options.run.empty()) out += " --run " + shell_word(options.run);
  return out + (options.resume ? " --resume" : "");
}

Config given_config(const RunOptions& options, const char* own_name) {
  Config config = Config::load(options.config.empty() ? run_folder_of(options) / own_name : fs::path(options.config));
  for (const auto& assignment : options.overrides) config.set(assignment);
  return config;
}

void add_model_option(CLI::App& command, std::string& path) {
  command.add_option("--model", path, "Where the run's model lies now, if the run does not find it; recognised by its fingerprint");
}

}  // namespace deeplora
