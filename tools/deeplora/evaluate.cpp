#include <cmath>
#include <iostream>

#include "commands.h"
#include "session.h"

namespace deeplora {
namespace {

struct EvaluateOptions {
  std::string run, data;
  std::vector<std::string> overrides;
  bool json = false, last = false;
};

void evaluate(const EvaluateOptions& o) {
  const Registries registries = make_registries();
  const RunFolder folder = RunFolder::open(o.run);
  const Session session = Session::of_run(folder, registries, o.last, data_overrides(o.overrides));
  std::filesystem::path file = o.data;
  if (file.empty()) file = session.config.data.test.empty() ? session.config.data.dev : session.config.data.test;
  check(!file.empty(), "the run has neither data.test nor data.dev; name a file with --data");
  const LoadedData data = session.load(file, "--data", true);
  EvaluationOptions options = session.evaluation();
  options.final = true;
  const Scores scores = session.task().evaluate(session.model(), data.examples, options);
  if (o.json) {
    nlohmann::ordered_json out = scores.json();
    out["rows"] = data.rows.size();
    out["file"] = file.string();
    std::cout << out.dump(2) << "\n";
    return;
  }
  std::cout << file.string() << " (" << data.rows.size() << " rows)\n";
  for (const auto& [name, value] : scores.values) {
    std::cout << "  " << name << "  ";
    if (std::isfinite(value)) std::cout << std::fixed << std::setprecision(4) << value << "\n";
    else std::cout << "undefined\n";
  }
}

}  // namespace

void setup_evaluate(CLI::App& app, Action& action) {
  auto o = std::make_shared<EvaluateOptions>();
  CLI::App* command = app.add_subcommand("evaluate", "Scores the best adapter of a run on labelled rows");
  command->add_option("RUN", o->run, "Run folder")->required();
  command->add_option("--data", o->data, "Labelled rows (default: the run's test, else dev file)");
  command->add_option("--set", o->overrides, "Override a key of the run's data section: --set data.generate=true (may be repeated)")
      ->take_all()->expected(1)->allow_extra_args(false);
  command->add_flag("--last", o->last, "The last adapter instead of the best");
  command->add_flag("--json", o->json, "Print JSON");
  command->footer("Example:\n  deeplora evaluate runs/lora --data data/sentiment-amazon/test.tsv --json");
  command->callback([o, &action] { action = [o] { evaluate(*o); }; });
}

}  // namespace deeplora
