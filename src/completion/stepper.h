// One iteration of fitting a chain: gradient methods on the factors, or `auto` on the two halves.
#pragma once

#include <memory>
#include <utility>
#include <vector>

#include "completion/config.h"
#include "completion/problem.h"
#include "core/optimizer.h"
#include "factorization/factor_chain.h"

namespace deeplora {

class Stepper {
 public:
  virtual ~Stepper() = default;
  /// One iteration; `number` counts from 0 over the whole run. Returns the loss (by config.reduction, without weight
  /// decay) at the point the step starts from.
  virtual double step(int64_t number) = 0;
  /// B [m, r] and A^T [n, r] of the point at hand; valid until the next call.
  virtual std::pair<torch::Tensor, torch::Tensor> halves() = 0;
  /// Puts the point at hand into the chain's factors.
  virtual void settle() {}
  /// Nothing is left to gain.
  virtual bool converged() const { return false; }
  /// Everything but the chain's factors that the next step depends on; restore() takes it back bit for bit, with the
  /// factors restored before. Throws Error when it belongs to another optimizer or shape.
  virtual std::vector<NamedTensor> state() const = 0;
  virtual void restore(const std::vector<NamedTensor>& state) = 0;
};

/// `step_length`: learning rate on the summed loss, used where config.lr is absent.
std::unique_ptr<Stepper> make_stepper(const Problem& problem, FactorChain chain, const FitConfig& config,
                                      double step_length);

/// What the summed loss is divided by.
double loss_divisor(const FitConfig& config, const Problem& problem, int64_t residuals);

/// config.lr, or the default of the optimizer: gd step_length in units of the reduction, momentum (1 - momentum) x
/// that, adam and rmsprop 1e-2 and 1e-3.
double learning_rate(const FitConfig& config, const Problem& problem, double step_length);

/// The fixed matrices of the factors' shapes that feedback alignment goes back through; empty with the exact gradient.
std::vector<torch::Tensor> feedback_of(const FactorChainImpl& chain, const FitConfig& config);

/// The steppers, for tests; use make_stepper().
std::unique_ptr<Stepper> make_gradient_stepper(const Problem& problem, FactorChain chain, const FitConfig& config,
                                               double step_length);
std::unique_ptr<Stepper> make_auto_stepper(const Problem& problem, FactorChain chain, const FitConfig& config);

}  // namespace deeplora
