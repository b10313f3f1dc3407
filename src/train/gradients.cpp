#include "train/gradients.h"

#include <torch/torch.h>

namespace deeplora {
namespace {

std::vector<torch::Tensor> gradients(const std::vector<ParamGroup>& groups) {
  std::vector<torch::Tensor> out;
  for (const auto& group : groups)
    for (const auto& parameter : group.params)
      if (parameter.value.grad().defined()) out.push_back(parameter.value.grad());
  return out;
}

bool all_finite(const torch::Tensor& tensor) { return torch::isfinite(tensor).all().item<bool>(); }

}  // namespace

double gradient_norm(const std::vector<ParamGroup>& groups) {
  const torch::NoGradGuard no_grad;
  const auto all = gradients(groups);
  if (all.empty()) return 0.0;
  std::vector<torch::Tensor> norms;
  for (const auto& norm : torch::_foreach_norm(all, 2.0)) norms.push_back(norm.to(all.front().device()));
  return torch::linalg_vector_norm(torch::stack(norms), 2.0).item<double>();
}

void clip_gradients(const std::vector<ParamGroup>& groups, double norm, double largest) {
  const torch::NoGradGuard no_grad;
  const double factor = largest / (norm + 1e-6);
  if (factor >= 1.0) return;
  const auto all = gradients(groups);
  torch::_foreach_mul_(all, factor);
}

std::string offending_parameter(const std::vector<ParamGroup>& groups) {
  std::string largest;
  double largest_norm = -1;
  for (const auto& group : groups)
    for (const auto& [name, value] : group.params) {
      if (!value.grad().defined()) continue;
      if (!all_finite(value.grad())) return name;
      const double norm = value.grad().to(torch::kFloat64).norm().item<double>();
      if (norm > largest_norm) largest_norm = norm, largest = name;
    }
  return largest;
}

std::string first_non_finite(const std::vector<ParamGroup>& groups) {
  for (const auto& group : groups)
    for (const auto& [name, value] : group.params)
      if (!all_finite(value.detach())) return name;
  return "";
}

std::vector<std::string> without_gradient(const ParamGroup& group) {
  std::vector<std::string> out;
  for (const auto& [name, value] : group.params)
    if (!value.grad().defined()) out.push_back(name);
  return out;
}

}  // namespace deeplora
