// Uses one thing of every installed library, and adds a method from outside of the tree: what is missing from the
// package does not compile, link or start.
#include <deeplora/deeplora.h>

#include <iostream>

#include "adapters/registration.h"
#include "core/error.h"
#include "core/random.h"
#include "models/registration.h"

namespace {

/// Whether a layer learns with adapters of a method that only this file knows.
bool learns_with_a_method_of_its_own(const deeplora::AdapterMethods& known) {
  deeplora::add_adapter_method("lora-at-home", known.at("lora"));
  torch::jit::Module layer("layer");
  layer.register_parameter("weight", torch::ones({3, 4}), false);
  layer.define("def forward(self, x):\n    return torch.linear(x, self.weight)\n");
  auto model = deeplora::Model::of(layer);
  model.adapt({.method = "lora-at-home", .options = {{"rank", "2"}}, .targets = {"weight"}});
  auto optimizer = model.optimizer(0.1);
  const torch::Tensor x = torch::ones({2, 4}), before = model({x}).detach();
  model({x}).sum().backward();
  optimizer.step();
  return !torch::equal(model({x}), before);
}

}  // namespace

int main() {
  deeplora::AdapterMethods methods("adapter method");
  deeplora::register_adapter_methods(methods);
  deeplora::ModelFamilies families("model family");
  deeplora::register_model_families(families);
  auto generator = deeplora::make_generator(0, "consumer");
  const bool same = at::equal(at::randn({4}, generator), at::randn({4}, deeplora::make_generator(0, "consumer")));
  std::cout << deeplora::nearest("deep-lorra", methods.names()) << " of " << methods.names().size() << " methods, "
            << families.names().size() << " families, streams " << (same ? "repeat" : "differ")
            << ", a method of its own " << (learns_with_a_method_of_its_own(methods) ? "learns" : "does not learn")
            << "\n";
  return same && !families.names().empty() ? 0 : 1;
}
