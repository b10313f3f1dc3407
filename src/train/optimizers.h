// torch::optim's optimizers on parameter groups, with a state that can be saved by parameter name.
#pragma once

#include <torch/optim/optimizer.h>

#include <memory>
#include <string>
#include <vector>

#include "core/optimizer.h"

namespace deeplora {

/// What make_optimizer is told. The learning rate is set before every step.
struct OptimizerOptions {
  std::string name = "adamw";         ///< adamw (decoupled decay), adam (decay added to the gradient), sgd, rmsprop
  double beta1 = 0.9, beta2 = 0.999;  ///< adamw, adam
  double alpha = 0.99;                ///< rmsprop: decay of the squared gradient's mean
  double eps = 1e-8;                  ///< adamw, adam, rmsprop
  double weight_decay = 0.0;          ///< of groups with decay
  double momentum = 0.9;              ///< sgd
};

/// Names that GroupOptimizer takes: adamw, adam, sgd, rmsprop.
std::vector<std::string> optimizer_names();

/// An optimizer over groups of named parameters. A parameter without a gradient is left out of a step, as in
/// PyTorch.
class GroupOptimizer {
 public:
  /// Throws Error for an unknown name, std::logic_error when a parameter's name comes twice.
  GroupOptimizer(const OptimizerOptions& options, std::vector<ParamGroup> groups);

  /// Every group's learning rate becomes base_lr x lr_scale.
  void set_learning_rate(double base_lr);
  /// Groups that are orthonormal move along the Stiefel manifold: the gradient is projected on the tangent space before
  /// the optimizer's step, the polar retraction follows it (with sgd: Riemannian gradient descent).
  void step();
  void zero_grad() { optimizer_->zero_grad(/*set_to_none=*/true); }

  /// Copies of the moments and step counts on the CPU, as "PARAMETER/exp_avg"; parameters that never had a
  /// gradient have none. A step count is an int64 scalar.
  std::vector<NamedTensor> state() const;
  /// Takes back what state() gave, bit for bit. Throws Error listing every entry of an unknown parameter, of
  /// another optimizer or of another shape.
  void restore(const std::vector<NamedTensor>& state);

  const std::vector<ParamGroup>& groups() const { return groups_; }

 private:
  void take_step();
  std::string name_;
  std::vector<ParamGroup> groups_;
  std::unique_ptr<torch::optim::Optimizer> optimizer_;
};

}  // namespace deeplora
