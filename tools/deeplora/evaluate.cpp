#include <iostream>

#include "commands.h"
#include "core/files.h"
#include "moved_files.h"
#include "predictor.h"
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

/// Labelled rows and where they come from.
struct RowsToScore {
  std::filesystem::path file;
  std::string drawn;  ///< "dev" or "test" where they are a part of the training file
  std::string split;  ///< "dev" or "test" of the run's own
  LoadedData data;
};

/// The file that is named, else the run's test rows, else its dev rows.
RowsToScore rows_to_score(Predictor& p, const EvaluateOptions& o) {
  if (!o.data.empty()) return {o.data, "", "", p.load(o.data, "--data")};
  check(p.has_rows(), "a model has no rows of its own; name labelled rows with --data FILE");
  const DataConfig& data = p.session->config.data;
  for (const auto& [split, file] : {std::pair("test", data.test), std::pair("dev", data.dev)}) {
    if (!file.empty())
      check_is_there(read_places(o.run), {cat("data.", split), file}, o.run, "name a file with --data");
    LoadedData rows = p.session->load_split(split);
    if (!rows.rows.empty())
      return {file.empty() ? data.train : file, file.empty() ? split : "", split, std::move(rows)};
  }
  fail(
      "the run has no test and no dev rows to score; name labelled rows with --data FILE (a run keeps some apart with "
      "data.test_share or data.dev_share)");
}

void evaluate(const EvaluateOptions& o) {
  Predictor p = Predictor::open(o.run, {.last = o.last, .overrides = o.overrides, .model = o.model});
  RowsToScore rows = rows_to_score(p, o);
  p.refer(rows.split, rows.data);
  const LoadedData& data = rows.data;
  EvaluationOptions options = p.evaluation;
  options.final = true;
  options.row_losses = !o.output.empty();
  const Assessment found = p.task().assess(p.model(), data.examples, options);
  if (!o.output.empty()) write_rows(o.output, found);
  if (o.json) {
    nlohmann::ordered_json out = found.scores.json();
    out.update(found.details);
    out["rows"] = data.rows.size();
    out["file"] = rows.file.string();
    if (!rows.drawn.empty()) out["drawn_as"] = rows.drawn;
    std::cout << out.dump(2) << "\n";
    return;
  }
  std::cout << rows.file.string() << " (" << data.rows.size() << " rows"
            << (rows.drawn.empty() ? "" : ", drawn as " + rows.drawn) << ")\n";
  std::vector<std::vector<std::string>> table;
  const nlohmann::ordered_json scores = found.scores.json();
  for (const auto& [name, value] : scores.items()) table.push_back({name, score_text(value)});
  print_table(std::cout, table, "  ");
  print_details(std::cout, found.details);
}

}  // namespace

void setup_evaluate(CLI::App& app, Action& action) {
  auto o = std::make_shared<EvaluateOptions>();
  CLI::App* command = app.add_subcommand("evaluate", "Scores a run's best adapter, or a model, on labelled rows");
  command->add_option("RUN", o->run, "Run folder, or a model: an exported .pt or folder, a Hugging Face folder")
      ->required();
  command->add_option("--data", o->data, "Labelled rows (default: the run's test, else dev file)");
  command
      ->add_option("--set", o->overrides,
                   "Override a key of the run's data section: --set data.generate=true (may be repeated)")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  add_model_option(*command, o->model);
  command->add_flag("--last", o->last, "The last adapter instead of the best");
  command->add_flag("--json", o->json, "Print JSON");
  command->add_option("--output", o->output,
                      "Write every row here: its label, prediction, probabilities by name and loss; CSV where the name "
                      "ends in .csv, else a JSON object a line");
  command->footer(
      "Example:\n  deeplora evaluate runs/lora --data data/sentiment-amazon/test.tsv --json\n"
      "  deeplora evaluate runs/lora --output rows.csv");
  command->callback([o, &action] { action = [o] { evaluate(*o); }; });
}

}  // namespace deeplora
