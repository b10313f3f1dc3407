#include "ratings/rating_factors.h"

#include <cmath>
#include <memory>
#include <numeric>

#include "ratings/implicit_link.h"
#include "ratings/portable_random.h"

namespace deeplora {
namespace {

/// als: the penalty in units of squared standardised rating where none is given.
constexpr double kRidge = 15;

size_t triangle(size_t n) { return n * (n + 1) / 2; }

/// Posterior of all rows (or all columns): coordinates are the factors, then the bias.
struct Posterior {
  SparseSide ratings;
  std::vector<double> mean;       ///< [size, K]
  std::vector<float> covariance;  ///< [size, K (K + 1) / 2], lower triangles; empty for als
  std::vector<float> moments;     ///< as covariance: E[phi phi^T] of phi = (factors, 1), what the other side sums up
  std::vector<double> penalty;    ///< [K], precision of the prior
  std::unique_ptr<ImplicitLink> link;
  std::vector<double> used_penalty, used_link;  ///< penalty / noise precision and link that `mean` was solved with
};

/// Inverse of L L^T from the Cholesky factor L, both packed, through the columns of the inverse of L.
void inverse_from_cholesky(std::vector<double>& l, size_t n, float* out) {
  std::vector<double> inverse(triangle(n), 0.0);
  for (size_t j = 0; j < n; ++j) {
    inverse[triangle(j) + j] = 1 / l[triangle(j) + j];
    for (size_t i = j + 1; i < n; ++i) {
      double sum = 0;
      for (size_t k = j; k < i; ++k) sum += l[triangle(i) + k] * inverse[triangle(k) + j];
      inverse[triangle(i) + j] = -sum / l[triangle(i) + i];
    }
  }
  for (size_t a = 0; a < n; ++a)
    for (size_t b = 0; b <= a; ++b) {
      double sum = 0;
      for (size_t k = a; k < n; ++k) sum += inverse[triangle(k) + a] * inverse[triangle(k) + b];
      out[triangle(a) + b] = static_cast<float>(sum);
    }
}

class Alternation {
 public:
  Alternation(const Ratings& train, const FactorOptions& options)
      : o_(options), rank_(static_cast<size_t>(options.rank)) {
    K_ = rank_ + (o_.biases ? 1 : 0);
    T_ = triangle(K_);
    standardise(train);
    start(rows_, train.rows.size(), train.row, train.col);
    start(cols_, train.cols.size(), train.col, train.row);
    PortableRandom random(o_.seed);
    for (Posterior* side : {&rows_, &cols_})
      for (size_t i = 0; i < side->mean.size(); ++i)
        if (i % K_ < rank_) side->mean[i] = 0.1 * random.normal();
    if (o_.implicit_rows)
      rows_.link =
          std::make_unique<ImplicitLink>(rows_.ratings, cols_.ratings, K_, o_.implicit_regularization, o_.threads);
    if (o_.implicit_cols)
      cols_.link =
          std::make_unique<ImplicitLink>(cols_.ratings, rows_.ratings, K_, o_.implicit_regularization, o_.threads);
  }

  RatingsModel run() {
    for (int64_t sweep = 1; sweep <= o_.sweeps; ++sweep) {
      half(rows_, cols_);
      const double error = half(cols_, rows_);
      if (o_.bayes) {
        learn_penalties(rows_);
        learn_penalties(cols_);
        precision_ = static_cast<double>(values_.size()) / std::max(error, 1e-9);
      }
      if (o_.after_sweep && !o_.after_sweep(sweep, model())) break;
    }
    return model();
  }

 private:
  void standardise(const Ratings& train) {
    const double n = static_cast<double>(train.size());
    mean_ = o_.biases ? std::accumulate(train.value.begin(), train.value.end(), 0.0) / n : 0.0;
    double square = 0;
    for (const double v : train.value) square += (v - mean_) * (v - mean_);
    check(train.size() > 1 && square > 0, "all ratings are ", mean_, ": there is nothing to factorize");
    unit_ = std::sqrt(square / n);
    values_.reserve(train.value.size());
    for (const double v : train.value) values_.push_back((v - mean_) / unit_);
    precision_ = o_.bayes ? 2.0 : 1.0;
  }

  void start(Posterior& side, int64_t size, const std::vector<int32_t>& own, const std::vector<int32_t>& other) {
    side.ratings = SparseSide::make(size, own, other, values_);
    const auto count = static_cast<size_t>(size);
    side.mean.assign(count * K_, 0.0);
    side.moments.resize(count * T_);
    if (o_.bayes) side.covariance.assign(count * T_, 0.0F);
    side.penalty.assign(K_, o_.bayes ? 10.0 : o_.regularization.value_or(kRidge));
  }

  /// E[phi phi^T] for phi = (factors, 1).
  void update_moments(Posterior& side) {
    for_parts(side.ratings, o_.threads, [&](int64_t begin, int64_t end, int) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        const double* x = side.mean.data() + i * K_;
        float* out = side.moments.data() + i * T_;
        for (size_t a = 0, at = 0; a < K_; ++a)
          for (size_t b = 0; b <= a; ++b, ++at) {
            const double xa = a < rank_ ? x[a] : 1.0, xb = b < rank_ ? x[b] : 1.0;
            const double spread = o_.bayes && a < rank_ ? side.covariance[i * T_ + at] : 0.0;
            out[at] = static_cast<float>(xa * xb + spread);
          }
      }
    });
  }

  /// Solves every row of `side` given `other`; the expected sum of squared errors afterwards (bayes).
  double half(Posterior& side, Posterior& other) {
    update_moments(other);
    const std::vector<double> everywhere = o_.on_product && !o_.bayes ? gram(other) : std::vector<double>{};
    std::vector<double> errors(static_cast<size_t>(side.ratings.size()));
    for_parts(side.ratings, o_.threads, [&](int64_t begin, int64_t end, int) {
      std::vector<double> matrix(T_), system(T_), right(K_), projected(K_);
      for (int64_t i = begin; i < end; ++i)
        errors[static_cast<size_t>(i)] = solve_one(side, other, i, everywhere, matrix, system, right, projected);
    });
    side.used_penalty = side.penalty;
    for (double& penalty : side.used_penalty) penalty /= precision_;
    if (side.link) {
      side.used_link = side.link->link();
      side.link->fit(side.mean);
    }
    return std::accumulate(errors.begin(), errors.end(), 0.0);
  }

  /// One row: posterior precision = precision x sum E[phi phi^T] + penalties.
  double solve_one(Posterior& side, const Posterior& other, int64_t index, const std::vector<double>& everywhere,
                   std::vector<double>& matrix, std::vector<double>& system, std::vector<double>& right,
                   std::vector<double>& projected) {
    const auto i = static_cast<size_t>(index);
    std::fill(matrix.begin(), matrix.end(), 0.0);
    std::fill(projected.begin(), projected.end(), 0.0);
    double squares = 0;
    for (auto e = static_cast<size_t>(side.ratings.begin[i]); e < static_cast<size_t>(side.ratings.begin[i + 1]); ++e)
      squares +=
          accumulate(other, static_cast<size_t>(side.ratings.other[e]), side.ratings.value[e], matrix, projected);
    const double count = static_cast<double>(side.ratings.count(index));
    for (size_t t = 0; t < T_; ++t) system[t] = precision_ * matrix[t] + (everywhere.empty() ? 0.0 : everywhere[t]);
    for (size_t k = 0; k < K_; ++k) {
      const double penalty = side.penalty[k] * (!o_.bayes && o_.weighted ? std::max(count, 1.0) : 1.0);
      system[triangle(k) + k] += penalty;
      right[k] = precision_ * projected[k] + (side.link ? penalty * side.link->prior()[i * K_ + k] : 0.0);
    }
    check(solve_packed(system, right),
          "a row's ratings do not determine its factors; choose completion.regularization above 0");
    std::copy(right.begin(), right.end(), side.mean.begin() + static_cast<std::ptrdiff_t>(i * K_));
    if (!o_.bayes) return 0;
    float* covariance = side.covariance.data() + i * T_;
    inverse_from_cholesky(system, K_, covariance);
    double expected = squares;
    for (size_t a = 0, at = 0; a < K_; ++a) {
      expected -= 2 * right[a] * projected[a];
      for (size_t b = 0; b <= a; ++b, ++at)
        expected += (a == b ? 1.0 : 2.0) * matrix[at] * (right[a] * right[b] + covariance[at]);
    }
    return expected;
  }

  /// Adds one rating to sum E[phi phi^T] and sum E[(v - bias) phi]; returns E[(v - bias)^2].
  double accumulate(const Posterior& other, size_t j, double value, std::vector<double>& matrix,
                    std::vector<double>& projected) const {
    const float* moments = other.moments.data() + j * T_;
    for (size_t t = 0; t < T_; ++t) matrix[t] += moments[t];
    const double* z = other.mean.data() + j * K_;
    const double residual = o_.biases ? value - z[rank_] : value;
    // Factors and bias of one column are correlated.
    const float* cross = o_.bayes && o_.biases ? other.covariance.data() + j * T_ + triangle(rank_) : nullptr;
    for (size_t k = 0; k < rank_; ++k) projected[k] += residual * z[k] - (cross ? cross[k] : 0.0F);
    if (o_.biases) projected[rank_] += residual;
    return residual * residual + (cross ? cross[rank_] : 0.0F);
  }

  /// regularization x observed share x sum over all of the other side's phi phi^T without the bias: the penalty on the
  /// product.
  std::vector<double> gram(const Posterior& other) const {
    std::vector<double> out(T_, 0.0);
    for (size_t j = 0; j * T_ < other.moments.size(); ++j)
      for (size_t t = 0; t < triangle(rank_); ++t) out[t] += other.moments[j * T_ + t];
    const double cells = static_cast<double>(rows_.ratings.size()) * static_cast<double>(cols_.ratings.size());
    for (double& v : out) v *= o_.regularization.value_or(kRidge) * static_cast<double>(values_.size()) / cells;
    return out;
  }

  /// Maximum-likelihood precision of every coordinate's prior, with a trace of a prior so that it stays finite.
  void learn_penalties(Posterior& side) const {
    std::vector<double> spread(K_, 0.0);
    const auto count = static_cast<size_t>(side.ratings.size());
    for (size_t i = 0; i < count; ++i)
      for (size_t k = 0; k < K_; ++k) {
        const double d = side.mean[i * K_ + k] - (side.link ? side.link->prior()[i * K_ + k] : 0.0);
        spread[k] += d * d + side.covariance[i * T_ + triangle(k) + k];
      }
    for (size_t k = 0; k < K_; ++k)
      side.penalty[k] = o_.regularization.value_or(1.0) * (static_cast<double>(count) + 1) / (spread[k] + 0.01);
  }

  RatingsModel model() {
    RatingsModel out;
    out.rows = rows_.ratings.size();
    out.cols = cols_.ratings.size();
    out.rank = o_.rank;
    out.mean = mean_;
    unpack(rows_, unit_, out.row_factor, out.row_bias);
    unpack(cols_, 1.0, out.col_factor, out.col_bias);
    for (double& bias : out.col_bias) bias *= unit_;
    // In units of rating: B carries the unit, so its penalty is divided by unit^2, and the squared error is multiplied
    // by it.
    out.row_penalty = rows_.used_penalty;
    out.penalty_per_rating = !o_.bayes && o_.weighted;
    if (rows_.link) {
      out.row_link.assign(static_cast<size_t>(out.cols) * (rank_ + 1), 0.0);
      for (size_t j = 0; j < static_cast<size_t>(out.cols); ++j)
        for (size_t k = 0; k < K_; ++k) out.row_link[j * (rank_ + 1) + k] = unit_ * rows_.used_link[j * K_ + k];
    }
    if (o_.bayes) out.col_covariance = packed_covariance();
    if (o_.on_product && !o_.bayes) {
      update_moments(cols_);
      out.everywhere = gram(cols_);
      out.everywhere.resize(triangle(rank_));
    }
    return out;
  }

  /// Per column the covariance of its factors, then that of factors and bias, whose values are in units of rating.
  std::vector<float> packed_covariance() const {
    const size_t width = triangle(rank_) + (o_.biases ? rank_ : 0), count = static_cast<size_t>(cols_.ratings.size());
    std::vector<float> out(count * width);
    for (size_t j = 0; j < count; ++j)
      for (size_t t = 0; t < width; ++t)
        out[j * width + t] = cols_.covariance[j * T_ + t] * static_cast<float>(t < triangle(rank_) ? 1.0 : unit_);
    return out;
  }

  void unpack(const Posterior& side, double unit, std::vector<double>& factor, std::vector<double>& bias) const {
    for (size_t i = 0; i < side.mean.size(); i += K_) {
      for (size_t k = 0; k < rank_; ++k) factor.push_back(unit * side.mean[i + k]);
      if (o_.biases) bias.push_back(unit * side.mean[i + rank_]);
    }
  }

  const FactorOptions& o_;
  size_t rank_, K_ = 0, T_ = 0;
  double mean_ = 0, unit_ = 1, precision_ = 1;
  std::vector<double> values_;
  Posterior rows_, cols_;
};

}  // namespace

RatingsModel fit_rating_factors(const Ratings& train, const FactorOptions& options) {
  return Alternation(train, options).run();
}

}  // namespace deeplora
