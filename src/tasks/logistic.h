// Logistic regression, as scikit-learn's LogisticRegression() fits it.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// logits = x weight^T + bias; float64.
struct LogisticFit {
  torch::Tensor weight;  ///< [C, D]
  torch::Tensor bias;    ///< [C]
};

/// The least of `c` x (sum of the rows' losses) + half the squared weights, by L-BFGS (Liu and Nocedal 1989) until no
/// entry of the mean loss's gradient is larger than 1e-9. features [N, D] float64, classes [N] int64 of 0 to C - 1.
///
/// Two classes that occur are told apart by one weight, which lies halved with either sign in their rows, more by a
/// weight each (the softmax's). Classes that do not occur get no weight, and a bias that gives them no probability.
/// Throws Error unless two classes occur.
LogisticFit fit_logistic(const torch::Tensor& features, const torch::Tensor& classes, int64_t outputs, double c = 1);

}  // namespace deeplora
