#include "lm/head.h"

#include <torch/torch.h>

#include <cmath>

#include "model_files/model_files.h"

namespace deeplora {

Pooling parse_pooling(const std::string& name) {
  if (name == "mean") return Pooling::mean;
  if (name == "cls") return Pooling::cls;
  if (name == "max") return Pooling::max;
  if (name == "last") return Pooling::last;
  if (name == "none") return Pooling::none;
  fail("unknown pooling '", name, "'; known: mean, cls, max, last");
}

std::string to_string(Pooling pooling) {
  switch (pooling) {
    case Pooling::mean: return "mean";
    case Pooling::cls: return "cls";
    case Pooling::max: return "max";
    case Pooling::last: return "last";
    case Pooling::none: return "none";
  }
  return "mean";
}

namespace {

/// How sentence-transformers names its ways of pooling: in the file's truth values, and as one word.
struct PoolingName {
  const char* key;
  const char* word;
  std::optional<Pooling> pooling;
};
const PoolingName kPoolingNames[] = {{"pooling_mode_mean_tokens", "mean", Pooling::mean},
                                     {"pooling_mode_cls_token", "cls", Pooling::cls},
                                     {"pooling_mode_max_tokens", "max", Pooling::max},
                                     {"pooling_mode_lasttoken", "lasttoken", Pooling::last},
                                     {"pooling_mode_mean_sqrt_len_tokens", "mean_sqrt_len_tokens", std::nullopt},
                                     {"pooling_mode_weightedmean_tokens", "weightedmean", std::nullopt}};

}  // namespace

std::optional<Pooling> pooling_of(const ModelFiles& files) {
  const JsonFile file = files.json(files.extra("1_Pooling/config.json") ? "1_Pooling/config.json" : "pooling.json");
  if (file.root.empty()) return std::nullopt;
  const std::string word = file.value("pooling_mode", std::string());
  std::vector<const PoolingName*> chosen;
  for (const auto& name : kPoolingNames)
    if (word == name.word || file.value(name.key, false)) chosen.push_back(&name);
  std::vector<std::string> names;
  for (const auto* name : chosen) names.emplace_back(name->word);
  check(chosen.size() == 1 && chosen.front()->pooling, file.name, ": its pooling ",
        names.empty() ? cat("'", word, "'") : join(names, " and "),
        " is not known here; choose one with model.pooling: ", "mean, cls, max or last");
  return chosen.front()->pooling;
}

std::vector<std::string> modules_behind_pooling(const ModelFiles& files) {
  const auto text = files.extra("modules.json");
  if (!text) return {};
  const std::string where = cat("model ", files.file().string(), ": modules.json");
  const auto modules = parse_json<nlohmann::json>(where, *text);
  check(modules.is_array(), where, ": expected a list of modules, found ", shown(modules));
  std::vector<std::string> out;
  for (const auto& module : modules) {
    const std::string type = json_at<std::string>(module, "type", where);
    out.push_back(type.substr(type.rfind('.') + 1));
  }
  check(out.size() >= 2 && out[0] == "Transformer" && out[1] == "Pooling", where,
        ": expected a Transformer and its Pooling first, found ", join(out),
        "; choose a pooling with model.pooling: mean, cls, max or last");
  return {out.begin() + 2, out.end()};
}

torch::Tensor normalized(const torch::Tensor& pooled) {
  return torch::nn::functional::normalize(pooled, torch::nn::functional::NormalizeFuncOptions().p(2).dim(1));
}

torch::Tensor pool(const torch::Tensor& states, const torch::Tensor& given, Pooling pooling) {
  const torch::Tensor mask =
      given.defined() ? given : torch::ones({states.size(0), states.size(1)}, states.options().dtype(torch::kInt64));
  // bfloat16 counts no more than 256 tokens.
  const torch::Tensor hidden = states.to(c10::promoteTypes(states.scalar_type(), torch::kFloat32));
  const torch::Tensor keep = (mask != 0).to(hidden.scalar_type()).unsqueeze(-1);
  switch (pooling) {
    case Pooling::mean: return (hidden * keep).sum(1) / keep.sum(1).clamp_min(1);
    case Pooling::cls: return hidden.select(1, 0);
    case Pooling::max: return hidden.masked_fill(keep == 0, -std::numeric_limits<float>::infinity()).amax(1);
    case Pooling::last: {
      const torch::Tensor last = ((mask != 0) * torch::arange(1, mask.size(1) + 1, mask.options())).argmax(1);
      return hidden.index({torch::arange(hidden.size(0), last.options()), last});
    }
    case Pooling::none: return hidden;
  }
  return {};
}

ModelWithHead::ModelWithHead(std::shared_ptr<LanguageModel> base, int64_t width, HeadOptions options,
                             at::Generator generator, torch::Device device)
    : base_(register_module("base", std::move(base))), options_(options) {
  const double bound = 1.0 / std::sqrt(static_cast<double>(width));
  const torch::Tensor start = torch::empty({options_.outputs, width}).uniform_(-bound, bound, generator);
  weight_ = register_parameter("weight", start.to(device), options_.train);
  bias_ = register_parameter("bias", torch::zeros({options_.outputs}, device), options_.train);
}

torch::Tensor pooled_states(LanguageModel& model, const Batch& batch, Pooling pooling, std::string_view what) {
  const torch::Tensor first = pooling == Pooling::cls ? model.first_states(batch) : torch::Tensor();
  if (first.defined()) return first;
  const torch::Tensor hidden = model.forward(batch).hidden;
  check(hidden.defined(), "the family ", model.family(), " gives no hidden states that ", what, " could pool");
  return pool(hidden, batch.attention_mask, pooling);
}

ModelOutput ModelWithHead::forward(const Batch& batch) {
  torch::Tensor pooled = pooled_states(*base_, batch, options_.pooling, "a new head");
  if (options_.normalize) pooled = normalized(pooled);
  if (options_.dropout > 0) pooled = at::dropout(pooled, options_.dropout, is_training());
  const torch::Tensor raw = at::linear(pooled.to(weight_.scalar_type()), weight_, bias_);
  if (options_.scale == 1 && options_.shift == 0) return {.hidden = {}, .logits = raw};
  // In float64: float32 would round what was learnt to the step of numbers as large as the shift.
  return {.hidden = {}, .logits = raw.to(torch::kFloat64) * options_.scale + options_.shift};
}

void ModelWithHead::set_head(const torch::Tensor& weight, const torch::Tensor& bias) {
  const torch::NoGradGuard no_grad;
  weight_.copy_(weight);
  bias_.copy_(bias);
}

std::pair<torch::Tensor, torch::Tensor> ModelWithHead::folded() const {
  torch::NoGradGuard no_grad;
  const torch::Tensor weight = weight_.to(torch::kFloat64), bias = bias_.to(torch::kFloat64);
  return {weight * options_.scale, bias * options_.scale + options_.shift};
}

}  // namespace deeplora
