#include "run_options.h"

#include "commands.h"
#include "usage_hints.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// "--lr (train.lr)", for messages.
std::string name_of_flag(const std::string& key) {
  for (const auto& [flag, its_key] : key_flags())
    if (key == its_key) return cat(flag, " (", key, ")");
  return key;
}

/// What a key was given on the command line; "" where it was not.
std::string given(const RunOptions& options, const std::string& key) {
  for (auto set = options.overrides.rbegin(); set != options.overrides.rend(); ++set)
    if (set->starts_with(key + "=")) return set->substr(key.size() + 1);
  for (const auto& [flag_key, value] : options.flags)
    if (flag_key == key) return value;
  return "";
}

}  // namespace

fs::path run_folder_of(const RunOptions& options) {
  if (!options.run.empty()) return options.run;
  if (!options.config.empty()) return fs::path("runs") / fs::path(options.config).stem();
  const std::string method = given(options, "adapter.method");
  return fs::path("runs") /
         cat(fs::path(given(options, "data.train")).stem().string(), "-", method.empty() ? "lora" : method);
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
  for (const auto& [key, value] : options.flags)
    for (const auto& [flag, its_key] : key_flags())
      if (key == its_key) out += cat(" ", flag, " ", shell_word(value));
  for (const auto& assignment : options.overrides) out += " --set " + shell_word(assignment);
  if (!options.run.empty()) out += " --run " + shell_word(options.run);
  return out + (options.resume ? " --resume" : "");
}

Config given_config(const RunOptions& options, const char* own_name) {
  const bool by_flags = options.config.empty() && !options.resume && !options.flags.empty();
  Config config =
      by_flags ? Config::parse("", "command line")
               : Config::load(options.config.empty() ? run_folder_of(options) / own_name : fs::path(options.config));
  for (const auto& [key, value] : options.flags) {
    config.set_text(key, value, name_of_flag(key));
    if (key == "train.epochs") config.set("train.steps=null");  // which would go before it
  }
  for (const auto& assignment : options.overrides) config.set(assignment);
  return config;
}

void add_model_option(CLI::App& command, std::string& path) {
  command.add_option("--model", path,
                     "Where the run's model lies now, if the run does not find it; recognised by its fingerprint");
}

}  // namespace deeplora
