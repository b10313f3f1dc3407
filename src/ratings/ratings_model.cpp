#include "ratings/ratings_model.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>

#include "ratings/packed_system.h"
#include "ratings/normal_distribution.h"

namespace deeplora {
namespace {

double clipped(const RatingsModel& model, double value) {
  return model.range ? std::clamp(value, model.range->first, model.range->second) : value;
}

double mean_of(const Ratings& train) {
  return std::accumulate(train.value.begin(), train.value.end(), 0.0) /
         static_cast<double>(std::max<int64_t>(1, train.size()));
}

/// One of a model's draws; of other models, the model itself.
struct DrawOf {
  const RatingsModel& model;
  size_t s, r;

  DrawOf(const RatingsModel& whole, int64_t draw)
      : model(whole), s(static_cast<size_t>(draw)), r(static_cast<size_t>(whole.draw_rank())) {}

  const double* col_factor(size_t j) const {
    return model.col_factor.data() + j * static_cast<size_t>(model.rank) + s * r;
  }
  double col_bias(size_t j) const {
    return model.biases() ? model.col_bias[s * static_cast<size_t>(model.cols) + j] : 0;
  }
  double row_bias(size_t i) const {
    return model.biases() ? model.row_bias[s * static_cast<size_t>(model.rows) + i] : 0;
  }
  double penalty(size_t k) const { return model.row_penalty[s * penalties() + k]; }
  double row_center(size_t k) const { return center(model.row_center, k); }
  double col_center(size_t k) const { return center(model.col_center, k); }
  const double* link(size_t j) const {
    return model.row_link.data() + (s * static_cast<size_t>(model.cols) + j) * (r + 1);
  }
  static double effect(const PeriodEffects& effects, size_t draw, int64_t which) {
    return which < 0 ? 0.0 : effects.value[draw * effects.id.size() + static_cast<size_t>(which)];
  }
  /// Mean and second moment of the rating that a latent value stands for.
  std::pair<double, double> rating(double latent) const {
    if (model.levels.empty()) return {latent, latent * latent + (model.noise.empty() ? 0.0 : model.noise[s])};
    const size_t cuts = model.levels.size() - 1;
    double first = 0, second = 0, below = 0;
    for (size_t v = 0; v <= cuts; ++v) {
      const double next = v < cuts ? normal_below(model.cutpoints[s * cuts + v] - latent) : 1.0;
      first += (next - below) * model.levels[v];
      second += (next - below) * model.levels[v] * model.levels[v];
      below = next;
    }
    return {first, second};
  }

 private:
  double center(const std::vector<double>& centers, size_t k) const {
    return centers.empty() || k >= penalties() ? 0.0 : centers[s * penalties() + k];
  }
  size_t penalties() const { return r + (model.biases() ? 1 : 0); }
};

/// Sums what `draws` hold of a vector, one after the other.
template <class Part>
auto appended(const std::vector<RatingsModel>& draws, const Part& part) {
  std::decay_t<decltype(part(draws[0]))> out;
  for (const auto& draw : draws) out.insert(out.end(), part(draw).begin(), part(draw).end());
  return out;
}

/// Factors [size, r] of every draw beside each other, multiplied by `scale`.
template <class Part>
std::vector<double> beside(const std::vector<RatingsModel>& draws, int64_t size, double scale, const Part& part) {
  const auto r = static_cast<size_t>(draws[0].rank), width = r * draws.size();
  std::vector<double> out(static_cast<size_t>(size) * width);
  for (size_t s = 0; s < draws.size(); ++s)
    for (size_t i = 0; i < static_cast<size_t>(size); ++i)
      for (size_t k = 0; k < r; ++k) out[i * width + s * r + k] = scale * part(draws[s])[i * r + k];
  return out;
}

}  // namespace

int64_t PeriodEffects::find(int64_t who, std::optional<double> time) const {
  if (period <= 0 || who < 0 || !time) return -1;
  const auto wanted = std::pair(static_cast<int32_t>(who), static_cast<int64_t>(std::floor(*time / period)));
  size_t low = 0, high = id.size();
  while (low < high) {
    const size_t middle = (low + high) / 2;
    if (std::pair(id[middle], number[middle]) < wanted) low = middle + 1;
    else high = middle;
  }
  return low < id.size() && std::pair(id[low], number[low]) == wanted ? static_cast<int64_t>(low) : -1;
}

RatingsModel mean_of_draws(const std::vector<RatingsModel>& draws) {
  if (draws.size() == 1) return draws[0];
  RatingsModel out = draws.back();
  out.draws = static_cast<int64_t>(draws.size());
  out.rank = draws[0].rank * out.draws;
  out.row_factor =
      beside(draws, out.rows, 1 / static_cast<double>(out.draws), [](const auto& d) -> auto& { return d.row_factor; });
  out.col_factor = beside(draws, out.cols, 1, [](const auto& d) -> auto& { return d.col_factor; });
  out.row_bias = appended(draws, [](const auto& d) -> auto& { return d.row_bias; });
  out.col_bias = appended(draws, [](const auto& d) -> auto& { return d.col_bias; });
  out.row_periods.value = appended(draws, [](const auto& d) -> auto& { return d.row_periods.value; });
  out.col_periods.value = appended(draws, [](const auto& d) -> auto& { return d.col_periods.value; });
  out.noise = appended(draws, [](const auto& d) -> auto& { return d.noise; });
  out.cutpoints = appended(draws, [](const auto& d) -> auto& { return d.cutpoints; });
  out.row_penalty = appended(draws, [](const auto& d) -> auto& { return d.row_penalty; });
  out.row_center = appended(draws, [](const auto& d) -> auto& { return d.row_center; });
  out.col_center = appended(draws, [](const auto& d) -> auto& { return d.col_center; });
  out.row_link = appended(draws, [](const auto& d) -> auto& { return d.row_link; });
  return out;
}

RatingsModel last_draw(const RatingsModel& model) {
  if (model.draws == 1) return model;
  RatingsModel out = model;
  const auto r = static_cast<size_t>(model.draw_rank()), s = static_cast<size_t>(model.draws),
             width = static_cast<size_t>(model.rank);
  out.draws = 1;
  out.rank = model.draw_rank();
  const auto tail = [s](const std::vector<double>& whole) {
    return std::vector<double>(whole.end() - static_cast<std::ptrdiff_t>(whole.size() / s), whole.end());
  };
  for (auto part :
       {&RatingsModel::row_bias, &RatingsModel::col_bias, &RatingsModel::noise, &RatingsModel::cutpoints,
        &RatingsModel::row_penalty, &RatingsModel::row_center, &RatingsModel::col_center, &RatingsModel::row_link})
    out.*part = tail(model.*part);
  out.row_periods.value = tail(model.row_periods.value);
  out.col_periods.value = tail(model.col_periods.value);
  const auto columns = [&](const std::vector<double>& factor, double scale) {
    std::vector<double> last;
    for (size_t i = 0; i < factor.size(); i += width)
      for (size_t k = width - r; k < width; ++k) last.push_back(scale * factor[i + k]);
    return last;
  };
  out.row_factor = columns(model.row_factor, static_cast<double>(s));
  out.col_factor = columns(model.col_factor, 1);
  return out;
}

std::vector<double> mean_bias(const std::vector<double>& bias, int64_t draws) {
  const size_t size = bias.size() / static_cast<size_t>(draws);
  std::vector<double> out(size, 0.0);
  for (size_t e = 0; e < bias.size(); ++e) out[e % size] += bias[e] / static_cast<double>(draws);
  return out;
}

namespace {

/// Calls use(draw, latent value) for every draw of the pair of a row with these coordinates and a column.
template <class Use>
void for_latent(const RatingsModel& model, std::span<const double> x, int64_t col, int64_t row,
                std::optional<double> time, const Use& use) {
  const int64_t row_effect = model.row_periods.find(row, time), col_effect = model.col_periods.find(col, time);
  for (int64_t s = 0; s < model.draws; ++s) {
    const DrawOf draw(model, s);
    const double* mine = x.data() + static_cast<size_t>(s) * (draw.r + 1);
    double value = model.mean + mine[draw.r];
    if (col >= 0) {
      const auto j = static_cast<size_t>(col);
      value += draw.col_bias(j);
      const double* a = draw.col_factor(j);
      for (size_t k = 0; k < draw.r; ++k) value += mine[k] * a[k];
    } else {
      for (size_t k = 0; k < draw.r; ++k) value += mine[k] * draw.col_center(k);
      value += draw.col_center(draw.r);
    }
    value +=
        DrawOf::effect(model.row_periods, draw.s, row_effect) + DrawOf::effect(model.col_periods, draw.s, col_effect);
    use(draw, value);
  }
}

}  // namespace

double RatingsModel::predict(int64_t row, int64_t col, std::optional<double> time) const {
  return predict(coordinates_of(*this, row), col, row, time);
}

double RatingsModel::predict(std::span<const double> coordinates, int64_t col, int64_t row,
                             std::optional<double> time) const {
  double sum = 0;
  for_latent(*this, coordinates, col, row, time,
             [&](const DrawOf& draw, double latent) { sum += levels.empty() ? latent : draw.rating(latent).first; });
  return clipped(*this, sum / static_cast<double>(draws));
}

Spread RatingsModel::spread(std::span<const double> coordinates, int64_t col, int64_t row,
                            std::optional<double> time) const {
  if (noise.empty()) throw std::logic_error("a model without noise has no standard deviations");
  double first = 0, second = 0;
  for_latent(*this, coordinates, col, row, time, [&](const DrawOf& draw, double latent) {
    const auto [mean, square] = draw.rating(latent);
    first += mean / static_cast<double>(draws);
    second += square / static_cast<double>(draws);
  });
  return {first, std::sqrt(std::max(0.0, second - first * first))};
}

RatingErrors errors_of(const RatingsModel& model, const Ratings& ratings) {
  double squares = 0, sizes = 0;
  for (size_t i = 0; i < ratings.value.size(); ++i) {
    const auto time = ratings.time.empty() ? std::nullopt : std::optional(ratings.time[i]);
    const double e = model.predict(ratings.row[i], ratings.col[i], time) - ratings.value[i];
    squares += e * e;
    sizes += std::abs(e);
  }
  const double n = static_cast<double>(std::max<int64_t>(1, ratings.size()));
  return {std::sqrt(squares / n), sizes / n, {}};
}

namespace {

/// The linear system of a row in one draw, lower triangle packed by rows; the last coordinate is the bias when it is
/// solved for too.
class RowSystem {
 public:
  RowSystem(const DrawOf& draw, bool with_bias)
      : draw_(draw),
        model_(draw.model),
        r_(draw.r),
        size_(r_ + (with_bias ? 1 : 0)),
        phi_(size_, 1.0),
        prior_(size_, 0.0),
        matrix_(size_ * (size_ + 1) / 2, 0.0),
        right_(size_, 0.0) {
    for (size_t k = 0; k < size_; ++k) prior_[k] = draw.row_center(k);
  }

  /// A rating of column j less mean and biases; `rated` columns in all.
  void add(size_t j, double target, double rated) {
    const double* factor = draw_.col_factor(j);
    for (size_t k = 0; k < r_; ++k) phi_[k] = factor[k];
    for (size_t a = 0, at = 0; a < size_; ++a) {
      right_[a] += target * phi_[a];
      for (size_t b = 0; b <= a; ++b) matrix_[at++] += phi_[a] * phi_[b];
    }
    if (!model_.col_covariance.empty()) add_covariance(j);
    if (!model_.row_link.empty())
      for (size_t k = 0; k < size_; ++k) prior_[k] += draw_.link(j)[k] / std::sqrt(rated);
  }

  std::vector<double> solve(double rated) {
    for (size_t t = 0; t < model_.everywhere.size(); ++t) matrix_[t] += model_.everywhere[t];
    for (size_t k = 0; k < size_; ++k) {
      const double penalty = draw_.penalty(k) * (model_.penalty_per_rating ? std::max(rated, 1.0) : 1.0);
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

  const DrawOf& draw_;
  const RatingsModel& model_;
  size_t r_, size_;
  std::vector<double> phi_, prior_, matrix_, right_;
};

/// The ratings of one row that is folded in, without those of unknown columns.
struct GivenRow {
  std::vector<size_t> cols;
  std::vector<double> values;
  std::vector<int64_t> effects;  ///< of their columns' periods
  double rated() const { return static_cast<double>(cols.size()); }
};

GivenRow given_row(const RatingsModel& model, std::span<const int32_t> cols, std::span<const double> values,
                   std::span<const double> times) {
  GivenRow out;
  for (size_t n = 0; n < cols.size(); ++n) {
    if (cols[n] < 0) continue;
    out.cols.push_back(static_cast<size_t>(cols[n]));
    out.values.push_back(values[n]);
    out.effects.push_back(
        model.col_periods.find(cols[n], times.empty() ? std::nullopt : std::optional<double>(times[n])));
  }
  return out;
}

/// The bias of a row whose factors say nothing.
double bias_alone(const DrawOf& draw, const GivenRow& row) {
  double sum = 0;
  for (size_t n = 0; n < row.cols.size(); ++n) sum += row.values[n] - draw.model.mean - draw.col_bias(row.cols[n]);
  const double weight = row.rated() + draw.model.row_penalty.back();
  return weight > 0 ? sum / weight : 0;
}

/// What a rating's latent value is without the row.
double column_part(const DrawOf& draw, const GivenRow& row, size_t n) {
  return draw.model.mean + draw.col_bias(row.cols[n]) + DrawOf::effect(draw.model.col_periods, draw.s, row.effects[n]);
}

std::vector<double> solve_row(const DrawOf& draw, const GivenRow& row) {
  const RatingsModel& model = draw.model;
  const bool bias_first = model.biases() && model.bias_first;
  const double bias = bias_first ? bias_alone(draw, row) : 0.0;
  RowSystem system(draw, model.biases() && !bias_first);
  for (size_t n = 0; n < row.cols.size(); ++n)
    system.add(row.cols[n], row.values[n] - column_part(draw, row, n) - bias, row.rated());
  std::vector<double> x = system.solve(row.rated());
  x.resize(draw.r + 1, bias);
  return x;
}

/// Ordered probit: the latent values' means given the row, then the row given these, until it rests.
std::vector<double> solve_latent_row(const DrawOf& draw, GivenRow row) {
  constexpr double inf = std::numeric_limits<double>::infinity();
  const auto& levels = draw.model.levels;
  const size_t cuts = levels.size() - 1;
  const double* cutpoints = draw.model.cutpoints.data() + draw.s * cuts;
  const std::vector<double> ratings = row.values;
  std::vector<double> x(draw.r + 1, 0.0);
  for (int round = 0; round < 200; ++round) {
    for (size_t n = 0; n < ratings.size(); ++n) {
      const auto above = std::upper_bound(levels.begin(), levels.end(), ratings[n]) - levels.begin();
      const auto v = static_cast<size_t>(std::max<std::ptrdiff_t>(above, 1) - 1);
      double latent = column_part(draw, row, n) + x[draw.r];
      for (size_t k = 0; k < draw.r; ++k) latent += x[k] * draw.col_factor(row.cols[n])[k];
      row.values[n] = truncated_mean(latent, v > 0 ? cutpoints[v - 1] : -inf, v < cuts ? cutpoints[v] : inf);
    }
    const std::vector<double> next = solve_row(draw, row);
    double moved = 0;
    for (size_t k = 0; k < x.size(); ++k) moved = std::max(moved, std::abs(next[k] - x[k]));
    x = next;
    if (moved < 1e-9) break;
  }
  return x;
}

}  // namespace

std::vector<double> fold_in(const RatingsModel& model, std::span<const int32_t> cols, std::span<const double> values,
                            std::span<const double> times) {
  const GivenRow row = given_row(model, cols, values, times);
  std::vector<double> out;
  for (int64_t s = 0; s < model.draws; ++s) {
    const DrawOf draw(model, s);
    const std::vector<double> x = model.levels.empty() ? solve_row(draw, row) : solve_latent_row(draw, row);
    out.insert(out.end(), x.begin(), x.end());
  }
  return out;
}

std::vector<double> coordinates_of(const RatingsModel& model, int64_t row) {
  const bool known = row >= 0;
  const auto i = static_cast<size_t>(known ? row : 0);
  const double* b = model.row_factor.data() + i * static_cast<size_t>(model.rank);
  std::vector<double> x;
  for (int64_t s = 0; s < model.draws; ++s) {
    const DrawOf draw(model, s);
    for (size_t k = 0; k < draw.r; ++k)
      x.push_back(known ? static_cast<double>(model.draws) * b[draw.s * draw.r + k] : draw.row_center(k));
    x.push_back(known ? draw.row_bias(i) : draw.row_center(draw.r));
  }
  return x;
}

std::vector<Scored> top_n(const RatingsModel& model, std::span<const double> coordinates,
                          const std::vector<int32_t>& seen, int64_t n) {
  std::vector<char> skip(static_cast<size_t>(model.cols), 0);
  for (const int32_t col : seen)
    if (col >= 0) skip[static_cast<size_t>(col)] = 1;
  const std::vector<double> col_bias = mean_bias(model.col_bias, model.draws);
  const auto width = static_cast<size_t>(model.rank), r = static_cast<size_t>(model.draw_rank());
  std::vector<double> weights;  // of the columns' factors in the mean over draws
  double constant = model.mean;
  for (size_t s = 0; s < static_cast<size_t>(model.draws); ++s) {
    for (size_t k = 0; k < r; ++k) weights.push_back(coordinates[s * (r + 1) + k] / static_cast<double>(model.draws));
    constant += coordinates[s * (r + 1) + r] / static_cast<double>(model.draws);
  }
  std::vector<Scored> all;
  for (size_t j = 0; j < skip.size(); ++j) {
    if (skip[j]) continue;
    double value = constant + (model.biases() ? col_bias[j] : 0.0);
    for (size_t k = 0; k < width; ++k) value += weights[k] * model.col_factor[j * width + k];
    all.push_back({static_cast<int64_t>(j), value});
  }
  const auto cut = all.begin() + std::min<int64_t>(n, static_cast<int64_t>(all.size()));
  std::partial_sort(all.begin(), cut, all.end(), [](const Scored& a, const Scored& b) {
    return a.value != b.value ? a.value > b.value : a.col < b.col;
  });
  all.erase(cut, all.end());
  for (auto& scored : all)
    scored.value = model.levels.empty() ? clipped(model, scored.value) : model.predict(coordinates, scored.col);
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
