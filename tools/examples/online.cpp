// A regression network of float inputs that goes on learning while a simulation runs: what it was trained on drifts
// away, a few adapter weights follow.
#include <deeplora/deeplora.h>
#include <torch/torch.h>

#include <cmath>
#include <iostream>

namespace {

/// The simulated truth at time t: the response to (a, b) turns slowly.
torch::Tensor truth(const torch::Tensor& x, double t) {
  return torch::sin(x.select(1, 0) + t) + x.select(1, 1) * std::cos(t);
}

}  // namespace

int main() {
  torch::manual_seed(2);
  torch::jit::Module network("response");
  for (const auto& [name, rows, columns] : {std::tuple{"first", 32, 2}, {"second", 32, 32}, {"last", 1, 32}})
    network.register_parameter(name, torch::randn({rows, columns}) / std::sqrt(static_cast<double>(columns)), false);
  network.define(
      "def forward(self, state):\n"
      "    x = torch.tanh(torch.linear(state, self.first))\n"
      "    x = torch.tanh(torch.linear(x, self.second))\n"
      "    return torch.linear(x, self.last).squeeze(1)\n");

  deeplora::Model model = deeplora::Model::of(network);
  model.adapt({.options = {{"rank", "8"}}, .targets = {"first", "second", "last"}});
  deeplora::Optimizer optimizer = model.optimizer(1e-2);

  double early = 0, late = 0;
  for (int step = 0; step < 600; ++step) {
    const torch::Tensor state = torch::rand({16, 2}) * 2 - 1;
    const torch::Tensor error = torch::mse_loss(model({state}), truth(state, step * 1e-3));
    optimizer.zero_grad();
    error.backward();
    optimizer.step();
    (step < 50 ? early : late) += step < 50 || step >= 550 ? error.item<double>() / 50 : 0;
  }
  std::cout << "mean squared error of the first 50 steps " << early << ", of the last 50 " << late << "\n"
            << (late < early / 4 ? "it follows" : "it does not follow") << "\n";
}
