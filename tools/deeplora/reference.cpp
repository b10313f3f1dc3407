// What the program can say about itself: every configuration key, a manual page, completion scripts. All from the same
// tables that it reads its input with.
#include <algorithm>
#include <iostream>
#include <map>
#include <memory>
#include <set>
#include <sstream>

#include "commands.h"
#include "compare_config.h"
#include "complete_ratings.h"
#include "completion_sweep.h"
#include "deeplora_version.h"
#include "run_config.h"

namespace deeplora {
namespace {

/// The options of several readings of one section, in the order of their first appearance.
class Collected {
 public:
  /// Adds every option below `section` of one reading; `variant` is what was chosen for it ("lora").
  void add(const std::vector<ConfigOption>& options, const std::string& section, const std::string& variant) {
    ++readings_;
    for (const auto& option : options) {
      if (option.path.rfind(section + ".", 0) != 0) continue;
      auto& entry = entries_[option.path];
      if (entry.variants.empty()) order_.push_back(option.path), entry.option = option;
      entry.differs |= entry.option.default_value != option.default_value;
      entry.variants.push_back(variant);
    }
  }

  void print(std::ostream& out, const std::string& title, const std::string& chosen_by) const {
    out << "\n## " << title << "\n\n| key | default | " << (chosen_by.empty() ? "" : chosen_by + " | ")
        << "meaning |\n|---|---|" << (chosen_by.empty() ? "" : "---|") << "---|\n";
    for (const auto& path : order_) {
      const Entry& entry = entries_.at(path);
      out << "| `" << key(path) << "` | " << (entry.differs ? "by " + chosen_by : code(entry.option.default_value))
          << " | ";
      if (!chosen_by.empty())
        out << (entry.variants.size() == readings_ ? "every" : join(entry.variants, ", ", 99)) << " | ";
      out << cell(entry.option.doc) << " |\n";
    }
  }

 private:
  struct Entry {
    ConfigOption option;
    std::vector<std::string> variants;
    bool differs = false;  ///< in its default, between variants
  };
  static std::string cell(std::string text) {
    for (size_t at = 0; (at = text.find('|', at)) != std::string::npos; at += 2) text.insert(at, "\\");
    return text;
  }
  static std::string code(const std::string& value) {
    const bool none = value.empty() || value == "\"\"" || value == "~" || value == "[]";
    return none ? "" : "`" + cell(value) + "`";
  }
  /// The reading below has one method in its list; there may be any number.
  static std::string key(std::string path) {
    const std::string item = "methods.0.";
    if (const size_t at = path.find(item); at != std::string::npos) path.replace(at, item.size(), "methods.N.");
    return path;
  }

  std::map<std::string, Entry> entries_;
  std::vector<std::string> order_;
  size_t readings_ = 0;
};

/// Reads an incomplete configuration for the options it announces; the mistakes are beside the point.
template <class Read>
std::vector<ConfigOption> announced(const Config& config, const Read& read) {
  try {
    read(config);
  } catch (const Error&) {
  }
  return config.options();
}

void print_configuration(std::ostream& out) {
  const Registries registries = make_registries();
  const auto run = [&](const std::string& yaml) {
    return announced(Config::parse(yaml), [&](const Config& config) { RunConfig::read(config, registries); });
  };
  Collected model, data, adapter, head, train, report;
  for (const auto& task : registries.tasks.names()) data.add(run("data: {task: " + task + "}"), "data", task);
  for (const auto& method : registries.methods.names()) {
    // Keys of a form that another key switches on come along.
    auto options = run("{adapter: {method: " + method + "}, data: {task: regression}}");
    for (const char* more : {"compress: true", "init: gaussian"})
      for (const auto& option : run("{adapter: {method: " + method + ", " + more + "}, data: {task: regression}}"))
        if (std::none_of(options.begin(), options.end(), [&](const auto& known) { return known.path == option.path; }))
          options.push_back(option);
    adapter.add(options, "adapter", method);
    train.add(options, "train", method);
    if (method != registries.methods.names().front()) continue;
    model.add(options, "model", method);
    head.add(options, "head", method);
    report.add(options, "report", method);
  }
  Collected compare, completion;
  compare.add(announced(Config::parse("compare: {methods: [{name: the first, adapter: {method: lora}}]}"),
                        [&](const Config& config) { CompareConfig::announce(config, registries); }),
              "compare", "");
  completion.add(announced(Config::parse("completion: {train: ratings.csv, grid: {rank: [1]}}"),
                           [&](const Config& config) {
                             const Config section = config.section("completion");
                             const CompletionConfig common = CompletionConfig::read(section);
                             read_ratings_config(section, common);
                             CompletionSweep::read(section);
                           }),
                 "completion", "");
  out << "# Configuration reference\n\nMade by `deeplora reference config`; do not edit. What the keys are for is told "
         "in [configuration](configuration.md).\n";
  model.print(out, "model", "");
  data.print(out, "data", "task");
  adapter.print(out, "adapter", "method");
  head.print(out, "head", "");
  train.print(out, "train", "method");
  report.print(out, "report", "");
  compare.print(out, "compare", "");
  completion.print(out, "completion", "");
}

std::vector<CLI::App*> commands_of(CLI::App& app) {
  return app.get_subcommands([](const CLI::App*) { return true; });
}

/// A text for troff: backslashes and dots at the start of lines mean nothing there.
std::string troff(const std::string& text) {
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if ((i == 0 || text[i - 1] == '\n') && (text[i] == '.' || text[i] == '\'')) out += "\\&";
    if (text[i] == '\\') out += "\\e";
    else if (text[i] == '-') out += "\\-";
    else out += text[i];
  }
  return out;
}

void print_options(std::ostream& out, const CLI::App& command) {
  for (const CLI::Option* option : command.get_options()) {
    const std::string name = option->get_positional() ? option->get_name(true) : option->get_name(false, true);
    out << ".TP\n.B " << troff(name)
        << (option->get_type_size() > 0 && !option->get_positional() ? " \\fI" + troff(option->get_type_name()) + "\\fR"
                                                                     : "")
        << "\n"
        << troff(option->get_description()) << "\n";
  }
}

void print_manual(std::ostream& out, CLI::App& app) {
  out << ".TH DEEPLORA 1 \"\" \"deeplora " << kVersion << "\" \"User Commands\"\n.SH NAME\ndeeplora \\- "
      << troff(app.get_description()) << "\n.SH SYNOPSIS\n.B deeplora\n.I COMMAND\n[options]\n.SH OPTIONS\n";
  print_options(out, app);
  for (CLI::App* command : commands_of(app)) {
    out << ".SH DEEPLORA " << troff(command->get_name()) << "\n" << troff(command->get_description()) << ".\n";
    print_options(out, *command);
    if (!command->get_footer().empty()) out << ".PP\n.nf\n" << troff(command->get_footer()) << "\n.fi\n";
  }
  out << ".SH EXIT STATUS\n0 done; 1 the input is wrong, one line says what; 2 wrong usage; 3 an internal fault; 130 "
         "interrupted, after saving.\n";
}

/// Long names of a command's options.
std::vector<std::string> flags_of(const CLI::App& command) {
  std::vector<std::string> out;
  for (const CLI::Option* option : command.get_options())
    for (const auto& name : option->get_lnames()) out.push_back("--" + name);
  return out;
}

void print_bash(std::ostream& out, CLI::App& app) {
  std::vector<std::string> names;
  for (const CLI::App* command : commands_of(app)) names.push_back(command->get_name());
  out << "# bash completion of deeplora: source it, or put it in bash-completion's folder as deeplora\n_deeplora() {\n"
      << "  local word=\"${COMP_WORDS[COMP_CWORD]}\" words=\"" << join(names, " ", 999) << " "
      << join(flags_of(app), " ", 999) << "\" part\n"
      << "  for part in \"${COMP_WORDS[@]:1:COMP_CWORD-1}\"; do\n    case \"$part\" in\n";
  for (CLI::App* command : commands_of(app))
    out << "      " << command->get_name() << ") words=\"" << join(flags_of(*command), " ", 999) << "\" ;;\n";
  out << "    esac\n  done\n  if [[ $word == -* || $COMP_CWORD == 1 ]]; then mapfile -t COMPREPLY < <(compgen -W "
         "\"$words\" -- \"$word\")\n"
      << "  else mapfile -t COMPREPLY < <(compgen -f -- \"$word\"); fi\n}\ncomplete -o filenames -F _deeplora "
         "deeplora\n";
}

void print_fish(std::ostream& out, CLI::App& app) {
  const auto quoted = [](std::string text) {
    for (size_t at = 0; (at = text.find('\'', at)) != std::string::npos; at += 2) text.insert(at, "\\");
    return "'" + text + "'";
  };
  for (CLI::App* command : commands_of(app)) {
    out << "complete -c deeplora -n __fish_use_subcommand -a " << command->get_name() << " -d "
        << quoted(command->get_description()) << "\n";
    for (const CLI::Option* option : command->get_options())
      for (const auto& name : option->get_lnames())
        out << "complete -c deeplora -n '__fish_seen_subcommand_from " << command->get_name() << "' -l " << name
            << (option->get_type_size() > 0 ? " -r" : "") << " -d " << quoted(option->get_description()) << "\n";
  }
}

void print_zsh(std::ostream& out, CLI::App& app) {
  out << "#compdef deeplora\nautoload -U +X bashcompinit && bashcompinit\n";  // zsh runs bash's function
  print_bash(out, app);
}

}  // namespace

void setup_reference(CLI::App& app, Action& action) {
  auto what = std::make_shared<std::string>();
  CLI::App* command = app.add_subcommand(
      "reference", "Prints every configuration key, the manual page, or a shell's completion script");
  command->add_option("WHAT", *what, "config (Markdown), man, bash, zsh or fish")
      ->required()
      ->check(CLI::IsMember({"config", "man", "bash", "zsh", "fish"}));
  command->footer("Example:\n  deeplora reference man > deeplora.1\n  source <(deeplora reference bash)");
  command->callback([&app, &action, what] {
    action = [&app, what] {
      if (*what == "config") print_configuration(std::cout);
      else if (*what == "man") print_manual(std::cout, app);
      else if (*what == "bash") print_bash(std::cout, app);
      else if (*what == "zsh") print_zsh(std::cout, app);
      else print_fish(std::cout, app);
    };
  });
}

}  // namespace deeplora
