// Gradient descent and its relatives on the factors, with all residuals or a random batch of them.
#include <torch/torch.h>

#include "completion/halves.h"
#include "completion/stepper.h"
#include "core/error.h"
#include "core/random.h"
#include "train/optimizers.h"

namespace deeplora {
namespace {

OptimizerOptions options_of(const FitConfig& config) {
  const std::string name = config.optimizer == "momentum" ? "sgd" : config.optimizer;
  return {.name = name,
          .beta1 = config.beta1,
          .beta2 = config.beta2,
          .alpha = config.alpha,
          .eps = config.eps,
          .weight_decay = config.weight_decay,
          .momentum = config.momentum};
}

class GradientStepper : public Stepper {
 public:
  GradientStepper(const Problem& problem, FactorChain chain, const FitConfig& config, double step_length)
      : problem_(problem),
        config_(config),
        halves_(chain, feedback_of(*chain, config)),
        dtype_(chain->factors().front().value.scalar_type()),
        lr_(learning_rate(config, problem, step_length)) {
    if (config.batch == 0) whole_ = problem.objective(halves_.width(), dtype_);
    if (config.optimizer != "gd") {
      optimizer_ = std::make_unique<GroupOptimizer>(options_of(config), chain->param_groups());
      optimizer_->set_learning_rate(lr_);
    }
  }

  double step(int64_t number) override {
    torch::NoGradGuard no_grad;
    Objective& objective = whole_ ? *whole_ : draw(number);
    const double divisor = loss_divisor(config_, problem_, objective.count());
    if (!optimizer_) return halves_.descend(objective, 1 / divisor, lr_, config_.weight_decay) / divisor;
    const double loss = halves_.gradient(objective, 1 / divisor) / divisor;
    optimizer_->step();
    return loss;
  }

  std::pair<torch::Tensor, torch::Tensor> halves() override {
    Objective& objective = whole_ ? *whole_ : draw(0);
    halves_.write(objective);
    return {objective.b(), objective.a_t()};
  }

  std::vector<NamedTensor> state() const override {
    return optimizer_ ? optimizer_->state() : std::vector<NamedTensor>{};
  }
  void restore(const std::vector<NamedTensor>& state) override {
    check(optimizer_ || state.empty(), "the checkpoint holds an optimizer's state, but gd has none");
    if (optimizer_) optimizer_->restore(state);
  }

 private:
  Objective& draw(int64_t number) {
    batch_ = problem_.sampled(halves_.width(), dtype_, config_.batch,
                              make_generator(static_cast<uint64_t>(config_.seed), cat("batch/", number)));
    return *batch_;
  }

  const Problem& problem_;
  FitConfig config_;
  ChainHalves halves_;
  at::ScalarType dtype_;
  double lr_;
  std::unique_ptr<Objective> whole_, batch_;
  std::unique_ptr<GroupOptimizer> optimizer_;
};

}  // namespace

std::vector<torch::Tensor> feedback_of(const FactorChainImpl& chain, const FitConfig& config) {
  std::vector<torch::Tensor> out;
  if (config.gradient == "exact") return out;
  // N(0, 1 / fan-in of the way back): a signal keeps its size on the way.
  at::Generator generator = make_generator(static_cast<uint64_t>(config.seed), "feedback");
  for (const auto& factor : chain.factors()) {
    const double spread = 1 / std::sqrt(static_cast<double>(factor.value.size(0)));
    out.push_back((at::randn(factor.value.sizes(), generator, torch::kFloat64) * spread).to(factor.value.options()));
  }
  return out;
}

double loss_divisor(const FitConfig& config, const Problem& problem, int64_t residuals) {
  if (config.reduction == "mean-observed") return static_cast<double>(std::max<int64_t>(1, residuals));
  // A batch stands for all residuals.
  const double share = static_cast<double>(residuals) / static_cast<double>(std::max<int64_t>(1, problem.count));
  return config.reduction == "sum" ? share
                                   : share * static_cast<double>(problem.rows) * static_cast<double>(problem.cols);
}

double learning_rate(const FitConfig& config, const Problem& problem, double step_length) {
  if (config.lr) return *config.lr;
  if (config.optimizer == "adam") return 1e-2;
  if (config.optimizer == "rmsprop") return 1e-3;
  const double gd = step_length * loss_divisor(config, problem, problem.count);
  return config.optimizer == "momentum" ? gd * (1 - config.momentum) : gd;
}

std::unique_ptr<Stepper> make_gradient_stepper(const Problem& problem, FactorChain chain, const FitConfig& config,
                                               double step_length) {
  return std::make_unique<GradientStepper>(problem, std::move(chain), config, step_length);
}

std::unique_ptr<Stepper> make_stepper(const Problem& problem, FactorChain chain, const FitConfig& config,
                                      double step_length) {
  if (config.optimizer == "auto") return make_auto_stepper(problem, std::move(chain), config);
  return make_gradient_stepper(problem, std::move(chain), config, step_length);
}

}  // namespace deeplora
