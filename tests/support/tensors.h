// Golden tensors written by tests/golden/make, and comparisons that say how far off a tensor is.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace deeplora::testing {

inline nlohmann::json golden(const std::string& name) {
  std::ifstream in(std::string(DEEPLORA_TEST_DATA) + "/golden/" + name);
  if (!in) throw std::runtime_error("golden file " + name + " is missing");
  return nlohmann::json::parse(in);
}

/// {"shape", "data"} as a tensor.
inline torch::Tensor tensor_from(const nlohmann::json& packed, at::ScalarType type = torch::kFloat64) {
  const auto shape = packed.at("shape").get<std::vector<int64_t>>();
  const auto data = packed.at("data").get<std::vector<double>>();
  return torch::tensor(data, torch::kFloat64).reshape(shape).to(type);
}

/// Largest difference at most tolerance x max(1, largest |expected|); shapes equal; NaN fails.
inline ::testing::AssertionResult close(const torch::Tensor& actual, const torch::Tensor& expected, double tolerance) {
  if (!actual.defined() || !expected.defined()) return ::testing::AssertionFailure() << "undefined tensor";
  if (actual.sizes() != expected.sizes())
    return ::testing::AssertionFailure() << "shape " << actual.sizes() << ", expected " << expected.sizes();
  if (actual.numel() == 0) return ::testing::AssertionSuccess();
  const auto a = actual.detach().to(torch::kFloat64), e = expected.detach().to(torch::kFloat64);
  const double difference = (a - e).abs().max().item<double>();
  const double allowed = tolerance * std::max(1.0, e.abs().max().item<double>());
  if (difference <= allowed) return ::testing::AssertionSuccess();
  return ::testing::AssertionFailure() << "largest difference " << difference << ", allowed " << allowed;
}

/// Central differences of a scalar function in every element of `at` (float64), which is changed and restored
/// in place.
inline torch::Tensor finite_differences(const std::function<torch::Tensor()>& function, const torch::Tensor& at,
                                        double step = 1e-5) {
  torch::NoGradGuard no_grad;
  torch::Tensor gradient = torch::empty_like(at).contiguous();
  auto flat = at.view({-1}), out = gradient.view({-1});
  for (int64_t i = 0; i < flat.numel(); ++i) {
    const double value = flat[i].item<double>();
    flat[i] = value + step;
    const double above = function().item<double>();
    flat[i] = value - step;
    const double below = function().item<double>();
    flat[i] = value;
    out[i] = (above - below) / (2 * step);
  }
  return gradient;
}

/// Largest gap between the empirical distribution of `sample` and the distribution function `cdf`.
inline double kolmogorov_distance(const torch::Tensor& sample, const std::function<double(double)>& cdf) {
  const auto sorted = std::get<0>(sample.detach().to(torch::kFloat64).reshape({-1}).contiguous().sort());
  const double* values = sorted.data_ptr<double>();
  const auto count = static_cast<double>(sorted.numel());
  double distance = 0;
  for (int64_t i = 0; i < sorted.numel(); ++i) {
    const double p = cdf(values[i]);
    distance = std::max({distance, p - static_cast<double>(i) / count, static_cast<double>(i + 1) / count - p});
  }
  return distance;
}

}  // namespace deeplora::testing
