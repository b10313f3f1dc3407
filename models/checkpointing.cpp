#include "models/checkpointing.h"

#include <torch/csrc/autograd/custom_function.h>
#include <torch/custom_class.h>
#include <torch/torch.h>

#include <algorithm>
#include <mutex>

#include "lm/autocast.h"

namespace deeplora {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

/// States of LibTorch's own generators: the CPU's, which seeds masks on any device, and the device's.
struct RandomStates {
  torch::Tensor cpu, device;

  static RandomStates now(torch::Device device) {
    return {state(torch::kCPU), device.is_cpu() ? torch::Tensor() : state(device)};
  }
  void restore(torch::Device where) const {
    set_state(torch::kCPU, cpu);
    if (device.defined()) set_state(where, device);
  }

 private:
  static torch::Tensor state(torch::Device device) {
    at::Generator generator = at::globalContext().defaultGenerator(device);
    const std::lock_guard<std::mutex> lock(generator.mutex());
    return generator.get_state();
  }
  static void set_state(torch::Device device, const torch::Tensor& value) {
    at::Generator generator = at::globalContext().defaultGenerator(device);
    const std::lock_guard<std::mutex> lock(generator.mutex());
    generator.set_state(value);
  }
};

/// While alive, random numbers continue from `states`; then from where they were.
class RandomStateScope {
 public:
  RandomStateScope(torch::Device device, const RandomStates& states)
      : device_(device), before_(RandomStates::now(device)) {
    states.restore(device_);
  }
  ~RandomStateScope() { before_.restore(device_); }
  RandomStateScope(const RandomStateScope&) = delete;
  RandomStateScope& operator=(const RandomStateScope&) = delete;

 private:
  torch::Device device_;
  RandomStates before_;
};

/// What the backward pass needs to run the layer again.
struct Again : torch::CustomClassHolder {
  LayerFunction layer;
  variable_list trained;
  torch::Device device = torch::kCPU;
  RandomStates random;
  bool autocast = false;
};

struct Recompute : torch::autograd::Function<Recompute> {
  /// `tensors`: the layer's inputs, then the tensors it trains (given so that autograd knows them).
  static torch::Tensor forward(AutogradContext* ctx, const c10::intrusive_ptr<Again>& again, at::TensorList tensors) {
    const variable_list inputs(tensors.begin(), tensors.end() - static_cast<std::ptrdiff_t>(again->trained.size()));
    ctx->save_for_backward(inputs);
    ctx->saved_data["again"] = c10::IValue::make_capsule(again);
    return again->layer(inputs);
  }

  static variable_list backward(AutogradContext* ctx, const variable_list& outer) {
    const auto again = c10::static_intrusive_pointer_cast<Again>(ctx->saved_data["again"].toCapsule());
    const at::AutoGradMode with_grad(true);
    variable_list inputs, wanted;
    for (const auto& saved : ctx->get_saved_variables()) {
      inputs.push_back(saved.detach());
      const bool wants = saved.requires_grad();
      if (!wants) continue;
      wanted.push_back(inputs.back().set_requires_grad(true));
      // No leaf, as it was none before: of leaves autocast keeps one rounded copy, in which gradients would be added up
      // rounded.
      inputs.back() = wanted.back().view_as(wanted.back());
    }
    wanted.insert(wanted.end(), again->trained.begin(), again->trained.end());
    torch::Tensor out;
    {
      const RandomStateScope random(again->device, again->random);
      const Autocast autocast(again->device, again->autocast);
      out = again->layer(inputs);
    }
    const variable_list found =
        torch::autograd::grad({out}, wanted, {outer.front()}, std::nullopt, false, /*allow_unused=*/true);
    variable_list gradients{torch::Tensor()};  // none for the layer itself
    size_t next = 0;
    for (const auto& input : inputs) gradients.push_back(input.requires_grad() ? found[next++] : torch::Tensor());
    gradients.insert(gradients.end(), found.begin() + static_cast<std::ptrdiff_t>(next), found.end());
    return gradients;
  }
};

}  // namespace

torch::Tensor recomputed(const torch::nn::Module& owner, const std::vector<torch::Tensor>& inputs,
                         LayerFunction layer) {
  variable_list tensors = inputs, trained;
  for (const auto& parameter : owner.parameters())
    if (parameter.requires_grad()) trained.push_back(parameter);
  const bool needed =
      !trained.empty() || std::any_of(inputs.begin(), inputs.end(), [](const auto& x) { return x.requires_grad(); });
  if (!needed || !at::GradMode::is_enabled()) return layer(inputs);
  tensors.insert(tensors.end(), trained.begin(), trained.end());
  auto again = c10::make_intrusive<Again>();
  again->layer = std::move(layer);
  again->trained = std::move(trained);
  again->device = inputs.front().device();
  again->random = RandomStates::now(again->device);
  again->autocast = at::autocast::is_autocast_enabled(again->device.type());
  return Recompute::apply(again, at::TensorList(tensors));  // of a std::vector, autograd would not see the tensors
}

}  // namespace deeplora
