#include "train/optimizers.h"

#include <torch/optim/adam.h>
#include <torch/optim/adamw.h>
#include <torch/optim/rmsprop.h>
#include <torch/optim/sgd.h>
#include <torch/torch.h>

#include <algorithm>
#include <map>
#include <set>

#include "core/error.h"
#include "factorization/stiefel.h"

namespace deeplora {
namespace {

using torch::optim::OptimizerParamState;

/// Tensors and step count of one parameter's state; nothing where the optimizer keeps none.
struct Fields {
  std::map<std::string, torch::Tensor> tensors;
  std::optional<int64_t> step;
};

template <class State>
Fields adam_fields(const OptimizerParamState& state) {
  const auto& adam = static_cast<const State&>(state);
  return {{{"exp_avg", adam.exp_avg()}, {"exp_avg_sq", adam.exp_avg_sq()}}, adam.step()};
}

template <class State>
std::unique_ptr<OptimizerParamState> adam_state(const Fields& fields) {
  auto state = std::make_unique<State>();
  state->step(*fields.step);
  state->exp_avg(fields.tensors.at("exp_avg"));
  state->exp_avg_sq(fields.tensors.at("exp_avg_sq"));
  return state;
}

/// How one optimizer's state is taken apart and put together again.
struct StateLayout {
  std::set<std::string> tensors;
  bool counts_steps;
  Fields (*take_apart)(const OptimizerParamState&);
  std::unique_ptr<OptimizerParamState> (*put_together)(const Fields&);
};

Fields sgd_fields(const OptimizerParamState& state) {
  return {{{"momentum_buffer", static_cast<const torch::optim::SGDParamState&>(state).momentum_buffer()}}, {}};
}

std::unique_ptr<OptimizerParamState> sgd_state(const Fields& fields) {
  auto state = std::make_unique<torch::optim::SGDParamState>();
  state->momentum_buffer(fields.tensors.at("momentum_buffer"));
  return state;
}

Fields rmsprop_fields(const OptimizerParamState& state) {
  const auto& rmsprop = static_cast<const torch::optim::RMSpropParamState&>(state);
  return {{{"square_avg", rmsprop.square_avg()}}, rmsprop.step()};
}

std::unique_ptr<OptimizerParamState> rmsprop_state(const Fields& fields) {
  auto state = std::make_unique<torch::optim::RMSpropParamState>();
  state->step(*fields.step);
  state->square_avg(fields.tensors.at("square_avg"));
  return state;
}

const StateLayout& layout_of(const std::string& name) {
  using torch::optim::AdamParamState;
  using torch::optim::AdamWParamState;
  static const std::map<std::string, StateLayout> layouts = {
      {"adamw", {{"exp_avg", "exp_avg_sq"}, true, adam_fields<AdamWParamState>, adam_state<AdamWParamState>}},
      {"adam", {{"exp_avg", "exp_avg_sq"}, true, adam_fields<AdamParamState>, adam_state<AdamParamState>}},
      {"sgd", {{"momentum_buffer"}, false, sgd_fields, sgd_state}},
      {"rmsprop", {{"square_avg"}, true, rmsprop_fields, rmsprop_state}}};
  const auto found = layouts.find(name);
  check(found != layouts.end(), "train.optimizer: expected one of ", join(optimizer_names()), ", found '", name, "'",
        did_you_mean(name, optimizer_names()));
  return found->second;
}

template <class Options>
std::unique_ptr<torch::optim::OptimizerOptions> adam_options(const OptimizerOptions& options) {
  return std::make_unique<Options>(Options(0.0).betas({options.beta1, options.beta2}).eps(options.eps));
}

void set_weight_decay(torch::optim::OptimizerOptions& options, double decay) {
  using namespace torch::optim;
  if (auto* adamw = dynamic_cast<AdamWOptions*>(&options)) adamw->weight_decay(decay);
  else if (auto* adam = dynamic_cast<AdamOptions*>(&options)) adam->weight_decay(decay);
  else if (auto* rmsprop = dynamic_cast<RMSpropOptions*>(&options)) rmsprop->weight_decay(decay);
  else static_cast<SGDOptions&>(options).weight_decay(decay);
}

std::unique_ptr<torch::optim::Optimizer> make_optimizer(const OptimizerOptions& options,
                                                        const std::vector<ParamGroup>& groups) {
  using namespace torch::optim;
  std::vector<OptimizerParamGroup> made;
  for (const auto& group : groups) {
    std::vector<torch::Tensor> params;
    for (const auto& parameter : group.params) params.push_back(parameter.value);
    made.emplace_back(std::move(params));
  }
  std::unique_ptr<Optimizer> optimizer;
  if (options.name == "adamw") optimizer = std::make_unique<AdamW>(made, AdamWOptions());
  else if (options.name == "adam") optimizer = std::make_unique<Adam>(made, AdamOptions());
  else if (options.name == "rmsprop") optimizer = std::make_unique<RMSprop>(made, RMSpropOptions(0.0));
  else optimizer = std::make_unique<SGD>(made, SGDOptions(0.0));
  // Options are put in afterwards: newer LibTorch merges options given to a group with the optimizer's
  // defaults and takes a field that happens to equal the library's own default for "not set".
  for (size_t i = 0; i < groups.size(); ++i) {
    std::unique_ptr<torch::optim::OptimizerOptions> own;
    if (options.name == "adamw") own = adam_options<AdamWOptions>(options);
    else if (options.name == "adam") own = adam_options<AdamOptions>(options);
    else if (options.name == "rmsprop")
      own = std::make_unique<RMSpropOptions>(RMSpropOptions(0.0).alpha(options.alpha).eps(options.eps));
    else own = std::make_unique<SGDOptions>(SGDOptions(0.0).momentum(options.momentum));
    set_weight_decay(*own, groups[i].decay ? options.weight_decay : 0.0);
    optimizer->param_groups()[i].set_options(std::move(own));
  }
  return optimizer;
}

std::string shape_of(const torch::Tensor& tensor) { return cat(tensor.sizes(), " ", tensor.scalar_type()); }

/// Entries of `state` by parameter; adds to `errors` what does not fit the parameters and the layout.
std::map<std::string, Fields> sort_entries(const std::vector<NamedTensor>& state, const StateLayout& layout,
                                           const std::map<std::string, torch::Tensor>& parameters, Errors& errors) {
  std::map<std::string, Fields> sorted;
  for (const auto& [name, value] : state) {
    const size_t slash = name.rfind('/');
    const std::string parameter = name.substr(0, slash),
                      field = slash == std::string::npos ? "" : name.substr(slash + 1);
    const auto owner = parameters.find(parameter);
    if (owner == parameters.end()) {
      errors.add(parameter, " is not trained in this run");
    } else if (layout.counts_steps && field == "step") {
      sorted[parameter].step = value.item<int64_t>();
    } else if (!layout.tensors.count(field)) {
      errors.add(name, " belongs to another optimizer");
    } else if (value.sizes() != owner->second.sizes() || value.scalar_type() != owner->second.scalar_type()) {
      errors.add(name, ": expected ", shape_of(owner->second), ", found ", shape_of(value));
    } else {
      sorted[parameter].tensors[field] = value.to(owner->second.device(), /*non_blocking=*/false, /*copy=*/true);
    }
  }
  for (const auto& [parameter, fields] : sorted)
    if (fields.tensors.size() != layout.tensors.size() || fields.step.has_value() != layout.counts_steps)
      errors.add(parameter, ": its optimizer state is incomplete");
  return sorted;
}

/// One Adam or AdamW step of a group in LibTorch's fused kernel: one pass over all its tensors in place of about eight
/// operators for each. The states are those of torch::optim, so either way of stepping can follow the other.
template <class Options, class State, class Kernel>
void fused_step(torch::optim::Optimizer& optimizer, torch::optim::OptimizerParamGroup& group, Kernel kernel) {
  std::vector<torch::Tensor> params, grads, means, squares, steps;
  std::map<int64_t, torch::Tensor> counts;  // few: parameters differ only when one had no gradient in some step
  for (torch::Tensor& parameter : group.params()) {
    if (!parameter.grad().defined()) continue;
    auto& state = optimizer.state()[parameter.unsafeGetTensorImpl()];
    if (!state) {
      auto fresh = std::make_unique<State>();
      fresh->exp_avg(torch::zeros_like(parameter));
      fresh->exp_avg_sq(torch::zeros_like(parameter));
      state = std::move(fresh);
    }
    auto& own = static_cast<State&>(*state);
    own.step(own.step() + 1);
    torch::Tensor& count = counts[own.step()];
    if (!count.defined())
      count = torch::full({}, static_cast<double>(own.step()),
                          parameter.options().dtype(torch::kFloat32).requires_grad(false));
    params.push_back(parameter);
    grads.push_back(parameter.grad().contiguous());
    means.push_back(own.exp_avg());
    squares.push_back(own.exp_avg_sq());
    steps.push_back(count);
  }
  if (params.empty()) return;
  const auto& options = static_cast<const Options&>(group.options());
  kernel(params, grads, means, squares, {}, steps, options.get_lr(), std::get<0>(options.betas()),
         std::get<1>(options.betas()), options.weight_decay(), options.eps(), /*amsgrad=*/false, /*maximize=*/false,
         std::nullopt, std::nullopt);
}

/// The fused kernel walks through memory: tensors of one dtype and device, each in one piece.
bool can_be_fused(const std::vector<torch::Tensor>& params) {
  return std::all_of(params.begin(), params.end(), [&](const torch::Tensor& p) {
    return p.is_contiguous() && p.scalar_type() == params.front().scalar_type() &&
           p.device() == params.front().device() &&
           (p.scalar_type() == torch::kFloat32 || p.scalar_type() == torch::kFloat64) && (p.is_cpu() || p.is_cuda());
  });
}

using FusedKernel = void (*)(at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList,
                             at::TensorList, double, double, double, double, double, bool, bool,
                             const std::optional<torch::Tensor>&, const std::optional<torch::Tensor>&);

}  // namespace

std::vector<std::string> optimizer_names() { return {"adamw", "adam", "sgd", "rmsprop"}; }

GroupOptimizer::GroupOptimizer(const OptimizerOptions& options, std::vector<ParamGroup> groups)
    : name_(options.name), groups_(std::move(groups)) {
  layout_of(name_);  // an unknown name is an Error
  std::set<std::string> names;
  for (const auto& group : groups_)
    for (const auto& parameter : group.params)
      if (!names.insert(parameter.name).second)
        throw std::logic_error(cat("parameter '", parameter.name, "' is in the optimizer twice"));
  optimizer_ = make_optimizer(options, groups_);
}

void GroupOptimizer::set_learning_rate(double base_lr) {
  for (size_t i = 0; i < groups_.size(); ++i)
    optimizer_->param_groups()[i].options().set_lr(base_lr * groups_[i].lr_scale);
}

void GroupOptimizer::step() {
  const torch::NoGradGuard no_grad;
  for (const auto& group : groups_)
    if (group.orthonormal)
      for (const auto& [name, value] : group.params)
        if (value.grad().defined()) value.grad().copy_(tangent_part(value, value.grad()));
  take_step();
  for (const auto& group : groups_)
    if (group.orthonormal)
      for (auto [name, value] : group.params) value.copy_(polar_factor(value));
}

void GroupOptimizer::take_step() {
  using namespace torch::optim;
  auto& groups = optimizer_->param_groups();
  const bool adam = name_ == "adam", adamw = name_ == "adamw";
  if (!(adam || adamw) ||
      !std::all_of(groups.begin(), groups.end(), [](OptimizerParamGroup& g) { return can_be_fused(g.params()); })) {
    optimizer_->step();
    return;
  }
  for (auto& group : groups) {
    if (adam) fused_step<AdamOptions, AdamParamState>(*optimizer_, group, static_cast<FusedKernel>(at::_fused_adam_));
    else fused_step<AdamWOptions, AdamWParamState>(*optimizer_, group, static_cast<FusedKernel>(at::_fused_adamw_));
  }
}

std::vector<NamedTensor> GroupOptimizer::state() const {
  const StateLayout& layout = layout_of(name_);
  std::vector<NamedTensor> out;
  for (const auto& group : groups_)
    for (const auto& [name, value] : group.params) {
      const auto found = optimizer_->state().find(value.unsafeGetTensorImpl());
      if (found == optimizer_->state().end()) continue;
      const Fields fields = layout.take_apart(*found->second);
      if (fields.step) out.push_back({name + "/step", torch::tensor(*fields.step, torch::kInt64)});
      for (const auto& [field, tensor] : fields.tensors)
        if (tensor.defined())
          out.push_back({cat(name, "/", field), tensor.detach().to(torch::kCPU, false, /*copy=*/true)});
    }
  return out;
}

void GroupOptimizer::restore(const std::vector<NamedTensor>& state) {
  const StateLayout& layout = layout_of(name_);
  std::map<std::string, torch::Tensor> parameters;
  for (const auto& group : groups_)
    for (const auto& parameter : group.params) parameters[parameter.name] = parameter.value;
  Errors errors;
  const auto sorted = sort_entries(state, layout, parameters, errors);
  errors.throw_if_any("the saved optimizer state does not fit this run");
  optimizer_->state().clear();
  for (const auto& [name, fields] : sorted)
    optimizer_->state()[parameters.at(name).unsafeGetTensorImpl()] = layout.put_together(fields);
}

}  // namespace deeplora
