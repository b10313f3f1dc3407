#include "lm/adapt.h"

#include <algorithm>
#include <numeric>
#include <set>

#include "core/long_work.h"
#include "core/random.h"
#include "lm/targets.h"

namespace deeplora {
namespace {

/// "a.b.weight" -> "a.b"
std::string module_of(const std::string& parameter) {
  const size_t dot = parameter.rfind('.');
  return dot == std::string::npos ? "" : parameter.substr(0, dot);
}

/// Parameters of the archive's own head: its weights, and what lies beside them in their modules or is added behind
/// them.
std::set<std::string> head_parameters(LanguageModel& model) {
  std::set<std::string> modules, out;
  for (const auto& site : model.sites()) {
    if (site.role != "head") continue;
    modules.insert(module_path(site.path));
    out.insert(site.path);
    if (!site.bias.empty()) out.insert(site.bias);
  }
  for (const auto& [name, unused] : model.base_parameters())
    if (modules.count(module_of(name))) out.insert(name);
  return out;
}

/// Trained from here on, in float32 at least: in half precision most steps are smaller than the distance to the next
/// number, and Adam's epsilon is zero in float16. The tensor itself becomes wide, wherever the model holds it; a model
/// that computes in half precision rounds what it reads.
void train_in_float32(torch::Tensor& value) {
  if (value.scalar_type() == torch::kHalf || value.scalar_type() == torch::kBFloat16)
    value.set_data(value.to(torch::kFloat32));
  value.set_requires_grad(true);
}

}  // namespace

void AdaptedModel::add_adapters(const std::vector<AdapterSite>& sites, const AdapterFactory& factory, uint64_t seed,
                                torch::Device device, const LeadingPairs& leading_gradient,
                                const LeadingPairs& leading_inputs) {
  // Large weights first: whether a rank above one's smaller side is an error depends on whether any has room for it.
  const auto smaller_side = [&](size_t i) { return std::min(sites[i].weight.size(0), sites[i].weight.size(1)); };
  std::vector<size_t> order(sites.size());
  std::iota(order.begin(), order.end(), size_t{0});
  std::stable_sort(order.begin(), order.end(), [&](size_t a, size_t b) { return smaller_side(a) > smaller_side(b); });
  std::vector<std::shared_ptr<Adapter>> built(sites.size());
  std::map<size_t, std::string> refused;
  LongWork work("starting adapters", static_cast<int64_t>(sites.size()));
  for (const size_t i : order) {
    work.advance();
    const AdapterSite& site = sites[i];
    AdapterContext context;
    context.path = site.path;
    context.kind = site.kind;
    context.weight = site.weight;
    context.generator = make_generator(seed, "init/" + site.path);
    if (leading_gradient)
      context.leading_gradient = [&leading_gradient, &site](int64_t k) { return leading_gradient(site, k); };
    if (leading_inputs)
      context.leading_inputs = [&leading_inputs, &site](int64_t k) { return leading_inputs(site, k); };
    context.factor_options = torch::TensorOptions(device).dtype(
        site.weight.scalar_type() == torch::kFloat64 ? torch::kFloat64 : torch::kFloat32);
    try {
      built[i] = factory(context);
    } catch (const Error& e) {
      refused.emplace(i, e.what());
    }
  }
  Errors errors;
  for (const auto& [unused, reason] : refused) errors.add(reason);
  errors.throw_if_any();
  for (size_t i = 0; i < sites.size(); ++i) adapters_.push_back({sites[i], std::move(built[i])});
  attach();
}

void AdaptedModel::attach() {
  for (auto& [site, adapter] : adapters_) site.attach(adapter);
}

void AdaptedModel::detach() {
  for (auto& [site, adapter] : adapters_) site.attach(nullptr);
}

void AdaptedModel::keep(const NamedTensor& parameter, bool train) {
  const bool there = std::any_of(trained_base_.begin(), trained_base_.end(),
                                 [&](const NamedTensor& kept) { return kept.name == parameter.name; });
  if (there) return;
  trained_base_.push_back(parameter);
  if (train) train_in_float32(trained_base_.back().value);
}

void AdaptedModel::keep_started(const std::vector<NamedTensor>& started) {
  std::set<std::string> names;
  for (const auto& [name, unused] : started) names.insert(name);
  for (const auto& parameter : model_->base_parameters())
    if (names.count(parameter.name)) keep(parameter, false);
}

torch::Tensor AdaptedModel::in_files(const std::string& name, const torch::Tensor& value) const {
  if (units_.scale == 1 && units_.shift == 0) return value;
  if (name == units_.weight) return value.to(torch::kFloat64) * units_.scale;
  return name == units_.bias ? value.to(torch::kFloat64) * units_.scale + units_.shift : value;
}

torch::Tensor AdaptedModel::in_training(const std::string& name, const torch::Tensor& value) const {
  if (units_.scale == 1 && units_.shift == 0) return value;
  if (name == units_.weight) return value.to(torch::kFloat64) / units_.scale;
  return name == units_.bias ? (value.to(torch::kFloat64) - units_.shift) / units_.scale : value;
}

int64_t AdaptedModel::model_bytes() const {
  int64_t out = quantized_.bytes;
  for (const auto& [name, value] : model_->base_parameters())
    if (!quantized_.names.count(name)) out += static_cast<int64_t>(value.nbytes());
  return out;
}

std::vector<NamedTensor> AdaptedModel::trained_base_in_files() const {
  std::vector<NamedTensor> out;
  for (const auto& [name, value] : trained_base_) out.push_back({name, in_files(name, value.detach())});
  return out;
}

std::set<std::string> AdaptedModel::base_names() const {
  std::set<std::string> out;
  for (const auto& [name, unused] : model_->base_parameters()) out.insert(name);
  return out;
}

void AdaptedModel::train_base() {
  for (auto& parameter : model_->base_parameters()) {
    train_in_float32(parameter.value);
    trained_base_.push_back(parameter);
  }
}

bool AdaptedModel::train_archive_head(const std::set<std::string>& adapted) {
  const std::set<std::string> heads = head_parameters(*model_);
  for (const auto& parameter : model_->base_parameters())
    if (heads.count(parameter.name) && !adapted.count(parameter.name)) keep(parameter, true);
  return !heads.empty();
}

void AdaptedModel::train_also(const std::vector<std::string>& patterns, const std::set<std::string>& adapted,
                              bool heads) {
  if (patterns.empty()) return;
  const std::set<std::string> head = head_parameters(*model_);
  const auto parameters = model_->base_parameters();
  Errors errors;
  std::set<std::string> chosen;
  for (const auto& pattern : patterns) {
    bool any = false;
    for (const auto& [name, unused] : parameters) {
      if (!glob_matches(pattern, name)) continue;
      any = true;
      chosen.insert(name);
    }
    std::vector<std::string> names;
    for (const auto& [name, unused] : parameters) names.push_back(name);
    if (!any) errors.add("'", pattern, "' matches no weight", did_you_mean(pattern, names));
  }
  for (const auto& name : chosen)
    if (quantized_.names.count(name) && !adapted.count(name))
      errors.add(name, " is kept in 8 or 4 bits (model.quantize), which cannot be trained; leave it out");
  errors.throw_if_any("adapter.train_also");
  for (const auto& parameter : parameters)
    if (chosen.count(parameter.name) && !adapted.count(parameter.name))
      keep(parameter, heads || !head.count(parameter.name));
}

std::vector<ParamGroup> AdaptedModel::param_groups(double made_head_scale, double own_head_scale) const {
  std::vector<ParamGroup> groups;
  const auto group_of = [&groups](double lr_scale, bool decay, bool orthonormal = false) -> ParamGroup& {
    for (auto& group : groups)
      if (group.lr_scale == lr_scale && group.decay == decay && group.orthonormal == orthonormal) return group;
    groups.push_back({{}, lr_scale, decay, orthonormal});
    return groups.back();
  };
  for (const auto& [site, adapter] : adapters_)
    for (const auto& group : adapter->param_groups())
      for (const auto& [name, value] : group.params)
        group_of(group.lr_scale, group.decay, group.orthonormal)
            .params.push_back({cat("adapter/", site.path, "/", name), value});
  const std::set<std::string> heads = head_parameters(*model_);
  for (const auto& [name, value] : trained_base_) {
    if (!value.requires_grad()) continue;
    const bool head = heads.count(name) != 0;
    group_of(head ? own_head_scale : 1.0, value.dim() > 1).params.push_back({"base/" + name, value});
  }
  if (new_head_ && new_head_->options().train)
    for (const auto& [name, value] : new_head_->head_parameters())
      group_of(made_head_scale, value.dim() > 1).params.push_back({"head/" + name, value});
  return groups;
}

int64_t AdaptedModel::trainable_parameters() const {
  int64_t count = 0;
  for (const auto& group : param_groups())
    for (const auto& [unused, value] : group.params) count += value.numel();
  return count;
}

std::vector<NamedTensor> AdaptedModel::state() const {
  std::vector<NamedTensor> out;
  for (const auto& [site, adapter] : adapters_)
    for (const auto& [name, value] : adapter->tensors()) out.push_back({cat("adapter/", site.path, "/", name), value});
  for (const auto& [name, value] : trained_base_) out.push_back({"base/" + name, value});
  if (new_head_)
    for (const auto& [name, value] : new_head_->head_parameters()) out.push_back({"head/" + name, value});
  return out;
}

void AdaptedModel::load_state(const std::map<std::string, torch::Tensor>& values, const std::string& where) {
  torch::NoGradGuard no_grad;
  Errors errors;
  std::set<std::string> known;
  const auto own = state();
  for (const auto& [name, value] : own) {
    known.insert(name);
    const auto found = values.find(name);
    if (found == values.end()) errors.add("missing ", name);
    else if (found->second.sizes() != value.sizes())
      errors.add(name, ": expected shape ", value.sizes(), ", found ", found->second.sizes());
  }
  for (const auto& [name, unused] : values)
    if (!known.count(name)) errors.add("unexpected ", name);
  errors.throw_if_any(cat(where, " does not fit this model and configuration"));
  for (auto [name, value] : own) value.copy_(values.at(name));
}

std::vector<NamedTensor> AdaptedModel::merged_weights() const {
  std::vector<NamedTensor> out;
  for (const auto& name : merged_names()) out.push_back({name, merged_weight(name)});
  return out;
}

std::vector<std::string> AdaptedModel::merged_names() const {
  std::vector<std::string> out;
  std::set<std::string> met;
  for (const auto& [site, unused] : adapters_)
    if (met.insert(site.archive_path()).second) out.push_back(site.archive_path());
  for (const auto& [name, unused] : trained_base_)
    if (met.insert(name).second) out.push_back(name);
  return out;
}

torch::Tensor AdaptedModel::merged_weight(const std::string& name) const {
  const torch::NoGradGuard no_grad;
  const auto trained = std::find_if(trained_base_.begin(), trained_base_.end(),
                                    [&](const NamedTensor& parameter) { return parameter.name == name; });
  torch::Tensor whole, in_file;  // several adapters may change rows of one weight
  for (const auto& [site, adapter] : adapters_) {
    if (site.archive_path() != name) continue;
    const torch::Tensor delta = adapter->delta();
    if (site.fused_path.empty()) {
      // What is trained itself may be wider than the site's view of it.
      const torch::Tensor base = trained == trained_base_.end() ? site.as_stored(site.weight) : trained->value.detach();
      in_file = base.to(delta.scalar_type()) + site.as_stored(delta);
      break;
    }
    if (!whole.defined()) {
      whole = site.fused_weight.to(delta.scalar_type(), false, /*copy=*/true).contiguous();
      in_file = site.as_stored(whole);
    }
    site.block.add_to(whole, delta);
  }
  if (in_file.defined()) return in_files(name, in_file);
  check(trained != trained_base_.end(), "no adapter changes ", name);
  return in_files(name, trained->value.detach());
}

}  // namespace deeplora
