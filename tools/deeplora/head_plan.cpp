#include "head_plan.h"

#include <torch/torch.h>

#include <cmath>

#include "core/log.h"
#include "core/random.h"
#include "lm/head.h"
#include "model_files/own_head.h"

namespace deeplora {
namespace {

constexpr const char* kOfTexts = "ForSequenceClassification";

bool names_head(const ModelFiles& files, std::string_view ending) {
  const auto names = files.config().value("architectures", std::vector<std::string>());
  return !names.empty() && names.front().ends_with(ending);
}

bool holds_own_head(const ModelFiles& files, bool of_tokens) {
  const auto own = own_head_of(files);
  return own && (own->pooling == kNoPooling) == of_tokens;
}

/// The model ends in a head of that kind, as far as its files say: ours, or transformers'.
bool gives(const ModelFiles& files, bool of_tokens) {
  if (of_tokens) return ends_in_token_head(files);
  if (own_head_of(files)) return holds_own_head(files, false);
  if (files.export_info().value("task", std::string()) == kClassifier) return true;
  return files.export_info().root.empty() && names_head(files, kOfTexts);  // what made an archive says it better
}

/// What the head of a task is about, in messages.
const char* unit_of(bool of_tokens) { return of_tokens ? "tokens" : "texts"; }

HeadPlan plan_for_code(const std::string& type, const ModelFiles& files, bool of_tokens) {
  const bool in_files = gives(files, of_tokens);
  check(in_files || !gives(files, !of_tokens), "model ", files.file().string(), ": its code ends in a head for ",
        unit_of(!of_tokens), ", but the task needs one for ", unit_of(of_tokens),
        "; export it with --task encoder to put a new one on it");
  check(type != "huggingface" || (in_files && !own_head_of(files)), "head.type: huggingface: the archive ",
        files.file().string(),
        " is a model without such a head, and its code cannot take one; name the Hugging Face folder it was exported "
        "from in model.path, export it with --task ",
        of_tokens ? kTokenClassifier : kClassifier, ", or set head.type: linear");
  check(type != "linear" || !in_files, "head.type: linear: the code of ", files.file().string(),
        " ends in a head of its own; export it with --task encoder to put a ", "new one on it, or leave head.type out");
  return {HeadKind::as_files, in_files};
}

std::string type_of(const ModelFiles& files) { return files.config().value("model_type", std::string("unknown")); }

}  // namespace

bool gives_classes(const ModelFiles& files) { return gives(files, /*of_tokens=*/false); }
bool gives_token_classes(const ModelFiles& files) { return gives(files, /*of_tokens=*/true); }

const ModelFamily* family_of(const ModelFiles& files, const ModelFamilies& families) {
  for (const auto& name : families.names())
    if (families.at(name).recognises(files)) return &families.at(name);
  return nullptr;
}

namespace {

/// The family's own head for texts or tokens; empty where it has none for these files.
std::function<ClassHead(const ModelFiles&, int64_t)> own_head(const ModelFamily* family, const ModelFiles& files,
                                                              bool of_tokens) {
  if (!family) return {};
  const auto& head = of_tokens ? family->token_head : family->class_head;
  return head && head(files, 1).architecture.empty() ? nullptr : head;
}

/// The files hold a head whose weights have the names of the one that is asked for, and is another.
bool holds_head_of_another_task(const ModelFiles& files, bool of_tokens) {
  if (!of_tokens) return has_head_of_another_task(files.config());
  return !has_token_head(files.config()) && (names_head(files, kOfTexts) || has_head_of_another_task(files.config()));
}

HeadPlan plan_kind(const RunConfig& config, const ModelFiles& files, const ModelFamilies& families) {
  if (config.task->embeds()) {
    check(!files.holds_code() || !gives_classes(files), "model ", files.file().string(),
          ": its code ends in a head for classes, so it gives no vectors of texts; export it with --task encoder");
    return {files.holds_code() ? HeadKind::as_files : HeadKind::none, false};
  }
  if (!config.task->takes_class_head()) return {};
  const std::string type = config.train.contrastive ? "linear" : config.head.type, &pooling = config.model.pooling;
  const bool asks_pooling = pooling != "auto", of_tokens = config.task->tags_tokens();
  check(!of_tokens || !asks_pooling, "model.pooling: ", pooling, ": a head for tokens reads every state; leave it out");
  check(type != "huggingface" || !asks_pooling, "model.pooling: ", pooling,
        ": a head of type huggingface reads the states as its family does; leave model.pooling ",
        "out, or set head.type: linear");
  if (files.holds_code()) return plan_for_code(type, files, of_tokens);
  const ModelFamily* family = family_of(files, families);
  const auto head = own_head(family, files, of_tokens);
  const bool of_another_task = holds_head_of_another_task(files, of_tokens);
  const bool in_files = head && !of_another_task && (!of_tokens || has_token_head(files.config())) &&
                        files.has(head(files, 1).output + ".weight");
  const HeadKind kind = of_tokens ? HeadKind::tokens : HeadKind::classes;
  if (type == "huggingface") {
    check(!of_another_task, "head.type: huggingface: the head of ", files.file().string(), " classifies ",
          of_tokens ? "texts" : "tokens or choices", "; set head.type: linear, or save the model ",
          "below it (AutoModel) for another head");
    check(head != nullptr, "head.type: huggingface: a model of type ", type_of(files), " has no head for classifying ",
          unit_of(of_tokens), " here; set head.type: linear");
    return {kind, in_files};
  }
  if (type == "linear" || asks_pooling) return {HeadKind::none, false};
  if (holds_own_head(files, of_tokens)) return {HeadKind::as_files, true};
  if (of_another_task || own_head_of(files)) return {HeadKind::none, false};
  check(!family || head || !(of_tokens ? has_token_head(files.config()) : names_head(files, kOfTexts)), "model ",
        files.file().string(), ": its ...", of_tokens ? "ForTokenClassification" : kOfTexts,
        " head has no native form here; ",
        "set head.type: linear to put a new one on the model, or export it with tools/export_torchscript.py");
  if (in_files || (head && (of_tokens || !pooling_of(files)))) return {kind, in_files};
  return {HeadKind::none, false};
}

}  // namespace

HeadPlan plan_head(const RunConfig& config, const ModelFiles& files, const ModelFamilies& families) {
  const HeadPlan plan = plan_kind(config, files, families);
  check(!config.model.normalize || config.task->embeds() ||
            (config.task->takes_class_head() && !config.task->tags_tokens() && !plan.in_files &&
             plan.kind != HeadKind::classes),
        "model.normalize: only a new linear head on pooled states reads normalised ones; ",
        config.task->tags_tokens() ? "leave it out" : "set head.type: linear, or leave it out");
  return plan;
}

std::vector<std::string> classes_in(const ModelFiles& files, const ModelFamilies& families) {
  const auto named = class_names(files.config());
  int64_t count = named ? static_cast<int64_t>(named->size()) : 0;
  if (const auto own = own_head_of(files)) count = files.tensor(own->module + ".weight").size(0);
  else if (const auto head = own_head(files.holds_code() ? nullptr : family_of(files, families), files,
                                      has_token_head(files.config()));
           head) {
    const std::string last = head(files, 1).output + ".weight";
    check(files.has(last), "model ", files.file().string(), ": its files hold no trained head for classifying ",
          unit_of(has_token_head(files.config())), " (", last, " is not there); train one with deeplora finetune");
    count = files.tensor(last).size(0);
  }
  if (named && static_cast<int64_t>(named->size()) == count) return *named;
  check(!named || own_head_of(files), "model ", files.file().string(), ": id2label in config.json names ",
        named ? named->size() : 0, " classes, but its head has ", count, " outputs");
  std::vector<std::string> out;
  for (int64_t i = 0; i < count; ++i) out.push_back(cat("LABEL_", i));
  return out;
}

namespace {

/// What transformers starts such a weight with: a normal distribution, of which nothing lies beyond the cut.
torch::Tensor started_weight(const ClassHead::Weight& weight, at::Generator& generator) {
  torch::Tensor out = torch::full(weight.shape, weight.center, torch::kFloat32);
  if (weight.spread == 0) return out;
  if (weight.cut == 0) return out.normal_(weight.center, weight.spread, generator);
  const double edge = std::erf(weight.cut / std::sqrt(2.0)), limit = weight.cut * weight.spread;
  out.uniform_(-edge, edge, generator).erfinv_().mul_(std::sqrt(2.0) * weight.spread);
  return out.clamp_(-limit, limit).add_(weight.center);
}

}  // namespace

void put_class_head(ModelFiles& files, const ModelFamily& family, HeadKind kind, int64_t outputs, uint64_t seed,
                    torch::Device device) {
  const torch::NoGradGuard no_grad;
  ClassHead head = own_head(&family, files, kind == HeadKind::tokens)(files, outputs);
  const std::string last = head.output + ".weight";
  const int64_t found = files.has(last) ? files.tensor(last).size(0) : outputs;
  check(found == outputs, "model ", files.file().string(), ": its head (", last, ") has ", found,
        " outputs, but the task needs ", outputs, "; head.type: linear puts a new head on the model");
  auto generator = make_generator(seed, "init/head");
  std::vector<NamedTensor> started;
  std::vector<std::string> names;
  for (const auto& weight : head.weights) {
    if (files.has(weight.name)) continue;
    started.push_back({weight.name, started_weight(weight, generator).to(device)});
    names.push_back(weight.name);
  }
  log_info("head: ", head.architecture,
           names.empty() ? std::string(", as the model's files hold it")
                         : cat("; started: ", join(names, ", ", names.size())));
  files.put_head(std::move(head), std::move(started));
}

}  // namespace deeplora
