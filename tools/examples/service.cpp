// A service that keeps one model in memory and answers each request with the adapters of its customer.
#include <deeplora/deeplora.h>
#include <torch/torch.h>

#include <filesystem>
#include <iostream>

namespace {

/// Teaches adapters of a new name to give class `wanted`; in life they come from runs of `deeplora finetune`.
void teach(deeplora::Model& model, const std::string& customer, int64_t wanted) {
  model.adapt({.options = {{"rank", "2"}}, .targets = {"*"}}, customer);
  deeplora::Optimizer optimizer = model.optimizer(5e-2);
  for (int step = 0; step < 60; ++step) {
    const torch::Tensor x = torch::randn({32, 8});
    optimizer.zero_grad();
    torch::cross_entropy_loss(model({x}), torch::full({32}, wanted, torch::kInt64)).backward();
    optimizer.step();
  }
}

}  // namespace

int main() {
  torch::manual_seed(3);
  torch::jit::Module module("base");
  module.register_parameter("body", torch::randn({32, 8}), false);
  module.register_parameter("out", torch::randn({3, 32}) * 0.1, false);
  module.register_parameter("bias", torch::zeros({3}), false);
  module.define(
      "def forward(self, x):\n    return torch.linear(torch.relu(torch.linear(x, self.body)), self.out, self.bias)\n");
  deeplora::Model model = deeplora::Model::of(module);

  const auto folder = std::filesystem::temp_directory_path() / "deeplora-service-example";
  std::filesystem::create_directories(folder);
  for (const auto& [customer, wanted] : {std::pair{"ann", 0}, {"bob", 2}}) {
    teach(model, customer, wanted);
    model.save_adapter(folder / (std::string(customer) + ".safetensors"));
    model.remove(customer);
  }

  for (const char* customer : {"ann", "bob"})
    model.load_adapter(folder / (std::string(customer) + ".safetensors"), customer);
  const torch::NoGradGuard no_grad;
  const torch::Tensor request = torch::randn({1, 8});
  const torch::Tensor before = module.forward({request}).toTensor();
  for (const char* customer : {"ann", "bob", "ann"}) {
    model.use(customer);
    std::cout << customer << " gets class " << model({request}).argmax(1).item<int64_t>() << "\n";
  }
  model.use("");
  std::cout << "without adapters the base answers as before: " << std::boolalpha
            << torch::equal(model({request}), before) << "\n";
  std::filesystem::remove_all(folder);
}
