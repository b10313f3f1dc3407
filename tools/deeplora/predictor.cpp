#include "predictor.h"

#include "interchange/merge.h"
#include "model_files/exported_program.h"
#include "model_files/registration.h"
#include "model_task.h"
#include "tasks/id_limits.h"

namespace deeplora {
namespace {

Predictor open_export(const std::filesystem::path& file, const Registries& registries,
                      const std::vector<std::string>& overrides) {
  Predictor out;
  const auto archive = std::dynamic_pointer_cast<const CodeFiles>(open_model_files(file));
  check(archive != nullptr, "model ", file.string(), " holds no code");
  archive->check_finite();
  const JsonFile& info = archive->deeplora_info();
  const std::string task = info.at<std::string>("task");
  auto settings = info.section("data").root;
  settings["task"] = task;
  Config config = Config::parse(nlohmann::json{{"data", settings}}.dump(), file.string() + ": deeplora.json");
  for (const auto& assignment : overrides) config.set(assignment);
  out.data = DataConfig::read(config.section("data"), registries.tasks);
  out.exported_task = registries.tasks.at(task)(config.section("data"));
  config.finish();
  ArchiveInterface interface{.inputs = info.at<std::map<std::string, std::string>>("inputs"),
                             .forms = parse_forms(info.root.value("input_forms", nlohmann::json::object()),
                                                  file.string() + ": deeplora.json: input_forms"),
                             .output = info.at<std::string>("output")};
  out.tokenizer = load_tokenizer_for(*out.exported_task, {}, *archive, interface);
  out.exported_task->restore({info.name + ": task_state", info.section("task_state").root});
  interface.tensors = out.exported_task->tensor_inputs();
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

bool is_there(const std::filesystem::path& path) {
  std::error_code ignored;
  return std::filesystem::exists(exported_place(path).file, ignored);
}

Predictor open_run(const std::string& path, const Registries& registries, const RunUse& use) {
  return of_session(
      Session::of_run(RunFolder::open(path), registries,
                      {.last = use.last, .overrides = data_overrides(use.overrides), .model = use.model}));
}

/// A model as its own files describe it; `fallback` is its task where they do not.
Predictor open_model(const std::filesystem::path& path, const Registries& registries, const RunUse& use,
                     const std::optional<ModelTask>& fallback) {
  const auto files = open_model_files(path);
  const auto known = task_of(*files, registries.families);
  check(known || fallback, "model ", path.string(),
        " was not exported by deeplora (it holds no deeplora.json) and its config.json names no head for classifying ",
        "texts and no language model, so its task and labels are unknown; name a run folder");
  const ModelTask& task = known ? *known : *fallback;
  nlohmann::ordered_json data = task.data;
  data["task"] = task.name;
  Config config = Config::parse(
      nlohmann::ordered_json{
          {"data", data}, {"adapter", {{"method", "none"}}}, {"head", {{"train", false}}}, {"train", {{"steps", 0}}}}
          .dump(),
      cat("model ", path.string()));
  config.set_text("model.path", path.string(), "MODEL");
  for (const auto& assignment : data_overrides(use.overrides)) config.set(assignment);
  Predictor out = of_session(Session::untrained(config, registries, task.state));
  out.trained = !files->deeplora_info().root.empty();
  return out;
}

Predictor open_any(const std::string& path, const RunUse& use, const std::optional<ModelTask>& fallback) {
  const Registries registries = make_registries();
  const std::filesystem::path place(path);
  check(is_there(place), path, " does not exist; expected a run folder or a model");
  std::error_code ignored;
  const bool folder = std::filesystem::is_directory(place, ignored);
  const bool is_model = !folder || (!is_there(place / "config.yaml") &&
                                    (is_there(place / "config.json") || is_there(place / "adapter_config.json")));
  if (!is_model) return open_run(path, registries, use);
  check(use.model.empty(), "--model says where the model of a run folder lies; ", path,
        " is a model itself, which needs no other");
  if (!folder && is_deeplora_export(place)) return open_export(place, registries, data_overrides(use.overrides));
  return open_model(place, registries, use, fallback);
}

}  // namespace

Predictor Predictor::open(const std::string& path, const RunUse& use) { return open_any(path, use, std::nullopt); }

Predictor Predictor::open_language_model(const std::string& path, const RunUse& use) {
  return open_any(path, use, ModelTask{.name = "causal-lm", .state = {.name = path}});
}

void Predictor::refer(const std::string& split, LoadedData& data) {
  if (!task().needs_reference()) return;
  check(has_rows(), "task ", task().name(),
        " is scored against the model as it was before training, which an exported model does not hold; score the run "
        "folder");
  session->refer(split, data);
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
