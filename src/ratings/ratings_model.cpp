#include "ratings/ratings_model.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace deeplora {
namespace {

double clipped(const RatingsModel& model, double value) {
  return model.range ? std::clamp(value, model.range->first, model.range->second) : value;
}

double raw(const RatingsModel& model, std::span<const double> x, int64_t col) {
  const auto r = static_cast<size_t>(model.rank), j = static_cast<size_t>(col);
  double value = model.mean + x[r];
  if (model.biases()) value += model.col_bias[j];
  for (size_t k = 0; k < r; ++k) value += x[k] * model.col_factor[j * r + k];
  return value;
}

double mean_of(const Ratings& train) {
  return std::accumulate(train.value.begin(), train.value.end(), 0.0) /
         static_cast<double>(std::max<int64_t>(1, train.size()));
}

}  // namespace

double RatingsModel::predict(int64_t row, int64_t col) const {
  double value = mean;
  if (row >= 0 && biases()) value += row_bias[static_cast<size_t>(row)];
  if (col >= 0 && biases()) value += col_bias[static_cast<size_t>(col)];
  if (row >= 0 && col >= 0) {
    const double* b = row_factor.data() + row * rank;
    const double* a = col_factor.data() + col * rank;
    for (int64_t k = 0; k < rank; ++k) value += b[k] * a[k];
  }
  return clipped(*this, value);
}

double RatingsModel::predict(std::span<const double> coordinates, int64_t col) const {
  if (col < 0) return clipped(*this, mean + coordinates[static_cast<size_t>(rank)]);
  return clipped(*this, raw(*this, coordinates, col));
}

RatingErrors errors_of(const RatingsModel& model, const Ratings& ratings) {
  double squares = 0, sizes = 0;
  for (size_t i = 0; i < ratings.value.size(); ++i) {
    const double e = model.predict(ratings.row[i], ratings.col[i]) - ratings.value[i];
    squares += e * e;
    sizes += std::abs(e);
  }
  const double n = static_cast<double>(std::max<int64_t>(1, ratings.size()));
  return {std::sqrt(squares / n), sizes / n};
}

bool solve_packed(std::span<double> matrix, std::span<double> right) {
  const size_t n = right.size();
  for (size_t i = 0; i < n; ++i) {
    double* li = matrix.data() + i * (i + 1) / 2;
    for (size_t j = 0; j <= i; ++j) {
      const double* lj = matrix.data() + j * (j + 1) / 2;
      double sum = li[j];
      for (size_t k = 0; k < j; ++k) sum -= li[k] * lj[k];
      if (i == j) {
        if (!(sum > 0)) return false;
        li[i] = std::sqrt(sum);
      } else {
        li[j] = sum / lj[j];
      }
    }
    double sum = right[i];
    for (size_t k = 0; k < i; ++k) sum -= li[k] * right[k];
    right[i] = sum / li[i];
  }
  for (size_t i = n; i-- > 0;) {
    double sum = right[i];
    for (size_t k = i + 1; k < n; ++k) sum -= matrix[k * (k + 1) / 2 + i] * right[k];
    right[i] = sum / matrix[i * (i + 1) / 2 + i];
  }
  return true;
}

namespace {

/// The linear system of a row, lower triangle packed by rows; the last coordinate is the bias when it is solved for
/// too.
class RowSystem {
 public:
  RowSystem(const RatingsModel& model, bool with_bias)
      : model_(model),
        r_(static_cast<size_t>(model.rank)),
        size_(r_ + (with_bias ? 1 : 0)),
        phi_(size_, 1.0),
        prior_(size_, 0.0),
        matrix_(size_ * (size_ + 1) / 2, 0.0),
        right_(size_, 0.0) {}

  /// A rating of column j less mean and biases; `rated` columns in all.
  void add(size_t j, double target, double rated) {
    for (size_t k = 0; k < r_; ++k) phi_[k] = model_.col_factor[j * r_ + k];
    for (size_t a = 0, at = 0; a < size_; ++a) {
      right_[a] += target * phi_[a];
      for (size_t b = 0; b <= a; ++b) matrix_[at++] += phi_[a] * phi_[b];
    }
    if (!model_.col_covariance.empty()) add_covariance(j);
    if (!model_.row_link.empty())
      for (size_t k = 0; k < size_; ++k) prior_[k] += model_.row_link[j * (r_ + 1) + k] / std::sqrt(rated);
  }

  std::vector<double> solve(double rated) {
    for (size_t t = 0; t < model_.everywhere.size(); ++t) matrix_[t] += model_.everywhere[t];
    for (size_t k = 0; k < size_; ++k) {
      const double penalty = model_.row_penalty[k] * (model_.penalty_per_rating ? std::max(rated, 1.0) : 1.0);
      matrix_[k * (k + 1) / 2 + k] += penalty;
      right_[k] += penalty * prior_[k];
    }
    check(size_ == 0 || solve_packed(matrix_, right_),
          "folding in: a row's ratings do not determine its factors; train with a regularization above 0");
    return right_;
  }

 private:
  /// E[A_j A_j^T] instead of A_j A_j^T, and the covariance of factors and bias.
  void add_covariance(size_t j) {
    const size_t triangle = r_ * (r_ + 1) / 2, width = triangle + (model_.biases() ? r_ : 0);
    const float* covariance = model_.col_covariance.data() + j * width;
    for (size_t t = 0; t < triangle; ++t) matrix_[t] += covariance[t];
    for (size_t k = 0; triangle + k < width; ++k) right_[k] -= covariance[triangle + k];
  }

  const RatingsModel& model_;
  size_t r_, size_;
  std::vector<double> phi_, prior_, matrix_, right_;
};

/// The bias of a row whose factors say nothing.
double bias_alone(const RatingsModel& model, std::span<const int32_t> cols, std::span<const double> values,
                  double rated) {
  double sum = 0;
  for (size_t n = 0; n < cols.size(); ++n)
    if (cols[n] >= 0) sum += values[n] - model.mean - model.col_bias[static_cast<size_t>(cols[n])];
  const double weight = rated + model.row_penalty.back();
  return weight > 0 ? sum / weight : 0;
}

}  // namespace

std::vector<double> fold_in(const RatingsModel& model, std::span<const int32_t> cols, std::span<const double> values) {
  double rated = 0;
  for (const int32_t col : cols) rated += col >= 0;
  const bool bias_first = model.biases() && model.bias_first;
  const double bias = bias_first ? bias_alone(model, cols, values, rated) : 0.0;
  RowSystem system(model, model.biases() && !bias_first);
  for (size_t n = 0; n < cols.size(); ++n) {
    if (cols[n] < 0) continue;
    const auto j = static_cast<size_t>(cols[n]);
    system.add(j, values[n] - model.mean - bias - (model.biases() ? model.col_bias[j] : 0.0), rated);
  }
  std::vector<double> x = system.solve(rated);
  x.resize(static_cast<size_t>(model.rank) + 1, bias);
  return x;
}

std::vector<double> coordinates_of(const RatingsModel& model, int64_t row) {
  const auto begin = model.row_factor.begin() + row * model.rank;
  std::vector<double> x(begin, begin + model.rank);
  x.push_back(model.biases() ? model.row_bias[static_cast<size_t>(row)] : 0.0);
  return x;
}

std::vector<Scored> top_n(const RatingsModel& model, std::span<const double> coordinates,
                          const std::vector<int32_t>& seen, int64_t n) {
  std::vector<char> skip(static_cast<size_t>(model.cols), 0);
  for (const int32_t col : seen)
    if (col >= 0) skip[static_cast<size_t>(col)] = 1;
  std::vector<Scored> all;
  for (int64_t j = 0; j < model.cols; ++j)
    if (!skip[static_cast<size_t>(j)]) all.push_back({j, raw(model, coordinates, j)});
  const auto cut = all.begin() + std::min<int64_t>(n, static_cast<int64_t>(all.size()));
  std::partial_sort(all.begin(), cut, all.end(), [](const Scored& a, const Scored& b) {
    return a.value != b.value ? a.value > b.value : a.col < b.col;
  });
  all.erase(cut, all.end());
  for (auto& scored : all) scored.value = clipped(model, scored.value);
  return all;
}

RatingsModel fit_mean(const Ratings& train) {
  RatingsModel model;
  model.rows = train.rows.size();
  model.cols = train.cols.size();
  model.mean = mean_of(train);
  return model;
}

RatingsModel fit_biases(const Ratings& train, const BiasOptions& options) {
  RatingsModel model = fit_mean(train);
  const auto m = static_cast<size_t>(model.rows), n = static_cast<size_t>(model.cols);
  model.row_bias.assign(m, 0.0);
  model.col_bias.assign(n, 0.0);
  std::vector<double> row_count(m, 0.0), col_count(n, 0.0);
  for (size_t k = 0; k < train.value.size(); ++k) {
    ++row_count[static_cast<size_t>(train.row[k])];
    ++col_count[static_cast<size_t>(train.col[k])];
  }
  double row_penalty = options.row_penalty.value_or(5), col_penalty = options.col_penalty.value_or(5);
  // One exact half step; returns the largest change and sums what the penalty's estimate needs.
  const auto half = [&](std::vector<double>& bias, const std::vector<int32_t>& own,
                        const std::vector<double>& other_bias, const std::vector<int32_t>& other,
                        const std::vector<double>& count, double penalty) {
    std::vector<double> sum(bias.size(), 0.0);
    for (size_t k = 0; k < train.value.size(); ++k)
      sum[static_cast<size_t>(own[k])] += train.value[k] - model.mean - other_bias[static_cast<size_t>(other[k])];
    double change = 0;
    for (size_t i = 0; i < bias.size(); ++i) {
      const double next = count[i] > 0 ? sum[i] / (count[i] + penalty) : 0.0;
      change = std::max(change, std::abs(next - bias[i]));
      bias[i] = next;
    }
    return change;
  };
  for (int sweep = 0; sweep < 1000; ++sweep) {
    double change = half(model.row_bias, train.row, model.col_bias, train.col, row_count, row_penalty);
    change = std::max(change, half(model.col_bias, train.col, model.row_bias, train.row, col_count, col_penalty));
    double noise = 0, row_square = 0, col_square = 0, row_share = 0, col_share = 0;
    for (size_t k = 0; k < train.value.size(); ++k) {
      const double e = train.value[k] - model.mean - model.row_bias[static_cast<size_t>(train.row[k])] -
                       model.col_bias[static_cast<size_t>(train.col[k])];
      noise += e * e;
    }
    // Posterior variance of a bias is noise / (count + penalty).
    for (size_t i = 0; i < m; ++i)
      row_square += model.row_bias[i] * model.row_bias[i], row_share += 1 / (row_count[i] + row_penalty);
    for (size_t j = 0; j < n; ++j)
      col_square += model.col_bias[j] * model.col_bias[j], col_share += 1 / (col_count[j] + col_penalty);
    const double freedom =
        static_cast<double>(m) - row_penalty * row_share + static_cast<double>(n) - col_penalty * col_share;
    noise = std::max(noise / std::max(1.0, static_cast<double>(train.size()) - freedom), 1e-12);
    const auto estimate = [&](const std::optional<double>& fixed, double now, double square, double share,
                              size_t count) {
      return fixed
                 ? *fixed
                 : std::clamp(noise * static_cast<double>(count) / (square + noise * share + 1e-12), 1e-3, 1e6) * 0.5 +
                       now * 0.5;
    };
    const double next_row = estimate(options.row_penalty, row_penalty, row_square, row_share, m);
    const double next_col = estimate(options.col_penalty, col_penalty, col_square, col_share, n);
    const double moved =
        std::max(std::abs(next_row - row_penalty) / row_penalty, std::abs(next_col - col_penalty) / col_penalty);
    row_penalty = next_row;
    col_penalty = next_col;
    const bool estimated = !options.row_penalty || !options.col_penalty;
    if (change < 1e-10 || (estimated && sweep >= 20 && moved < 1e-6 && change < 1e-6)) break;
  }
  model.row_penalty = {row_penalty};
  return model;
}

}  // namespace deeplora
