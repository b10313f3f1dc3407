#include "completion/start.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "factorization/initialization.h"

namespace deeplora {
namespace {

void check_width(const ChainConfig& config, int64_t width, const Problem& problem) {
  const int64_t smaller = std::min(problem.rows, problem.cols);
  check(config.method != "compressed" || width <= smaller, "completion.rank: compressed needs 2 x rank = ", width,
        " directions, but the matrix is ", problem.rows, " x ", problem.cols, "; choose a rank of at most ",
        smaller / 2, " or method: deep");
}

}  // namespace

SingularPairs leading_pairs_of(Objective& gamma, int64_t k, at::Generator generator, int64_t iterations) {
  torch::NoGradGuard no_grad;
  const auto type = gamma.b().scalar_type();
  const MatrixAction action{gamma.rows(), gamma.cols(), torch::kFloat64,
                            [&](const torch::Tensor& x) {
                              gamma.a_t().copy_(x);
                              gamma.propagate();
                              return gamma.db().to(torch::kFloat64);
                            },
                            [&](const torch::Tensor& x) {
                              gamma.b().copy_(x);
                              gamma.propagate();
                              return gamma.da_t().to(torch::kFloat64);
                            }};
  gamma.b().zero_();
  const int64_t sampled = gamma.width(), most = std::min({k, sampled, gamma.rows(), gamma.cols()});
  SingularPairs pairs = subspace_iteration(action, most, sampled, std::move(generator), iterations);
  return {pairs.u.to(type), pairs.s, pairs.v.to(type)};
}

SingularPairs leading_gradient_pairs(const Problem& problem, int64_t k, at::Generator generator, int64_t iterations,
                                     int64_t oversampling) {
  const int64_t smaller = std::min(problem.rows, problem.cols);
  const auto gamma = problem.objective(std::min(k + oversampling, smaller), torch::kFloat64);
  gamma->b().zero_();
  gamma->a_t().zero_();
  gamma->value();  // the residuals at W = 0 are all that Gamma consists of
  return leading_pairs_of(*gamma, k, std::move(generator), iterations);
}

FactorChain start_chain(const ChainConfig& config, const Problem& problem, const SingularPairs& pairs, int64_t seed,
                        torch::TensorOptions options) {
  const int64_t width = config.inner_width(problem.rows, problem.cols);
  check_width(config, width, problem);
  at::Generator generator = make_generator(static_cast<uint64_t>(seed), "init");
  const auto random_chain = [&](int64_t inner) {
    return orthogonal_chain({problem.rows, problem.cols, inner, config.depth}, config.init_scale, generator, options);
  };
  if (config.method != "compressed") return random_chain(width);
  const auto type = c10::typeMetaToScalarType(options.dtype());
  const torch::Tensor u = pairs.u.narrow(1, 0, config.rank).to(type), v = pairs.v.narrow(1, 0, config.rank).to(type);
  if (config.same_start)
    return compression_of(*random_chain(std::min(problem.rows, problem.cols)), u, v, config.init_scale,
                          config.outer_lr_ratio);
  return compressed_chain(u, v, config.depth, config.init_scale, config.outer_lr_ratio, generator);
}

double default_step(const SingularPairs& pairs, const Problem& problem, int64_t depth) {
  const double largest = pairs.s[0].item<double>() / problem.gain, factors = static_cast<double>(depth);
  if (!(largest > 0)) return 1;
  return 0.75 / (problem.gain * factors * std::pow(largest, 2 - 2 / factors));
}

}  // namespace deeplora
