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
  network.register_parameter("shift", torch::zeros({32}), false);
  network.register_parameter("offset", torch::zeros({1}), false);
  network.define(
      "def forward(self, state):\n"
      "    x = torch.tanh(torch.linear(state, self.first, self.shift))\n"
      "    x = torch.tanh(torch.linear(x, self.second))\n"
      "    return torch.linear(x, self.last, self.offset).squeeze(1)\n");

  deeplora::Model model = deeplora::Model::of(network);
  // Two small matrices for each weight in the middle; the biases and the last layer learn themselves.
  model.adapt({.options = {{"rank", "2"}}, .targets = {"first", "second"}, .train_also = {"last", "shift", "offset"}});
  deeplora::Optimizer optimizer = model.optimizer(5e-3);

  double as_built = 0, adapted = 0;  // mean squared errors of the last 50 steps
  for (int step = 0; step < 600; ++step) {
    const torch::Tensor state = torch::rand({16, 2}) * 2 - 1, wanted = truth(state, step * 1e-3);
    const torch::Tensor error = torch::mse_loss(model({state}), wanted);
    optimizer.zero_grad();
    error.backward();
    optimizer.step();
    if (step < 550) continue;
    adapted += error.item<double>() / 50;
    as_built += torch::mse_loss(network.forward({state}).toTensor(), wanted).item<double>() / 50;
  }
  std::cout << "mean squared error of the last 50 steps: the network as it was built " << as_built
            << ", with adapters that learn on " << adapted << "\n"
            << (adapted < as_built / 10 ? "it follows" : "it does not follow") << "\n";
}
