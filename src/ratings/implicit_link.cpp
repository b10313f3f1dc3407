#include "ratings/implicit_link.h"

#include <cmath>

namespace deeplora {
namespace {

using Vectors = std::vector<double>;  ///< [m, K] row-major

/// Per coordinate: sum_i a_ik b_ik.
Vectors dots(const Vectors& a, const Vectors& b, size_t width) {
  Vectors out(width, 0.0);
  for (size_t i = 0; i < a.size(); i += width)
    for (size_t k = 0; k < width; ++k) out[k] += a[i + k] * b[i + k];
  return out;
}

}  // namespace

ImplicitLink::ImplicitLink(const SparseSide& rows, const SparseSide& cols, size_t width, double ridge, int threads)
    : rows_(rows), cols_(cols), width_(width), ridge_(ridge), threads_(threads) {
  for (int64_t i = 0; i < rows.size(); ++i)
    scale_.push_back(rows.count(i) > 0 ? 1 / std::sqrt(static_cast<double>(rows.count(i))) : 0.0);
  dual_.assign(static_cast<size_t>(rows.size()) * width, 0.0);
  prior_ = dual_;
  link_.assign(static_cast<size_t>(cols.size()) * width, 0.0);
}

void ImplicitLink::apply(const Vectors& in, Vectors& out) {
  const size_t K = width_;
  for_parts(cols_, threads_, [&](int64_t begin, int64_t end, int) {
    for (auto j = static_cast<size_t>(begin); j < static_cast<size_t>(end); ++j) {
      double* y = link_.data() + j * K;
      std::fill(y, y + K, 0.0);
      for (auto e = static_cast<size_t>(cols_.begin[j]); e < static_cast<size_t>(cols_.begin[j + 1]); ++e) {
        const auto i = static_cast<size_t>(cols_.other[e]);
        for (size_t k = 0; k < K; ++k) y[k] += scale_[i] * in[i * K + k];
      }
    }
  });
  for_parts(rows_, threads_, [&](int64_t begin, int64_t end, int) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      double* p = out.data() + i * K;
      std::fill(p, p + K, 0.0);
      for (auto e = static_cast<size_t>(rows_.begin[i]); e < static_cast<size_t>(rows_.begin[i + 1]); ++e) {
        const double* y = link_.data() + static_cast<size_t>(rows_.other[e]) * K;
        for (size_t k = 0; k < K; ++k) p[k] += scale_[i] * y[k];
      }
    }
  });
}

void ImplicitLink::fit(const Vectors& x) {
  const size_t K = width_;
  Vectors image(x.size());
  apply(dual_, image);
  Vectors residual(x.size());
  for (size_t i = 0; i < x.size(); ++i) residual[i] = x[i] - image[i] - ridge_ * dual_[i];
  Vectors direction = residual, square = dots(residual, residual, K);
  const Vectors target = dots(x, x, K);
  for (int step = 0; step < 20; ++step) {
    bool done = true;
    for (size_t k = 0; k < K; ++k) done &= square[k] <= 1e-6 * target[k];
    if (done) break;
    apply(direction, image);
    for (size_t i = 0; i < x.size(); ++i) image[i] += ridge_ * direction[i];
    const Vectors curvature = dots(direction, image, K);
    for (size_t i = 0; i < x.size(); i += K)
      for (size_t k = 0; k < K; ++k) {
        const double rate = curvature[k] > 0 ? square[k] / curvature[k] : 0.0;
        dual_[i + k] += rate * direction[i + k];
        residual[i + k] -= rate * image[i + k];
      }
    const Vectors next = dots(residual, residual, K);
    for (size_t i = 0; i < x.size(); i += K)
      for (size_t k = 0; k < K; ++k)
        direction[i + k] = residual[i + k] + (square[k] > 0 ? next[k] / square[k] : 0.0) * direction[i + k];
    square = next;
  }
  apply(dual_, prior_);
}

}  // namespace deeplora
