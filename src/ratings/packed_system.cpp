#include "ratings/packed_system.h"

#include <cmath>

namespace deeplora {

bool decompose_packed(std::span<double> matrix, size_t n) {
  for (size_t i = 0; i < n; ++i) {
    double* li = matrix.data() + triangle(i);
    for (size_t j = 0; j <= i; ++j) {
      const double* lj = matrix.data() + triangle(j);
      double sum = li[j];
      for (size_t k = 0; k < j; ++k) sum -= li[k] * lj[k];
      if (i != j) li[j] = sum / lj[j];
      else if (sum > 0) li[i] = std::sqrt(sum);
      else return false;
    }
  }
  return true;
}

bool solve_packed(std::span<double> matrix, std::span<double> right) {
  const size_t n = right.size();
  if (!decompose_packed(matrix, n)) return false;
  for (size_t i = 0; i < n; ++i) {
    const double* li = matrix.data() + triangle(i);
    double sum = right[i];
    for (size_t k = 0; k < i; ++k) sum -= li[k] * right[k];
    right[i] = sum / li[i];
  }
  for (size_t i = n; i-- > 0;) {
    double sum = right[i];
    for (size_t k = i + 1; k < n; ++k) sum -= matrix[triangle(k) + i] * right[k];
    right[i] = sum / matrix[triangle(i) + i];
  }
  return true;
}

}  // namespace deeplora
