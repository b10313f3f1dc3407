#include "predictor.h"

#include "interchange/merge.h"
#include "tasks/id_limits.h"

namespace deeplora {
namespace {

Predictor open_export(const std::filesystem::path& file, const Registries& registries,
                      const std::vector<std::string>& overrides) {
  Predictor out;
  const TorchScriptArchive archive = TorchScriptArchive::load(file);
  archive.check_finite();
  const JsonFile& info = archive.deeplora_info();
  check(!info.root.empty(), "model ", file.string(),
        " was not exported by deeplora (it holds no deeplora.json), so its task and labels are unknown; ",
        "name a run folder");
  const std::string task = info.at<std::string>("task");
  auto settings = info.section("data").root;
  settings["task"] = task;
  Config config = Config::parse(nlohmann::json{{"data", settings}}.dump(), file.string() + ": deeplora.json");
  for (const auto& assignment : overrides) config.set(assignment);
  out.data = DataConfig::read(config.section("data"), registries.tasks);
  out.exported_task = registries.tasks.at(task)(config.section("data"));
  config.finish();
  const ArchiveInterface interface{.inputs = info.at<std::map<std::string, std::string>>("inputs"),
                                   .forms = parse_forms(info.root.value("input_forms", nlohmann::json::object()),
                                                        file.string() + ": deeplora.json: input_forms"),
                                   .output = info.at<std::string>("output")};
  out.tokenizer = load_tokenizer_for(*out.exported_task, {}, archive, interface);
  out.exported_task->restore({info.name + ": task_state", info.section("task_state").root});
  out.exported = std::make_shared<ArchiveModel>(archive, interface);
  return out;
}

Predictor of_session(Session session) {
  Predictor out;
  out.tokenizer = session.tokenizer;
  out.data = session.config.data;
  out.evaluation = session.evaluation();
  out.session.emplace(std::move(session));
  return out;
}

}  // namespace

Predictor Predictor::open(const std::string& path, const RunUse& use) {
  const Registries registries = make_registries();
  std::error_code ignored;
  check(std::filesystem::exists(path, ignored), path, " does not exist; expected a run folder or an exported model");
  if (!std::filesystem::is_directory(path, ignored)) {
    check(use.model.empty(), "--model says where the model of a run folder lies; ", path,
          " is a file, which needs no other model");
    return open_export(path, registries, data_overrides(use.overrides));
  }
  return of_session(
      Session::of_run(RunFolder::open(path), registries,
                      {.last = use.last, .overrides = data_overrides(use.overrides), .model = use.model}));
}

Predictor Predictor::open_language_model(const std::string& path, const RunUse& use) {
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(path, ignored);
  const bool run = folder && std::filesystem::exists(std::filesystem::path(path) / "config.yaml", ignored);
  if (run || !std::filesystem::exists(path, ignored) || (!folder && is_deeplora_export(path))) return open(path, use);
  Config config =
      Config::parse("{data: {task: causal-lm}, adapter: {method: none}, train: {steps: 0}}", "deeplora chat");
  config.set_text("model.path", path, "MODEL");
  for (const auto& assignment : data_overrides(use.overrides)) config.set(assignment);
  Predictor out = of_session(Session::untrained(config, make_registries()));
  out.trained = false;
  return out;
}

LoadedData Predictor::load(const std::filesystem::path& file, std::string_view what) const {
  if (session) return session->load(file, what, true);
  TableOptions options = data.table_options();
  task().table_options(options, true);
  LoadedData out;
  out.rows = task().documents(read_rows(options, file, what).rows);
  out.examples = encode_rows(task(), tokenizer.get(), out.rows, what, true, &out.truncated);
  check_ids(task(), model(), out.examples, evaluation.device, what);
  out.examples = task().arrange(std::move(out.examples), what);
  return out;
}

}  // namespace deeplora
