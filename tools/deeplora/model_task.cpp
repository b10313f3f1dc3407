#include "model_task.h"

#include <algorithm>

#include "tasks/tag_scheme.h"
#include "tasks/task_state.h"

namespace deeplora {
namespace {

/// Longest text in tokens, as tokenizer and model say it; transformers cuts there too.
std::optional<int64_t> longest_text(const ModelFiles& files) {
  const double unlimited = 1e9;  // some tokenizers write 1e30 for "as long as you like"
  double most = files.json("tokenizer_config.json").value("model_max_length", unlimited);
  for (const char* key : {"max_position_embeddings", "n_positions"})
    most = std::min(most, files.config().value(key, unlimited));
  return most >= 3 && most < unlimited ? std::optional(static_cast<int64_t>(most)) : std::nullopt;
}

ModelTask as_exported(const ModelFiles& files) {
  const JsonFile& info = files.deeplora_info();
  ModelTask out{info.at<std::string>("task"),
                info.section("data").root,
                {info.name + ": task_state", info.section("task_state").root}};
  const auto classes = class_names(files.config());
  if (out.state.has("labels") && classes && !files.holds_code()) {
    const auto labels = read_labels(out.state);
    check(labels == *classes, info.name, ": its labels ", join(labels, ", ", 8), " are not those of config.json, ",
          join(*classes, ", ", 8), "; if the model was trained again elsewhere, remove ", info.name);
  }
  return out;
}

ModelTask of_classes(const ModelFiles& files, const ModelFamilies& families) {
  const std::vector<std::string> classes = classes_in(files, families);
  const JsonFile& config = files.config();
  const std::string kind =
      config.value("problem_type", std::string(classes.size() == 1 ? "regression" : "single_label_classification"));
  const std::string state = "model " + files.file().string() + ": its head";
  if (kind == "regression") {
    check(classes.size() == 1, state, ": expected a regression of one number, found ", classes.size());
    return {"regression", nlohmann::ordered_json::object(), {state, {{"mean", 0.0}, {"spread", 1.0}}}};
  }
  check(kind == "single_label_classification", config.name, ": problem_type: expected single_label_classification or ",
        "regression, found '", kind, "', which is no task of this version");
  return {"classification", nlohmann::ordered_json::object(), {state, {{"labels", classes}, {"of_the_model", true}}}};
}

ModelTask of_token_classes(const ModelFiles& files, const ModelFamilies& families) {
  const std::vector<std::string> classes = classes_in(files, families);
  const std::string state = "model " + files.file().string() + ": its head";
  return {
      "token-classification",
      nlohmann::ordered_json::object(),
      {state, {{"labels", classes}, {"of_the_model", true}, {"tag_scheme", to_string(scheme_of_classes(classes))}}}};
}

/// "causal-lm", "seq2seq" or "".
std::string language_task(const ModelFiles& files) {
  const auto names = files.config().value("architectures", std::vector<std::string>());
  if (names.empty()) return "";
  if (names.front().ends_with("ForCausalLM") || names.front().ends_with("LMHeadModel")) return "causal-lm";
  const bool has_encoder = files.config().value("is_encoder_decoder", false);
  return has_encoder && (names.front().ends_with("ForConditionalGeneration") || names.front().ends_with("MTModel"))
             ? "seq2seq"
             : "";
}

}  // namespace

std::optional<ModelTask> task_of(const ModelFiles& files, const ModelFamilies& families) {
  if (!files.deeplora_info().root.empty()) return as_exported(files);
  if (gives_classes(files) || gives_token_classes(files)) {
    ModelTask out = gives_classes(files) ? of_classes(files, families) : of_token_classes(files, families);
    if (const auto longest = longest_text(files)) out.data["max_length"] = *longest;
    return out;
  }
  const std::string name = language_task(files);
  return name.empty() ? std::nullopt : std::optional(ModelTask{.name = name, .state = {.name = files.file().string()}});
}

}  // namespace deeplora
