#include "ratings/implicit_link.h"

#include "ratings/packed_system.h"

#include <cmath>
#include <stdexcept>

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
  if (std::min(rows.size(), cols.size()) <= kDense) decompose();
}

void ImplicitLink::decompose() {
  over_rows_ = rows_.size() <= cols_.size();
  const auto n = static_cast<size_t>(over_rows_ ? rows_.size() : cols_.size());
  triangle_.assign(triangle(n), 0.0);
  for (size_t i = 0; i < n; ++i) triangle_[triangle(i) + i] = ridge_;
  // Ids within a list ascend only by chance, so both orders of a pair are looked at.
  const SparseSide& lists = over_rows_ ? cols_ : rows_;
  for (size_t j = 0; j < static_cast<size_t>(lists.size()); ++j)
    for (auto a = static_cast<size_t>(lists.begin[j]); a < static_cast<size_t>(lists.begin[j + 1]); ++a)
      for (auto b = static_cast<size_t>(lists.begin[j]); b < static_cast<size_t>(lists.begin[j + 1]); ++b) {
        const auto i = static_cast<size_t>(lists.other[a]), k = static_cast<size_t>(lists.other[b]);
        if (k <= i) triangle_[triangle(i) + k] += over_rows_ ? scale_[i] * scale_[k] : scale_[j] * scale_[j];
      }
  if (!decompose_packed(triangle_, n)) throw std::logic_error("a ridge system that is not positive definite");
}

void ImplicitLink::collect(const Vectors& x, Vectors& out) const {
  const size_t K = width_;
  out.assign(static_cast<size_t>(cols_.size()) * K, 0.0);
  for_parts(cols_, threads_, [&](int64_t begin, int64_t end, int) {
    for (auto j = static_cast<size_t>(begin); j < static_cast<size_t>(end); ++j) {
      double* y = out.data() + j * K;
      for (auto e = static_cast<size_t>(cols_.begin[j]); e < static_cast<size_t>(cols_.begin[j + 1]); ++e) {
        const auto i = static_cast<size_t>(cols_.other[e]);
        for (size_t k = 0; k < K; ++k) y[k] += scale_[i] * x[i * K + k];
      }
    }
  });
}

void ImplicitLink::spread(const Vectors& in, Vectors& out) const {
  const size_t K = width_;
  out.assign(static_cast<size_t>(rows_.size()) * K, 0.0);
  for_parts(rows_, threads_, [&](int64_t begin, int64_t end, int) {
    for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
      double* p = out.data() + i * K;
      for (auto e = static_cast<size_t>(rows_.begin[i]); e < static_cast<size_t>(rows_.begin[i + 1]); ++e) {
        const double* y = in.data() + static_cast<size_t>(rows_.other[e]) * K;
        for (size_t k = 0; k < K; ++k) p[k] += scale_[i] * y[k];
      }
    }
  });
}

void ImplicitLink::solve_dense(Vectors& right) const {
  const size_t K = width_, n = right.size() / K;
  const auto subtract = [&](size_t i, size_t k, double times) {
    for (size_t c = 0; c < K; ++c) right[i * K + c] -= times * right[k * K + c];
  };
  for (size_t i = 0; i < n; ++i) {
    const double* l = triangle_.data() + triangle(i);
    for (size_t k = 0; k < i; ++k) subtract(i, k, l[k]);
    for (size_t c = 0; c < K; ++c) right[i * K + c] /= l[i];
  }
  for (size_t i = n; i-- > 0;) {
    const double* l = triangle_.data() + triangle(i);
    for (size_t c = 0; c < K; ++c) right[i * K + c] /= l[i];
    for (size_t k = 0; k < i; ++k) subtract(k, i, l[k]);
  }
}

void ImplicitLink::solve_by_gradients(const Vectors& x, double tolerance) {
  const size_t K = width_;
  Vectors image, columns, residual(x.size());
  const auto apply = [&](const Vectors& in) {
    collect(in, columns);
    spread(columns, image);
  };
  apply(dual_);
  for (size_t i = 0; i < x.size(); ++i) residual[i] = x[i] - image[i] - ridge_ * dual_[i];
  Vectors direction = residual, square = dots(residual, residual, K);
  const Vectors target = dots(x, x, K);
  const int most = tolerance < 1e-3 ? 200 : 20;
  for (int step = 0; step < most; ++step) {
    bool done = true;
    for (size_t k = 0; k < K; ++k) done &= square[k] <= tolerance * tolerance * target[k];
    if (done) break;
    apply(direction);
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
}

Vectors ImplicitLink::gain(const Vectors& x, double tolerance) {
  Vectors out;
  if (triangle_.empty()) {
    solve_by_gradients(x, tolerance);
    collect(dual_, out);
  } else if (over_rows_) {
    Vectors dual = x;
    solve_dense(dual);
    collect(dual, out);
  } else {
    collect(x, out);
    solve_dense(out);
  }
  return out;
}

void ImplicitLink::fit(const Vectors& x) {
  link_ = gain(x, 1e-3);
  spread(link_, prior_);
}

void ImplicitLink::draw(const Vectors& x, const std::vector<double>& penalty,
                        const std::function<double(size_t, size_t)>& normal,
                        const std::function<double(size_t, size_t)>& further) {
  const size_t K = width_;
  Vectors start(link_.size()), image;
  for (size_t j = 0; j < start.size(); ++j) start[j] = further(j / K, j % K) / std::sqrt(ridge_ * penalty[j % K]);
  spread(start, image);
  for (size_t i = 0; i < image.size(); ++i)
    image[i] = x[i] - image[i] - normal(i / K, i % K) / std::sqrt(penalty[i % K]);
  link_ = gain(image, 1e-6);
  for (size_t j = 0; j < start.size(); ++j) link_[j] += start[j];
  spread(link_, prior_);
}

}  // namespace deeplora
