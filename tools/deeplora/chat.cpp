// A conversation with a language model: loaded once, a turn a line.
#include <unistd.h>

#include <iostream>

#include "commands.h"
#include "core/log.h"
#include "generation_flags.h"
#include "predictor.h"
#include "tasks/id_limits.h"

namespace deeplora {
namespace {

struct ChatOptions {
  std::string model, system, chat_template;
  std::vector<std::string> overrides;
  bool last = false;
};

/// The turns so far, and how the next one becomes a row.
class Talk {
 public:
  Talk(const Predictor& p, std::string system) : p_(p), system_(std::move(system)) { begin(); }

  void begin() {
    turns_ = nlohmann::ordered_json::array();
    if (!system_.empty()) turns_.push_back({{"role", "system"}, {"content", system_}});
  }
  /// Without a template every line is a prompt of its own.
  void forget_turns() { alone_ = true; }

  std::vector<Example> examples(const std::string& line) {
    Row row{"the line", nlohmann::ordered_json::object()};
    if (alone_) {
      row.fields[p_.task().columns(false).front()] = line;
    } else {
      auto turns = turns_;
      turns.push_back({{"role", "user"}, {"content", line}});
      row.fields["messages"] = std::move(turns);
    }
    return {p_.task().encode(row, p_.tokenizer.get(), false)};
  }
  void remember(const std::string& line, const std::string& answer) {
    if (alone_) return;
    turns_.push_back({{"role", "user"}, {"content", line}});
    turns_.push_back({{"role", "assistant"}, {"content", answer}});
  }

 private:
  const Predictor& p_;
  std::string system_;
  nlohmann::ordered_json turns_;
  bool alone_ = false;
};

/// A run on bare prompts has learnt no conversation, whatever template its tokenizer has.
bool learnt_prompts(const Predictor& p, const std::vector<std::string>& overrides) {
  if (!p.trained) return false;
  const auto is_template = [](const std::string& assignment) { return assignment.starts_with("data.chat_template="); };
  if (std::any_of(overrides.begin(), overrides.end(), is_template)) return false;
  const auto state = p.task().state(), settings = p.task().settings();
  const std::string named = settings.value("chat_template", std::string());
  return !state.value("chat", false) && (named.empty() || named == "none");
}

/// Why there can be no conversation; "" where there can.
std::string no_turns(Talk& talk, const Predictor& p, const std::vector<std::string>& overrides) {
  if (learnt_prompts(p, overrides)) return "the run was trained on prompts, not on conversations";
  try {
    talk.examples("hello");
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

void chat(ChatOptions o) {
  if (!o.chat_template.empty()) o.overrides.push_back("data.chat_template=" + o.chat_template);
  Predictor p = Predictor::open_language_model(o.model, {.last = o.last, .overrides = o.overrides, .model = {}});
  check(p.task().model_kind() == "causal-lm", o.model, " was trained for ", p.task().name(),
        "; deeplora chat is for causal language models, predict for all");
  Talk talk(p, o.system);
  if (const std::string reason = no_turns(talk, p, o.overrides); !reason.empty()) {
    check(o.system.empty(), "--system: ", reason, "; a template is named with --template (chatml, llama3, ...)");
    log_info("every line is a prompt of its own, since ", reason);
    talk.forget_turns();
  }
  const bool terminal = ::isatty(STDIN_FILENO) == 1;
  p.evaluation.on_text = [](std::string_view text) { std::cout << text << std::flush; };
  if (terminal) std::cerr << "a line is a turn; /reset begins anew, /exit ends\n";
  for (std::string line;;) {
    if (terminal) std::cerr << "> " << std::flush;
    if (!std::getline(std::cin, line) || line == "/exit") break;
    if (line.ends_with('\r')) line.pop_back();
    if (line.find_first_not_of(" \t") == std::string::npos) continue;
    check(is_valid_utf8(line), "standard input: not valid UTF-8");
    if (line == "/reset") {
      talk.begin();
      continue;
    }
    const auto examples = talk.examples(line);
    check_ids(p.task(), p.model(), examples, p.evaluation.device, "the line");
    const auto answers = p.task().predict(p.model(), examples, p.evaluation);
    std::cout << std::endl;
    talk.remember(line, answers.front().value("text", std::string()));
  }
}

}  // namespace

void setup_chat(CLI::App& app, Action& action) {
  auto o = std::make_shared<ChatOptions>();
  CLI::App* command =
      app.add_subcommand("chat", "Talks with a causal language model: a run, an exported one, or one as it is");
  command->add_option("MODEL", o->model, "Run folder, TorchScript .pt, exported .pt2 or Hugging Face folder")
      ->required();
  command->add_option("--system", o->system, "What the conversation begins with");
  command->add_option("--template", o->chat_template,
                      "Chat template: a name (chatml, llama3, ...) or a file (default: the model's own)");
  command
      ->add_option("--set", o->overrides,
                   "Override a key of the data section: --set data.max_length=2048 (may be repeated)")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  add_generation_flags(*command, o->overrides);
  command->add_flag("--last", o->last, "Of a run, the last adapter instead of the best");
  command->footer(
      "Example:\n  deeplora chat runs/chat --system \"You are a pirate.\"\n"
      "  echo \"Name three fruits.\" | deeplora chat smollm2 --max-new-tokens 60");
  command->callback([o, &action] { action = [o] { chat(*o); }; });
}

}  // namespace deeplora
