// LoRA on a TorchScript module inside a training loop that you have already: the module, the loss and the optimizer are
// yours.
#include <deeplora/deeplora.h>
#include <torch/torch.h>

#include <iostream>

int main() {
  torch::manual_seed(1);
  torch::jit::Module module("classifier");  // in life: torch::jit::load("model.pt")
  module.register_parameter("up", torch::randn({64, 16}) * 0.3, false);
  module.register_parameter("out", torch::randn({3, 64}) * 0.3, false);
  module.define("def forward(self, x):\n    return torch.linear(torch.relu(torch.linear(x, self.up)), self.out)\n");

  deeplora::Model model = deeplora::Model::of(module);
  model.adapt({.method = "lora", .options = {{"rank", "3"}}, .targets = {"up", "out"}});
  torch::optim::AdamW optimizer(model.parameters(), torch::optim::AdamWOptions(1e-2));

  const torch::Tensor x = torch::randn({128, 16}), labels = x.slice(1, 0, 3).argmax(1);
  model.train();
  for (int step = 0; step <= 200; ++step) {
    optimizer.zero_grad();
    const torch::Tensor loss = torch::cross_entropy_loss(model({x}), labels);
    loss.backward();
    optimizer.step();
    if (step % 100 == 0) std::cout << "step " << step << " loss " << loss.item<float>() << "\n";
  }
  model.eval();
  torch::NoGradGuard no_grad;
  const torch::Tensor adapted = model({x}), merged = model.merged().forward({x}).toTensor();
  std::cout << "correct " << adapted.argmax(1).eq(labels).sum().item<int64_t>() << " of 128\n"
            << "merged equals adapted: " << std::boolalpha << torch::allclose(adapted, merged, 1e-4, 1e-4) << "\n";
}
