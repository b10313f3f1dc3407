#include "models/class_head.h"

#include <torch/torch.h>

#include "models/activation.h"
#include "models/causal_model.h"

namespace deeplora {
namespace {

/// What transformers starts linear layers with.
double start_spread(const JsonFile& config) {
  const double spread = config.value("initializer_range", config.value("init_std", 0.02));
  return spread > 0 ? spread : 0.02;
}

}  // namespace

ClassHead describe_class_head(const ClassHeadForm& form, const ModelFiles& files, const std::string& name,
                              const std::string& base, const std::string& prefix, int64_t width, int64_t outputs,
                              std::optional<ClassHeadStart> start) {
  const std::string above = prefix_above(prefix);
  ClassHead out{.architecture = name + (form.of_tokens ? "ForTokenClassification" : "ForSequenceClassification"),
                .base = base,
                .prefix = prefix,
                .above = above,
                .output = above + form.last};
  const double spread = start_spread(files.config());
  const ClassHeadStart from = start.value_or(ClassHeadStart{spread, spread});
  const auto add = [&](const std::string& layer, int64_t rows, bool in_base, double layer_spread, bool bias) {
    const std::string path = (in_base ? prefix : above) + layer;
    out.weights.push_back({path + ".weight", {rows, width}, layer_spread, in_base, 0, from.cut});
    if (bias) out.weights.push_back({path + ".bias", {rows}, 0, in_base});
  };
  if (!form.first.empty()) add(form.first, width, form.first_in_base, from.first, form.first_bias.there);
  if (!form.norm.empty()) out.weights.push_back({above + form.norm + ".weight", {width}, 0, false, /*center=*/1});
  if (!form.norm.empty() && form.norm_bias) out.weights.push_back({above + form.norm + ".bias", {width}});
  add(form.last, outputs, false, from.last, form.last_bias.there);
  return out;
}

bool holds_class_head(const ModelFiles& files, const ClassHeadForm& form, const std::string& above) {
  return files.has(cat(above, form.last, ".weight"));
}

torch::Tensor last_chosen(const torch::Tensor& states, const torch::Tensor& chosen) {
  const auto ids = torch::TensorOptions(torch::kInt64).device(states.device());
  const torch::Tensor last = (chosen.to(torch::kInt64) * torch::arange(chosen.size(1), ids)).argmax(1);
  return states.index({torch::arange(states.size(0), ids), last});
}

ClassHeadForm end_state_form() {
  return {.first = "classification_head.dense", .last = "classification_head.out_proj"};
}

ClassHeadForm token_form(const std::string& layer) { return {.last = layer, .of_tokens = true}; }

double token_dropout(const JsonFile& config, const ModelOptions& options) {
  if (options.dropout) return *options.dropout;
  for (const char* key : {"classifier_dropout", "hidden_dropout"}) {
    const auto found = config.root.find(key);
    if (found != config.root.end() && !found->is_null()) return config.at<double>(key);
  }
  return 0.1;
}

torch::Tensor end_states(const torch::Tensor& states, const torch::Tensor& ids, const torch::Tensor& mask,
                         int64_t end) {
  torch::Tensor ends = ids.eq(end);
  if (mask.defined()) ends = ends.logical_and(mask.ne(0));
  check(ends.any(1).all().item<bool>(), "a row has no end token (eos_token_id ", end,
        "), where this family's classifier reads the text; was it cut away, or left ", "out by the tokenizer?");
  return last_chosen(states, ends);
}

ClassificationHead::ClassificationHead(WeightMap& above, WeightMap& base, const ClassHeadForm& form, int64_t width,
                                       double dropout, const ModelOptions& options)
    : form_(form), dropout_(dropout), shift_(options.shift), scale_(options.scale) {
  if (!form.first.empty()) {
    WeightMap& holder = form.first_in_base ? base : above;
    first_ = register_module("first", holder.projection(form.first, -1, width, form.first_bias));
    if (form.first_in_base && !holder.is_started(form.first + ".weight")) first_role_ = "pooler";
  }
  if (!form.norm.empty())
    norm_ = register_module("norm", FrozenLayerNorm(above, form.norm, width, form.norm_eps, form.norm_bias));
  last_ = register_module("last", above.projection(form.last, -1, -1, form.last_bias));
}

torch::Tensor ClassificationHead::forward(torch::Tensor x) {
  if (first_) {
    x = at::dropout(x, form_.first_dropout.value_or(dropout_), is_training());
    x = activate(first_(x), form_.activation);
    if (norm_) x = norm_(x);
  }
  x = at::dropout(x, dropout_, is_training());
  const torch::Tensor raw = last_(x);
  // In float64: float32 would round what was learnt to the step of numbers as large as the shift.
  return scale_ == 1 && shift_ == 0 ? raw : raw.to(torch::kFloat64) * scale_ + shift_;
}

void ClassificationHead::add_sites(std::vector<AdapterSite>& sites) {
  if (first_) sites.push_back(first_->site(first_role_, SiteKind::linear));
  sites.push_back(last_->site("head", SiteKind::linear));
}

bool takes_class_head(const ModelFiles& files, const ClassHeadForm& form, const std::string& prefix,
                      const ModelOptions& options) {
  if (options.head != HeadKind::as_files)
    return options.head == (form.of_tokens ? HeadKind::tokens : HeadKind::classes);
  const bool fits = form.of_tokens ? has_token_head(files.config()) : !has_head_of_another_task(files.config());
  return fits && holds_class_head(files, form, prefix_above(prefix));
}

EncoderHead encoder_head(const ModelFiles& files, WeightMap& base, const ClassHeadForm& form, const std::string& family,
                         int64_t width, double dropout, const ModelOptions& options) {
  WeightMap above(files, prefix_above(base.prefix()));
  EncoderHead out{std::make_shared<ClassificationHead>(above, base, form, width, dropout, options)};
  above.finish(family, {""});
  out.weights = above.taken();
  out.of_tokens = form.of_tokens;
  return out;
}

}  // namespace deeplora
