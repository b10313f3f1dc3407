#include <iostream>

#include "commands.h"
#include "core/files.h"
#include "moved_files.h"
#include "session.h"
#include "text_table.h"

namespace deeplora {
namespace {

struct EvaluateOptions {
  std::string run, data, model, output;
  std::vector<std::string> overrides;
  bool json = false, last = false;
};

/// Rows as CSV where the file's name says so, else a JSON object a line.
void write_rows(const std::filesystem::path& file, const Assessment& found) {
  check(!found.rows.empty(), "--output: this task knows nothing of single rows");
  write_file_atomically(file, file.extension() == ".csv" ? rows_csv(found) : rows_jsonl(found));
}

void evaluate(const EvaluateOptions& o) {
  const Registries registries = make_registries();
  const RunFolder folder = RunFolder::open(o.run);
  const Session session = Session::of_run(folder, registries, {.last = o.last, .overrides = data_overrides(o.overrides), .model = o.model});
  std::filesystem::path file = o.data;
  if (file.empty()) {
    const std::filesystem::path &dev = session.config.data.dev, &test = session.config.data.test;
    file = test.empty() ? dev : test;
    check(!file.empty(), "the run has neither data.test nor data.dev; name a file with --data");
    check_is_there(read_places(folder.path()), {test.empty() ? "data.dev" : "data.test", file}, folder.path(), "name a file with --data");
  }
  const LoadedData data = session.load(file, "--data", true);
  EvaluationOptions options = session.evaluation();
  options.final = true;
  options.row_losses = !o.output.empty();
  const Assessment found = session.task().assess(session.model(), data.examples, options);
  if (!o.output.empty()) write_rows(o.output, found);
  if (o.json) {
    nlohmann::ordered_json out = found.scores.json();
    out.update(found.details);
    out["rows"] = data.rows.size();
    out["file"] = file.string();
    std::cout << out.dump(2) << "\n";
    return;
  }
  std::cout << file.string() << " (" << data.rows.size() << " rows)\n";
  std::vector<std::vector<std::string>> table;
  for (const auto& [name, value] : found.scores.json().items()) table.push_back({name, score_text(value)});
  print_table(std::cout, table, "  ");
  print_details(std::cout, found.details);
}

}  // namespace

void setup_evaluate(CLI::App& app, Action& action) {
  auto o = std::make_shared<EvaluateOptions>();
  CLI::App* command = app.add_subcommand("evaluate", "Scores the best adapter of a run on labelled rows");
  command->add_option("RUN", o->run, "Run folder")->required();
  command->add_option("--data", o->data, "Labelled rows (default: the run's test, else dev file)");
  command->add_option("--set", o->overrides, "Override a key of the run's data section: --set data.generate=true (may be repeated)")
      ->take_all()->expected(1)->allow_extra_args(false);
  add_model_option(*command, o->model);
  command->add_flag("--last", o->last, "The last adapter instead of the best");
  command->add_flag("--json", o->json, "Print JSON");
  command->add_option("--output", o->output,
                      "Write every row here: its label, prediction, probabilities by name and loss; CSV where the name ends in .csv, else a JSON object a line");
  command->footer("Example:\n  deeplora evaluate runs/lora --data data/sentiment-amazon/test.tsv --json\n"
                  "  deeplora evaluate runs/lora --output rows.csv");
  command->callback([o, &action] { action = [o] { evaluate(*o); }; });
}

}  // namespace deeplora
