#include "ratings/rating_factors.h"

#include <cmath>
#include <memory>
#include <numeric>

#include "ratings/implicit_link.h"
#include "ratings/normal_distribution.h"
#include "ratings/ordered_probit.h"
#include "ratings/portable_random.h"
#include "ratings/packed_system.h"
#include "ratings/time_effects.h"

namespace deeplora {
namespace {

/// als: the penalty in units of squared standardised rating where none is given.
constexpr double kRidge = 15;

/// The prior of a precision is Gamma(1/2, kTrace / 2): next to nothing, but it keeps them finite.
constexpr double kTrace = 0.01;
/// gibbs: precision of a prior's mean, in units of the prior's own precision.
constexpr double kCenter = 1;

/// What random numbers are for: each has streams of its own.
enum class Draws : uint64_t { row, col, row_link, col_link, row_prior, col_prior, periods, noise, cutpoints, latent };

/// Posterior of all rows (or all columns): coordinates are the factors, then the bias.
struct Posterior {
  SparseSide ratings;
  std::vector<double> mean;       ///< [size, K]
  std::vector<float> covariance;  ///< [size, K (K + 1) / 2], lower triangles; empty for als
  std::vector<float> moments;     ///< as covariance: E[phi phi^T] of phi = (factors, 1), what the other side sums up
  std::vector<double> penalty;    ///< [K], precision of the prior
  std::vector<double> center;     ///< [K], its mean; but for gibbs 0
  std::unique_ptr<ImplicitLink> link;
  std::vector<double> used_penalty, used_link;  ///< penalty / noise precision and link that `mean` was solved with
  TimeEffects periods;
  std::vector<size_t> entry;  ///< of each place in `ratings`; empty where values stay as they are
  Draws kind = Draws::row, link_kind = Draws::row_link, prior_kind = Draws::row_prior;
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

/// mean + L^-T z, z ~ N(0, I): a draw from the posterior whose precision is L L^T.
void perturb(const std::vector<double>& l, std::vector<double>& mean, PortableRandom random) {
  const size_t n = mean.size();
  std::vector<double> z(n);
  for (double& v : z) v = random.normal();
  for (size_t i = n; i-- > 0;) {
    for (size_t k = i + 1; k < n; ++k) z[i] -= l[triangle(k) + i] * z[k];
    z[i] /= l[triangle(i) + i];
    mean[i] += z[i];
  }
}

class Alternation {
 public:
  Alternation(const Ratings& train, const FactorOptions& options)
      : o_(options), rank_(static_cast<size_t>(options.rank)) {
    K_ = rank_ + (o_.biases ? 1 : 0);
    T_ = triangle(K_);
    if (o_.from) check(o_.from->state && o_.from->draw_rank() == o_.rank, "a fit can go on only from its own state");
    standardise(train);
    cols_.kind = Draws::col, cols_.link_kind = Draws::col_link, cols_.prior_kind = Draws::col_prior;
    start(rows_, train.rows.size(), train.row, train.col, train.time, o_.row_period);
    start(cols_, train.cols.size(), train.col, train.row, train.time, o_.col_period);
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
    if (o_.from) go_on(last_draw(*o_.from));
    if (!moving()) return;
    fit_entries();
    add_periods();
    refresh_entries();
  }

  RatingsModel run() {
    std::vector<RatingsModel> kept;
    const int64_t begun = sweep_;
    for (int64_t sweep = 1; sweep <= o_.sweeps; ++sweep) {
      sweep_ = begun + sweep;
      half(rows_, cols_);
      const double error = half(cols_, rows_);
      if (o_.solver != FactorSolver::als) learn(error, sweep);
      if (gibbs() && sweep > o_.burn_in && (sweep - o_.burn_in) % o_.thin == 0) kept.push_back(model());
      if (o_.pulse) o_.pulse();
      if (o_.after_sweep && sweep % o_.look_every == 0 && !o_.after_sweep(sweep, model())) break;
    }
    return kept.empty() ? model() : mean_of_draws(kept);
  }

 private:
  bool gibbs() const { return o_.solver == FactorSolver::gibbs; }
  bool bayes() const { return o_.solver == FactorSolver::bayes; }
  /// Whether what the factors are fitted to changes from sweep to sweep.
  bool moving() const { return o_.ordinal || rows_.periods.any() || cols_.periods.any(); }

  PortableRandom stream(Draws kind, size_t index) const {
    return random_stream(o_.seed, static_cast<uint64_t>(sweep_), static_cast<uint64_t>(kind), index);
  }

  void standardise(const Ratings& train) {
    if (o_.ordinal) {
      probit_ = o_.from ? OrderedProbit(train.value, o_.from->levels, last_draw(*o_.from).cutpoints)
                        : OrderedProbit(train.value);
      values_.assign(train.value.size(), 0.0);
      precision_ = 1;
      return;
    }
    const double n = static_cast<double>(train.size());
    mean_ = o_.biases ? std::accumulate(train.value.begin(), train.value.end(), 0.0) / n : 0.0;
    double square = 0;
    for (const double v : train.value) square += (v - mean_) * (v - mean_);
    check(train.size() > 1 && square > 0, "all ratings are ", mean_, ": there is nothing to factorize");
    unit_ = std::sqrt(square / n);
    if (o_.from) mean_ = o_.from->mean, unit_ = o_.from->state->unit;
    values_.reserve(train.value.size());
    for (const double v : train.value) values_.push_back((v - mean_) / unit_);
    precision_ = o_.solver == FactorSolver::als ? 1.0 : 2.0;
  }

  void start(Posterior& side, int64_t size, const std::vector<int32_t>& own, const std::vector<int32_t>& other,
             const std::vector<double>& time, double period) {
    side.ratings = SparseSide::make(size, own, other, values_);
    const auto count = static_cast<size_t>(size);
    side.mean.assign(count * K_, 0.0);
    side.moments.resize(count * T_);
    if (bayes()) side.covariance.assign(count * T_, 0.0F);
    side.penalty.assign(K_, o_.solver != FactorSolver::als ? 10.0 : o_.regularization.value_or(kRidge));
    side.center.assign(K_, 0.0);
    check(period <= 0 || !time.empty(),
          "completion.periods: effects of periods need the time of every rating, and the ",
          "data has none; name its column in completion.columns.time, or leave completion.periods out");
    side.periods = TimeEffects(own, time, period);
    if (!o_.ordinal && o_.row_period <= 0 && o_.col_period <= 0) return;
    std::vector<double> numbers(own.size());
    std::iota(numbers.begin(), numbers.end(), 0.0);
    for (const double e : SparseSide::make(size, own, other, numbers).value)
      side.entry.push_back(static_cast<size_t>(e));
  }

  /// Takes a former fit's place: rows and columns that it does not know begin at their prior.
  void go_on(const RatingsModel& former) {
    const FitState& state = *former.state;
    sweep_ = state.sweeps;
    precision_ = state.precision;
    rows_.penalty = state.row_penalty, cols_.penalty = state.col_penalty;
    if (!state.row_center.empty()) rows_.center = state.row_center, cols_.center = state.col_center;
    pack(rows_, former.rows, former.row_factor, former.row_bias, unit_);
    pack(cols_, former.cols, former.col_factor, former.col_bias, 1.0);
    rows_.periods.take(in_units(former.row_periods), state.row_period_penalty);
    cols_.periods.take(in_units(former.col_periods), state.col_period_penalty);
    if (bayes()) take_covariance(former);
    for (Posterior* side : {&rows_, &cols_})
      if (side->link) fit_link(*side);
  }

  PeriodEffects in_units(PeriodEffects effects) const {
    for (double& v : effects.value) v /= unit_;
    return effects;
  }

  /// unpack() backwards.
  void pack(Posterior& side, int64_t known, const std::vector<double>& factor, const std::vector<double>& bias,
            double unit) const {
    for (size_t i = 0; i < static_cast<size_t>(side.ratings.size()); ++i)
      for (size_t k = 0; k < K_; ++k)
        side.mean[i * K_ + k] = i >= static_cast<size_t>(known) ? side.center[k]
                                : k < rank_                     ? factor[i * rank_ + k] / unit
                                                                : bias[i] / unit_;
  }

  void take_covariance(const RatingsModel& former) {
    const size_t width = triangle(rank_) + (o_.biases ? rank_ : 0);
    for (size_t j = 0; j < static_cast<size_t>(cols_.ratings.size()); ++j) {
      float* own = cols_.covariance.data() + j * T_;
      const bool known = j < static_cast<size_t>(former.cols);
      for (size_t t = 0; known && t < width; ++t)
        own[t] = former.col_covariance[j * width + t] / static_cast<float>(t < triangle(rank_) ? 1.0 : unit_);
      if (known && o_.biases) own[T_ - 1] = static_cast<float>(former.state->col_bias_variance[j]);
      for (size_t k = 0; !known && k < K_; ++k) own[triangle(k) + k] = static_cast<float>(1 / cols_.penalty[k]);
    }
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
            const double spread = bayes() && a < rank_ ? side.covariance[i * T_ + at] : 0.0;
            out[at] = static_cast<float>(xa * xb + spread);
          }
      }
    });
  }

  /// Solves (gibbs: draws) every row of `side` given `other`; the expected sum of squared errors afterwards.
  double half(Posterior& side, Posterior& other) {
    update_moments(other);
    const std::vector<double> everywhere =
        o_.on_product && o_.solver == FactorSolver::als ? gram(other) : std::vector<double>{};
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
      fit_link(side);
    }
    return std::accumulate(errors.begin(), errors.end(), 0.0);
  }

  void fit_link(Posterior& side) {
    if (!gibbs()) return side.link->fit(side.mean);
    std::vector<double> about = side.mean;
    for (size_t i = 0; i < about.size(); ++i) about[i] -= side.center[i % K_];
    PortableRandom random = stream(side.link_kind, 0), further = stream(side.link_kind, 1);
    side.link->draw(
        about, side.penalty, [&](size_t, size_t) { return random.normal(); },
        [&](size_t, size_t) { return further.normal(); });
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
      const double penalty =
          side.penalty[k] * (o_.solver == FactorSolver::als && o_.weighted ? std::max(count, 1.0) : 1.0);
      system[triangle(k) + k] += penalty;
      right[k] = precision_ * projected[k] + penalty * prior_of(side, i, k);
    }
    check(solve_packed(system, right),
          "a row's ratings do not determine its factors; choose completion.regularization above 0");
    if (gibbs()) perturb(system, right, stream(side.kind, i));
    std::copy(right.begin(), right.end(), side.mean.begin() + static_cast<std::ptrdiff_t>(i * K_));
    if (o_.solver == FactorSolver::als) return 0;
    float* covariance = bayes() ? side.covariance.data() + i * T_ : nullptr;
    if (covariance) inverse_from_cholesky(system, K_, covariance);
    double expected = squares;
    for (size_t a = 0, at = 0; a < K_; ++a) {
      expected -= 2 * right[a] * projected[a];
      for (size_t b = 0; b <= a; ++b, ++at)
        expected += (a == b ? 1.0 : 2.0) * matrix[at] * (right[a] * right[b] + (covariance ? covariance[at] : 0.0F));
    }
    return expected;
  }

  double prior_of(const Posterior& side, size_t i, size_t k) const {
    return side.center[k] + (side.link ? side.link->prior()[i * K_ + k] : 0.0);
  }

  /// Adds one rating to sum E[phi phi^T] and sum E[(v - bias) phi]; returns E[(v - bias)^2].
  double accumulate(const Posterior& other, size_t j, double value, std::vector<double>& matrix,
                    std::vector<double>& projected) const {
    const float* moments = other.moments.data() + j * T_;
    for (size_t t = 0; t < T_; ++t) matrix[t] += moments[t];
    const double* z = other.mean.data() + j * K_;
    const double residual = o_.biases ? value - z[rank_] : value;
    // Factors and bias of one column are correlated.
    const float* cross = bayes() && o_.biases ? other.covariance.data() + j * T_ + triangle(rank_) : nullptr;
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

  /// Everything but factors and biases, after a sweep: by maximum likelihood, or drawn.
  void learn(double error, int64_t sweep) {
    for (Posterior* side : {&rows_, &cols_}) gibbs() ? draw_prior(*side) : learn_penalties(*side);
    for (size_t e = 0; bayes() && moving() && e < values_.size(); ++e)
      error += rows_.periods.variance_of(e) + cols_.periods.variance_of(e);
    const double count = static_cast<double>(values_.size());
    if (!o_.ordinal && gibbs()) {
      PortableRandom random = stream(Draws::noise, 0);
      precision_ = 2 * gamma_draw(count / 2, random) / std::max(error, 1e-9);
    } else if (!o_.ordinal) {
      precision_ = count / std::max(error, 1e-9);
    }
    if (!moving()) return;
    update_periods();
    if (o_.ordinal) probit_.draw_cutpoints(fitted_, stream(Draws::cutpoints, 0), sweep <= o_.burn_in);
    refresh_entries();
  }

  /// Maximum-likelihood precision of every coordinate's prior, with a trace of a prior so that it stays finite.
  void learn_penalties(Posterior& side) const {
    std::vector<double> spread(K_, 0.0);
    const auto count = static_cast<size_t>(side.ratings.size());
    for (size_t i = 0; i < count; ++i)
      for (size_t k = 0; k < K_; ++k) {
        const double d = side.mean[i * K_ + k] - prior_of(side, i, k);
        spread[k] += d * d + side.covariance[i * T_ + triangle(k) + k];
      }
    for (size_t k = 0; k < K_; ++k)
      side.penalty[k] = o_.regularization.value_or(1.0) * (static_cast<double>(count) + 1) / (spread[k] + kTrace);
  }

  /// Draws the mean of every coordinate's prior, then its precision, which that mean and the link share.
  void draw_prior(Posterior& side) const {
    PortableRandom random = stream(side.prior_kind, 0);
    const auto count = static_cast<size_t>(side.ratings.size());
    const double n = static_cast<double>(count);
    for (size_t k = 0; k < K_; ++k) {
      double sum = 0, square = 0, link = 0;
      for (size_t i = 0; i < count; ++i) {
        const double d = side.mean[i * K_ + k] - (side.link ? side.link->prior()[i * K_ + k] : 0.0);
        sum += d, square += d * d;
      }
      for (size_t j = k; side.link && j < side.link->link().size(); j += K_)
        link += side.link->ridge() * side.link->link()[j] * side.link->link()[j];
      const double c = sum / (n + kCenter) + random.normal() / std::sqrt(side.penalty[k] * (n + kCenter));
      side.center[k] = c;
      const double spread = square - 2 * c * sum + (n + kCenter) * c * c + link + kTrace;
      const double further = side.link ? static_cast<double>(side.link->link().size() / K_) : 0.0;
      side.penalty[k] = o_.regularization.value_or(1.0) * 2 * gamma_draw((n + further + 2) / 2, random) / spread;
    }
  }

  /// Of every entry: mean of the factors' and biases' part, into fitted_.
  void fit_entries() {
    fitted_.resize(values_.size());
    for_parts(rows_.ratings, o_.threads, [&](int64_t begin, int64_t end, int) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i)
        for (auto p = static_cast<size_t>(rows_.ratings.begin[i]); p < static_cast<size_t>(rows_.ratings.begin[i + 1]);
             ++p) {
          const double *x = rows_.mean.data() + i * K_,
                       *z = cols_.mean.data() + static_cast<size_t>(rows_.ratings.other[p]) * K_;
          double value = o_.biases ? x[rank_] + z[rank_] : 0.0;
          for (size_t k = 0; k < rank_; ++k) value += x[k] * z[k];
          fitted_[rows_.entry[p]] = value;
        }
    });
  }

  /// Effects of rows' periods given the rest, then of columns'; fitted_ then holds whole predictions.
  void update_periods() {
    fit_entries();
    PortableRandom random = stream(Draws::periods, 0);
    const auto normal = gibbs() ? std::function<double(size_t)>([&](size_t) { return random.normal(); }) : nullptr;
    const auto gamma =
        gibbs() ? std::function<double(double)>([&](double shape) { return gamma_draw(shape, random); }) : nullptr;
    std::vector<double> left(values_.size());
    for (auto [own, other] : {std::pair(&rows_, &cols_), std::pair(&cols_, &rows_)}) {
      for (size_t e = 0; e < left.size(); ++e) left[e] = values_[e] - fitted_[e] - other->periods.of(e);
      own->periods.update(left, precision_, normal);
      own->periods.learn_penalty(gamma);
    }
    add_periods();
  }

  void add_periods() {
    for (size_t e = 0; e < fitted_.size(); ++e) fitted_[e] += rows_.periods.of(e) + cols_.periods.of(e);
  }

  /// What factors and biases are fitted to: values (ordinal: latent ones, drawn) less the effects of periods.
  void refresh_entries() {
    if (o_.ordinal) draw_latent();
    for (Posterior* side : {&rows_, &cols_})
      for (size_t p = 0; p < side->entry.size(); ++p) {
        const size_t e = side->entry[p];
        side->ratings.value[p] = values_[e] - rows_.periods.of(e) - cols_.periods.of(e);
      }
  }

  void draw_latent() {
    for_parts(rows_.ratings, o_.threads, [&](int64_t begin, int64_t end, int) {
      for (auto i = static_cast<size_t>(begin); i < static_cast<size_t>(end); ++i) {
        PortableRandom random = stream(Draws::latent, i);
        for (auto p = static_cast<size_t>(rows_.ratings.begin[i]); p < static_cast<size_t>(rows_.ratings.begin[i + 1]);
             ++p)
          values_[rows_.entry[p]] = probit_.latent(rows_.entry[p], fitted_[rows_.entry[p]], random);
      }
    });
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
    out.penalty_per_rating = o_.solver == FactorSolver::als && o_.weighted;
    if (rows_.link) out.row_link = spread_link(gibbs() ? rows_.link->link() : rows_.used_link);
    if (gibbs()) add_draw(out);
    out.row_periods = rows_.periods.effects(unit_);
    out.col_periods = cols_.periods.effects(unit_);
    out.state = state();
    if (bayes()) out.col_covariance = packed_covariance();
    if (o_.on_product && o_.solver == FactorSolver::als) {
      update_moments(cols_);
      out.everywhere = gram(cols_);
      out.everywhere.resize(triangle(rank_));
    }
    return out;
  }

  std::vector<double> spread_link(const std::vector<double>& link) const {
    const auto n = static_cast<size_t>(cols_.ratings.size());
    std::vector<double> out(n * (rank_ + 1), 0.0);
    for (size_t j = 0; j < n; ++j)
      for (size_t k = 0; k < K_; ++k) out[j * (rank_ + 1) + k] = unit_ * link[j * K_ + k];
    return out;
  }

  /// What a draw has beside a point estimate, in units of rating.
  void add_draw(RatingsModel& out) const {
    for (size_t k = 0; k < K_; ++k) {
      out.row_penalty[k] = rows_.penalty[k] / precision_;
      out.row_center.push_back(unit_ * rows_.center[k]);
      out.col_center.push_back((k < rank_ ? 1.0 : unit_) * cols_.center[k]);
    }
    out.noise = {unit_ * unit_ / precision_};
    if (!o_.ordinal) return;
    out.levels = probit_.levels();
    out.cutpoints = probit_.cutpoints();
  }

  FitState state() const {
    FitState out{.unit = unit_,
                 .precision = precision_,
                 .row_penalty = rows_.penalty,
                 .col_penalty = cols_.penalty,
                 .row_center = {},
                 .col_center = {},
                 .col_bias_variance = {},
                 .row_period_penalty = rows_.periods.penalty(),
                 .col_period_penalty = cols_.periods.penalty(),
                 .sweeps = sweep_};
    if (gibbs()) out.row_center = rows_.center, out.col_center = cols_.center;
    for (size_t j = 0; bayes() && o_.biases && j < static_cast<size_t>(cols_.ratings.size()); ++j)
      out.col_bias_variance.push_back(cols_.covariance[j * T_ + T_ - 1]);
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
  int64_t sweep_ = 0;           ///< made by this fit and those that it goes on from
  std::vector<double> values_;  ///< standardised; ordinal: latent
  std::vector<double> fitted_;  ///< prediction of each entry, where values or effects move
  OrderedProbit probit_;
  Posterior rows_, cols_;
};

}  // namespace

RatingsModel fit_rating_factors(const Ratings& train, const FactorOptions& options) {
  return Alternation(train, options).run();
}

}  // namespace deeplora
