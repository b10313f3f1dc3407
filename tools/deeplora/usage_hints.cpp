#include "usage_hints.h"

#include <algorithm>
#include <cctype>

#include "core/error.h"
#include "core/foreign_names.h"

namespace deeplora {
namespace {

std::vector<const CLI::App*> commands(const CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

std::vector<std::string> names_of(const std::vector<const CLI::App*>& apps) {
  std::vector<std::string> out;
  for (const CLI::App* app : apps) out.push_back(app->get_name());
  return out;
}

std::vector<std::string> flags_of_command(const CLI::App& app) {
  std::vector<std::string> out;
  for (const CLI::Option* option : app.get_options())
    for (const auto& name : option->get_lnames()) out.push_back("--" + name);
  return out;
}

/// " (did you mean '--lr'?)" by meaning, else by spelling.
std::string meant_flag(const std::string& flag, const std::vector<std::string>& known) {
  const std::string key = key_meant_by(flag);
  for (const auto& [ours, its_key] : key_flags())
    if (key == its_key && std::find(known.begin(), known.end(), ours) != known.end())
      return cat(" (did you mean '", ours, "'?)");
  if (!key.empty() && std::find(known.begin(), known.end(), "--set") != known.end())
    return cat(" (did you mean --set ", key, "=...?)");
  return did_you_mean(flag, known);
}

}  // namespace

const std::vector<KeyFlag>& key_flags() {
  static const std::vector<KeyFlag> flags{{"--model", "model.path"},      {"--train", "data.train"},
                                          {"--dev", "data.dev"},          {"--test", "data.test"},
                                          {"--task", "data.task"},        {"--text", "data.text"},
                                          {"--label", "data.label"},      {"--text-pair", "data.text_pair"},
                                          {"--method", "adapter.method"}, {"--rank", "adapter.rank"},
                                          {"--lr", "train.lr"},           {"--steps", "train.steps"},
                                          {"--epochs", "train.epochs"},   {"--seed", "train.seed"}};
  return flags;
}

std::string usage_hint(const CLI::App& app, const std::vector<std::string>& arguments) {
  const auto all = commands(app);
  const auto names = names_of(all);
  const CLI::App* command = nullptr;
  for (const auto& argument : arguments) {
    if (argument == "--") return "";
    const bool option =
        argument.size() > 1 && argument.front() == '-' && std::isdigit(static_cast<unsigned char>(argument[1])) == 0;
    if (!option && !command) {
      const auto found = std::find(names.begin(), names.end(), argument);
      if (found == names.end())
        return cat("unknown command '", argument, "'", did_you_mean(argument, names), "; commands: ", join(names));
      command = all[static_cast<size_t>(found - names.begin())];
    }
    if (!option || !argument.starts_with("--")) continue;
    const std::string flag = argument.substr(0, argument.find('='));
    std::vector<std::string> known = flags_of_command(app);
    if (command)
      for (auto& one : flags_of_command(*command)) known.push_back(std::move(one));
    if (std::find(known.begin(), known.end(), flag) != known.end()) continue;
    const std::string name = command ? command->get_name() : std::string();
    return cat(name.empty() ? "" : name + ": ", "unknown option ", flag, meant_flag(flag, known), "; deeplora ",
               name.empty() ? "" : name + " ", "--help lists them");
  }
  return "";
}

}  // namespace deeplora
