#include "tasks/logistic.h"

#include <torch/torch.h>

#include "core/error.h"

namespace deeplora {
namespace {

constexpr double kNoProbability = -1e4;  ///< as a logit: exp of it is 0

/// The least of the loss over {weight, bias}; `logits_of` makes logits [N, C] of the rows.
template <class Logits>
void minimize(const std::vector<torch::Tensor>& parameters, const torch::Tensor& classes, double c,
              const Logits& logits_of) {
  const auto rows = static_cast<double>(classes.size(0));
  torch::optim::LBFGS optimizer(parameters, torch::optim::LBFGSOptions(1)
                                                .max_iter(10000)
                                                .max_eval(20000)
                                                .tolerance_grad(1e-9)
                                                .tolerance_change(1e-16)
                                                .history_size(20)
                                                .line_search_fn("strong_wolfe"));
  optimizer.step([&] {
    optimizer.zero_grad();
    // Over the rows, as scikit-learn scales it: the gradient's tolerance does not depend on their number then.
    const torch::Tensor penalty = parameters[0].square().sum() / (2 * c * rows);
    const torch::Tensor loss = torch::nn::functional::cross_entropy(logits_of(), classes) + penalty;
    loss.backward();
    return loss;
  });
}

}  // namespace

LogisticFit fit_logistic(const torch::Tensor& features, const torch::Tensor& classes, int64_t outputs, double c) {
  const torch::AutoGradMode grad(true);
  const auto [present, numbers, unused] = at::_unique2(classes, /*sorted=*/true, /*return_inverse=*/true);
  const int64_t found = present.size(0), width = features.size(1);
  check(found >= 2, "a logistic head needs rows of two labels, found ", found);
  const bool two = found == 2;
  torch::Tensor weight = torch::zeros({two ? 1 : found, width}, torch::kFloat64).requires_grad_(),
                bias = torch::zeros({two ? 1 : found}, torch::kFloat64).requires_grad_();
  const torch::Tensor rows = features.detach();
  minimize({weight, bias}, numbers, c, [&] {
    const torch::Tensor raw = torch::linear(rows, weight, bias);
    return two ? torch::cat({-raw / 2, raw / 2}, 1) : raw;
  });
  const torch::NoGradGuard no_grad;
  if (two) {
    weight = torch::cat({-weight / 2, weight / 2});
    bias = torch::cat({-bias / 2, bias / 2});
  }
  LogisticFit out{torch::zeros({outputs, width}, torch::kFloat64),
                  torch::full({outputs}, kNoProbability, torch::kFloat64)};
  out.weight.index_copy_(0, present, weight.detach());
  out.bias.index_copy_(0, present, bias.detach());
  return out;
}

}  // namespace deeplora
