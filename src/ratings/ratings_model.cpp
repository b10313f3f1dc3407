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
  return std::accumulate(train.value.begin(), train.value.end(), 0.0) / static_cast<double>(std::max<int64_t>(1, train.size()));
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

std::vector<double> fold_in(const RatingsModel& model, std::span<const int32_t> cols, std::span<const double> values) {
  const auto r = static_cast<size_t>(model.rank), size = r + (model.biases() ? 1 : 0);
  std::vector<double> prior(size, 0.0), phi(size, 1.0), matrix(size * (size + 1) / 2, 0.0), right(size, 0.0);
  double rated = 0;
  for (const int32_t col : cols) rated += col >= 0;
  for (size_t n = 0; n < cols.size(); ++n) {
    if (cols[n] < 0) continue;
    const auto j = static_cast<size_t>(cols[n]);
    for (size_t k = 0; k < r; ++k) phi[k] = model.col_factor[j * r + k];
    const double target = values[n] - model.mean - (model.biases() ? model.col_bias[j] : 0.0);
    for (size_t a = 0, at = 0; a < size; ++a) {
      right[a] += target * phi[a];
      for (size_t b = 0; b <= a; ++b) matrix[at++] += phi[a] * phi[b];
    }
    if (!model.row_link.empty())
      for (size_t k = 0; k < size; ++k) prior[k] += model.row_link[j * (r + 1) + k] / std::sqrt(rated);
  }
  for (size_t k = 0; k < size; ++k) {
    const double penalty = model.row_penalty[k] * (model.penalty_per_rating ? std::max(rated, 1.0) : 1.0);
    matrix[k * (k + 1) / 2 + k] += penalty;
    right[k] += penalty * prior[k];
  }
  check(size == 0 || solve_packed(matrix, right), "folding in: a row's ratings do not determine its factors; train with a regularization above 0");
  right.resize(r + 1, 0.0);
  return right;
}

std::vector<double> coordinates_of(const RatingsModel& model, int64_t row) {
  const auto begin = model.row_factor.begin() + row * model.rank;
  std::vector<double> x(begin, begin + model.rank);
  x.push_back(model.biases() ? model.row_bias[static_cast<size_t>(row)] : 0.0);
  return x;
}

std::vector<Scored> top_n(const RatingsModel& model, std::span<const double> coordinates, const std::vector<int32_t>& seen, int64_t n) {
  std::vector<char> skip(static_cast<size_t>(model.cols), 0);
  for (const int32_t col : seen)
    if (col >= 0) skip[static_cast<size_t>(col)] = 1;
  std::vector<Scored> all;
  for (int64_t j = 0; j < model.cols; ++j)
    if (!skip[static_cast<size_t>(j)]) all.push_back({j, raw(model, coordinates, j)});
  const auto cut = all.begin() + std::min<int64_t>(n, static_cast<int64_t>(all.size()));
  std::partial_sort(all.begin(), cut, all.end(), [](const Scored& a, const Scored& b) { return a.value != b.value ? a.value > b.value : a.col < b.col; });
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
  const auto half = [&](std::vector<double>& bias, const std::vector<int32_t>& own, const std::vector<double>& other_bias,
                        const std::vector<int32_t>& other, const std::vector<double>& count, double penalty) {
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
      const double e = train.value[k] - model.mean - model.row_bias[static_cast<size_t>(train.row[k])] - model.col_bias[static_cast<size_t>(train.col[k])];
      noise += e * e;
    }
    // Posterior variance of a bias is noise / (count + penalty).
    for (size_t i = 0; i < m; ++i) row_square += model.row_bias[i] * model.row_bias[i], row_share += 1 / (row_count[i] + row_penalty);
    for (size_t j = 0; j < n; ++j) col_square += model.col_bias[j] * model.col_bias[j], col_share += 1 / (col_count[j] + col_penalty);
    const double freedom = static_cast<double>(m) - row_penalty * row_share + static_cast<double>(n) - col_penalty * col_share;
    noise = std::max(noise / std::max(1.0, static_cast<double>(train.size()) - freedom), 1e-12);
    const auto estimate = [&](const std::optional<double>& fixed, double now, double square, double share, size_t count) {
      return fixed ? *fixed : std::clamp(noise * static_cast<double>(count) / (square + noise * share + 1e-12), 1e-3, 1e6) * 0.5 + now * 0.5;
    };
    const double next_row = estimate(options.row_penalty, row_penalty, row_square, row_share, m);
    const double next_col = estimate(options.col_penalty, col_penalty, col_square, col_share, n);
    const double moved = std::max(std::abs(next_row - row_penalty) / row_penalty, std::abs(next_col - col_penalty) / col_penalty);
    row_penalty = next_row;
    col_penalty = next_col;
    const bool estimated = !options.row_penalty || !options.col_penalty;
    if (change < 1e-10 || (estimated && sweep >= 20 && moved < 1e-6 && change < 1e-6)) break;
  }
  model.row_penalty = {row_penalty};
  return model;
}

}  // namespace deeplora
