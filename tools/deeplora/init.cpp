// A commented configuration for a model and a file of rows, made of what is found in them.
#include <algorithm>
#include <iostream>
#include <map>
#include <set>

#include "commands.h"
#include "core/log.h"
#include "core/yaml_value.h"
#include "guess_task.h"
#include "model_files/registration.h"
#include "session.h"
#include "core/number_text.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {
namespace fs = std::filesystem;

struct InitOptions {
  std::string model, data, text, label, output;
};

/// One line of the configuration and why it is so.
struct Line {
  std::string key, value, comment;
};

std::string yaml_text(const std::string& value) { return yaml_line(YamlValue::scalar(value)); }

/// Mean length of a column's texts.
double mean_length(const Table& table, const std::string& column) {
  size_t bytes = 0;
  for (const auto& row : table.rows)
    if (const auto found = row.fields.find(column); found != row.fields.end() && found->is_string())
      bytes += found->get_ref<const std::string&>().size();
  return static_cast<double>(bytes) / static_cast<double>(std::max<size_t>(table.rows.size(), 1));
}

/// The columns of texts and labels where they have names of their own: of two columns the longer one holds the texts;
/// of more, labels go by a usual name.
void guess_columns(InitOptions& o, const Registries& registries) {
  Config config = Config::parse("", "deeplora init");
  config.set_text("data.train", o.data, "DATA");
  TableOptions options = DataConfig::read(config.section("data"), registries.tasks).table_options();
  const std::vector<std::string> usual{"label", "labels",    "class",        "category",   "target", "score", "rating",
                                       "stars", "sentiment", "is_duplicate", "gold_label", "intent", "topic"};
  options.known = usual;
  for (const char* name :
       {"text", "text_pair", "sentence", "prompt", "completion", "messages", "conversations", "chosen", "rejected",
        "instruction", "output", "review", "body", "content", "comment", "message", "tokens", "tags"})
    options.known.push_back(name);
  const Table table = read_rows(options, o.data, "DATA");
  const auto has = [&](const std::string& name) {
    return std::find(table.columns.begin(), table.columns.end(), name) != table.columns.end();
  };
  for (const char* own : {"prompt", "completion", "messages", "conversations", "instruction", "tokens", "rejected"})
    if (has(own)) return;  // its columns have names of their own
  if (table.columns.size() < 2) return;
  if (o.label.empty() && !has("label"))
    for (const auto& name : usual)
      if (o.label.empty() && has(name)) o.label = name;
  const auto longer = [&](const std::string& a, const std::string& b) {
    return mean_length(table, a) < mean_length(table, b);
  };
  if (o.text.empty() && !has("text")) o.text = *std::max_element(table.columns.begin(), table.columns.end(), longer);
  if (o.label.empty() && !has("label") && table.columns.size() == 2)
    o.label = table.columns[table.columns.front() == (o.text.empty() ? "text" : o.text) ? 1 : 0];
}

/// Tokens of every row's texts as a model would see them uncut; empty without a tokenizer.
std::vector<size_t> lengths_of(const Table& table, const std::vector<std::string>& columns, const ModelFiles& files) {
  std::vector<size_t> out;
  const auto tokenizer = load_tokenizer({}, files);
  if (!tokenizer) return out;
  for (const auto& row : table.rows) {
    size_t tokens = 0, begin = 0;
    for (const auto& column : columns) {
      const auto found = row.fields.find(column);
      if (found == row.fields.end()) continue;
      if (found->is_string())
        tokens += tokenizer->encode(found->get_ref<const std::string&>(), std::nullopt, 0).ids.size();
      else if (found->is_array()) {
        tokens += tokenizer->surround({}, begin).ids.size();
        for (const auto& word : *found)
          if (word.is_string()) tokens += tokenizer->tokenize_word(word.get_ref<const std::string&>()).size();
      }
    }
    if (tokens > 0) out.push_back(tokens);
  }
  std::sort(out.begin(), out.end());
  return out;
}

/// A length that holds 99 of 100 texts, in steps of 8.
size_t fitting_length(const std::vector<size_t>& lengths) {
  const size_t most = lengths[lengths.size() * 99 / 100];
  return std::max<size_t>(16, (most + 7) / 8 * 8);
}

std::string counts_of(const Table& table, const std::string& column) {
  std::map<std::string, size_t> counts;
  for (const auto& row : table.rows)
    if (const auto found = row.fields.find(column); found != row.fields.end())
      ++counts[found->is_string() ? found->get<std::string>() : found->dump()];
  std::vector<std::string> shown;
  for (const auto& [value, count] : counts) shown.push_back(cat(shortened(value, 20), " ", with_commas(count)));
  return join(shown, ", ", 6);
}

/// The configuration's text, section by section, comments in a column of their own.
std::string laid_out(const std::string& title, const std::vector<std::pair<std::string, std::vector<Line>>>& sections) {
  std::string out = title;
  for (const auto& [section, lines] : sections) {
    out += section + ":\n";
    for (const auto& line : lines) {
      std::string text = cat("  ", line.key, ": ", line.value);
      if (!line.comment.empty())
        text += std::string(text.size() < 30 ? 30 - text.size() : 1, ' ') + " # " + line.comment;
      out += text + "\n";
    }
  }
  return out;
}

/// What the data section holds.
std::vector<Line> data_lines(const InitOptions& o, const TaskGuess& guess, const ModelFiles& files) {
  const Table& table = guess.table;
  const auto has = [&](const std::string& name) {
    return !table.rows.empty() && table.rows.front().fields.contains(name);
  };
  const bool decoder =
      std::find(files.inputs().begin(), files.inputs().end(), "decoder_input_ids") != files.inputs().end();
  const std::string task = guess.task == "causal-lm" && decoder ? "seq2seq" : guess.task;
  const std::string text = o.text.empty() ? "text" : o.text, label = o.label.empty() ? "label" : o.label;
  std::vector<Line> out{{"task", task, guess.reason}, {"train", yaml_text(o.data), table.summary()}};
  std::vector<std::string> columns;
  if (task == "classification" || task == "regression") {
    columns = {text};
    out.push_back({"text", yaml_text(text), "column of the text"});
    if (!guess.text_pair.empty())
      out.push_back({"text_pair", guess.text_pair, "column of the second text of a pair"}),
          columns.push_back(guess.text_pair);
    out.push_back({"label", yaml_text(label), task == "classification" ? counts_of(table, label) : "numbers"});
  } else if (task == "token-classification") {
    out.push_back({"text", yaml_text(o.text.empty() ? "tokens" : o.text), "column of the words"});
    out.push_back({"label", yaml_text(o.label.empty() ? "tags" : o.label), "column of their tags"});
    columns = {out[2].value};
  } else if (task == "seq2seq") {
    out.push_back({"text", has("prompt") ? "prompt" : "text", "column of the source"});
    out.push_back({"target", has("completion") ? "completion" : "target", "column of what is learnt"});
    columns = {out[2].value};
  } else {
    for (const char* name : {"prompt", "completion", "instruction", "input", "output", "chosen", "text"})
      if (has(name)) columns.push_back(name);
  }
  out.push_back({"dev_share", "0.1", "drawn from train; a file of its own: dev: dev.csv"});
  out.push_back({"test_share", "0.1", "scored once, at the end; a file of its own: test: test.csv"});
  const auto lengths = lengths_of(table, columns, files);
  if (!lengths.empty())
    out.push_back(
        {"max_length", cat(fitting_length(lengths)),
         cat("tokens; the texts: median ", lengths[lengths.size() / 2], ", longest ", with_commas(lengths.back()))});
  if (task == "classification")
    out.push_back({"# metric", "f1",
                   "what chooses the best checkpoint (accuracy); class_weights: balanced where one label is rare"});
  return out;
}

void init(InitOptions o) {
  const Registries registries = make_registries();
  const fs::path output = o.output.empty() ? fs::path(fs::path(o.data).stem().string() + ".yaml") : fs::path(o.output);
  std::error_code ignored;
  check(!fs::exists(output, ignored), output.string(), " exists already; name another with --output");
  std::shared_ptr<const ModelFiles> files = open_model_files(o.model);
  guess_columns(o, registries);
  Config config = Config::parse("", "deeplora init");
  config.set_text("data.train", o.data, "DATA");
  if (!o.text.empty()) config.set_text("data.text", o.text, "--text");
  if (!o.label.empty()) config.set_text("data.label", o.label, "--label");
  const TaskGuess guess = guess_task(config, registries);
  std::vector<std::pair<std::string, std::vector<Line>>> sections{
      {"model",
       {{"path", yaml_text(o.model),
         cat(files->kind(), ", ", with_commas(static_cast<size_t>(files->parameter_count())), " parameters")}}},
      {"data", data_lines(o, guess, *files)},
      {"adapter",
       {{"method", "lora", "or deep-lora, dora, pissa, ...: docs/methods.md"},
        {"rank", "8", ""},
        {"targets", "all-linear", ""}}},
      {"train",
       {{"epochs", "3", "or steps: 300"},
        {"batch_size", "16", ""},
        {"# lr", "auto", "short trials on dev choose it; without this line the method's default"}}}};
  // Tried as a run would begin, so that what is written works.
  files.reset();  // the session opens them again
  const Session session = Session::start(Config::parse(laid_out("", sections), output.string()), registries);
  std::set<std::string> roles;
  for (const auto& [site, unused] : session.adapted->adapters()) roles.insert(site.role);
  sections[2].second[2].comment = cat(session.adapted->adapters().size(), " weights: ", join(roles, ", ", 8),
                                      "; or query-value, attention-mlp, ...");
  sections[0].second[0].comment += ", " + session.model().family();
  write_file_atomically(output,
                        laid_out(cat("# ", session.config.data.task, " of ", fs::path(o.data).filename().string(),
                                     ", as deeplora init found it. Every key: deeplora reference config\n"),
                                 sections));
  std::cout << "wrote " << output.string() << "\nnext  deeplora finetune " << output.string() << "\n";
}

}  // namespace

void setup_init(CLI::App& app, Action& action) {
  auto o = std::make_shared<InitOptions>();
  CLI::App* command = app.add_subcommand("init", "Writes a commented configuration for a model and a file of rows");
  command->add_option("MODEL", o->model, "TorchScript archive (.pt), exported program (.pt2) or Hugging Face folder")
      ->required();
  command->add_option("DATA", o->data, "Training rows: CSV, TSV, JSON, JSONL or text")->required();
  command->add_option("--text", o->text, "Column of the text (default: as found)");
  command->add_option("--label", o->label, "Column of the label (default: as found)");
  command->add_option("--output", o->output, "File to write; must not exist (default: <name of DATA>.yaml)");
  command->footer("Example:\n  deeplora init minilm.pt reviews.csv");
  command->callback([o, &action] { action = [o] { init(*o); }; });
}

}  // namespace deeplora
