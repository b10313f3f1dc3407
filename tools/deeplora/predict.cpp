#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iostream>

#include "commands.h"
#include "interchange/merge.h"
#include "session.h"
#include "tasks/id_limits.h"

namespace deeplora {
namespace {

struct PredictOptions {
  std::string run, input, output, model;
  std::vector<std::string> texts, overrides;
  bool last = false;
  int64_t batch_size = 0;
};

/// What predict needs, from a run folder or from an exported model.
struct Predictor {
  std::optional<Session> session;
  std::unique_ptr<Task> exported_task;
  std::shared_ptr<Tokenizer> tokenizer;
  std::shared_ptr<LanguageModel> exported;
  DataConfig data;
  EvaluationOptions evaluation;

  Task& task() const { return session ? session->task() : *exported_task; }
  LanguageModel& model() const { return session ? session->model() : *exported; }
};

Predictor of_export(const std::filesystem::path& file, const Registries& registries, const std::vector<std::string>& overrides) {
  Predictor out;
  const TorchScriptArchive archive = TorchScriptArchive::load(file);
  archive.check_finite();
  const JsonFile& info = archive.deeplora_info();
  check(!info.root.empty(), "model ", file.string(), " was not exported by deeplora (it holds no deeplora.json), so its task and labels are unknown; ",
        "name a run folder");
  const std::string task = info.at<std::string>("task");
  Config data = Config::parse(info.section("data").root.dump(), file.string() + ": deeplora.json");
  for (const auto& assignment : overrides) data.set(assignment.substr(std::string("data.").size()));
  out.exported_task = registries.tasks.at(task)(data);
  data.finish();
  const ArchiveInterface interface{.inputs = info.at<std::map<std::string, std::string>>("inputs"),
                                   .forms = parse_forms(info.value("input_forms", nlohmann::json::object()), file.string() + ": deeplora.json: input_forms"),
                                   .output = info.at<std::string>("output")};
  out.tokenizer = load_tokenizer_for(*out.exported_task, {}, archive, interface);
  out.exported_task->restore({info.name + ": task_state", info.section("task_state").root});
  out.exported = std::make_shared<ArchiveModel>(archive, interface);
  return out;
}

Predictor make_predictor(const PredictOptions& o) {
  const Registries registries = make_registries();
  std::error_code ignored;
  check(std::filesystem::exists(o.run, ignored), o.run, " does not exist; expected a run folder or an exported model");
  if (!std::filesystem::is_directory(o.run, ignored)) {
    check(o.model.empty(), "--model says where the model of a run folder lies; ", o.run, " is a file, which needs no other model");
    return of_export(o.run, registries, data_overrides(o.overrides));
  }
  Predictor out;
  out.session.emplace(Session::of_run(RunFolder::open(o.run), registries, {.last = o.last, .overrides = data_overrides(o.overrides), .model = o.model}));
  out.tokenizer = out.session->tokenizer;
  out.data = out.session->config.data;
  out.evaluation = out.session->evaluation();
  return out;
}

std::vector<Row> input_rows(const PredictOptions& o, const Predictor& p) {
  const auto columns = p.task().columns(false);
  std::vector<Row> rows;
  if (!o.texts.empty()) {
    check(o.texts.size() % columns.size() == 0, "--text: this task takes ", columns.size(), " texts a row, found ", o.texts.size());
    for (size_t i = 0; i < o.texts.size(); i += columns.size()) {
      Row row;
      row.source = cat("--text ", i + 1);
      for (size_t k = 0; k < columns.size(); ++k) row.fields[columns[k]] = o.texts[i + k];
      rows.push_back(std::move(row));
    }
    return rows;
  }
  const std::filesystem::path file = o.input == "-" ? "/dev/stdin" : o.input;
  TableOptions options = p.data.table_options();
  const auto is_format = [](const std::string& assignment) { return assignment.starts_with("data.format="); };
  if (std::none_of(o.overrides.begin(), o.overrides.end(), is_format)) options.format = "auto";  // the run's is that of its own files
  options.any_format = true;
  p.task().table_options(options, false);
  // Rows may name their texts as the task does, or simply text and text_pair; a text file is one text a line.
  const char* plain[] = {"text", "text_pair"};
  for (size_t i = 0; i < columns.size() && i < 2; ++i)
    if (columns[i] != plain[i]) options.aliases[columns[i]].push_back(plain[i]);
  return read_rows(options, file, "--input").rows;
}

/// One generated text on a terminal is shown as it grows, not as JSON.
bool streams(const PredictOptions& o, const Predictor& p, size_t rows) {
  return o.output.empty() && !o.texts.empty() && rows == 1 && p.task().outputs() == 0 && ::isatty(STDOUT_FILENO) == 1;
}

void predict(const PredictOptions& o) {
  check(o.input.empty() != o.texts.empty(), "name the rows with --input FILE or --text TEXT (one of the two)");
  Predictor p = make_predictor(o);
  if (o.batch_size > 0) p.evaluation.batch_size = o.batch_size;
  const auto rows = input_rows(o, p);
  const char* what = o.texts.empty() ? "--input" : "--text";
  const auto examples = encode_rows(p.task(), p.tokenizer.get(), rows, what, false);
  check_ids(p.task(), p.model(), examples, p.evaluation.device, what);
  if (streams(o, p, examples.size())) {
    p.evaluation.on_text = [](std::string_view text) { std::cout << text << std::flush; };
    p.task().predict(p.model(), examples, p.evaluation);
    std::cout << std::endl;
    return;
  }
  std::string lines;
  for (const auto& prediction : p.task().predict(p.model(), examples, p.evaluation)) lines += prediction.dump() + "\n";
  if (o.output.empty()) std::cout << lines;
  else write_file_atomically(o.output, lines);
}

}  // namespace

void setup_predict(CLI::App& app, Action& action) {
  auto o = std::make_shared<PredictOptions>();
  CLI::App* command = app.add_subcommand("predict", "Predicts rows with a run or an exported model, one JSON object a line");
  command->add_option("RUN", o->run, "Run folder, or a .pt written by deeplora export")->required();
  command->add_option("--input", o->input, "Rows: JSON, TSV, CSV, or text with one text a line; -: standard input");
  command->add_option("--text,--prompt", o->texts, "A text (twice for a pair) or prompt instead of a file")->take_all()->expected(1)->allow_extra_args(false);
  command->add_option("--set", o->overrides, "Override a key of the run's data section: --set data.generation.temperature=0.7 (may be repeated)")
      ->take_all()->expected(1)->allow_extra_args(false);
  const auto generation = [&](const char* flag, const char* key, const char* help) {
    command->add_option_function<std::string>(
        flag, [o, key](const std::string& value) { o->overrides.push_back(cat("data.generation.", key, "=", value)); }, help);
  };
  generation("--max-new-tokens", "max_new_tokens", "Longest generated text in tokens");
  generation("--beams", "beams", "Beam search with so many beams");
  generation("--temperature", "temperature", "Sample from the logits divided by it");
  generation("--top-p", "top_p", "Sample among the fewest likely tokens that hold this probability");
  generation("--top-k", "top_k", "Sample among so many likely tokens");
  generation("--seed", "seed", "Of sampling");
  generation("--stop", "stop", "A text that ends the generated one");
  command->add_option("--output", o->output, "Write here instead of standard output (.jsonl)");
  command->add_option("--batch-size", o->batch_size, "Rows at a time (default: the run's train.eval_batch_size)");
  add_model_option(*command, o->model);
  command->add_flag("--last", o->last, "The last adapter instead of the best");
  command->footer("Example:\n  deeplora predict runs/lora --text \"I love this player.\"\n"
                  "  deeplora predict runs/chat --prompt \"Name three fruits.\" --temperature 0.7 --top-p 0.9 --seed 1");
  command->callback([o, &action] { action = [o] { predict(*o); }; });
}

}  // namespace deeplora
