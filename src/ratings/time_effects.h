// Additive effects of a row (or a column) within a period of time, as the day and the bin of timeSVD++ (Koren 2009).
// Free of LibTorch.
#pragma once

#include <functional>

#include "ratings/ratings_model.h"

namespace deeplora {

/// The effects of all rows whose ratings have times, each N(0, 1 / penalty).
class TimeEffects {
 public:
  TimeEffects() = default;
  /// `own`: the row of every entry. Nothing for a period of 0.
  TimeEffects(const std::vector<int32_t>& own, const std::vector<double>& time, double period);

  bool any() const { return !effects_.id.empty(); }
  double of(size_t entry) const { return any() ? effects_.value[slot_[entry]] : 0.0; }
  double variance_of(size_t entry) const { return any() && !variance_.empty() ? variance_[slot_[entry]] : 0.0; }

  /// Their posterior given what is left of every entry without them, and the noise's precision: means and variances,
  /// or draws where `normal` gives N(0, 1) for each effect.
  void update(const std::vector<double>& left, double precision, const std::function<double(size_t)>& normal);
  /// Penalty by maximum likelihood with a trace of a prior, or, with `gamma`(shape), drawn.
  void learn_penalty(const std::function<double(double)>& gamma);

  double penalty() const { return penalty_; }
  /// Goes on with the effects of a former fit; periods that it does not know begin at 0.
  void take(const PeriodEffects& former, double penalty);
  /// With values in units of `unit`.
  PeriodEffects effects(double unit) const;

 private:
  PeriodEffects effects_;
  std::vector<size_t> slot_;  ///< of every entry
  std::vector<double> count_, variance_;
  double penalty_ = 10;
};

}  // namespace deeplora
