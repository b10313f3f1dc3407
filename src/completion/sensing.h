// Matrix sensing: a low-rank matrix from few linear measurements y_k = <A_k, M> (Recht, Fazel, Parrilo 2010).
#pragma once

#include <ATen/core/Generator.h>

#include "completion/problem.h"

namespace deeplora {

/// K measurement matrices as rows [K, m n] (row-major A_k), float64, and their results [K].
struct Measurements {
  int64_t rows = 0, cols = 0;
  torch::Tensor matrices, values;
};

/// Entries of A_k are N(0, 1 / K), so that the expected loss is 1/2 |W - M|^2.
Measurements gaussian_measurements(const torch::Tensor& target /*[m, n]*/, int64_t count, at::Generator generator);

/// 1/2 sum_k (<A_k, W> - y_k)^2. The A_k are dense, so this forms W [m, n] too.
Problem sensing_problem(Measurements measurements);

}  // namespace deeplora
