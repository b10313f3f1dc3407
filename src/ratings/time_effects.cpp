#include "ratings/time_effects.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace deeplora {

TimeEffects::TimeEffects(const std::vector<int32_t>& own, const std::vector<double>& time, double period) {
  if (period <= 0) return;
  effects_.period = period;
  std::vector<std::pair<int32_t, int64_t>> keys;
  for (size_t e = 0; e < own.size(); ++e) keys.emplace_back(own[e], static_cast<int64_t>(std::floor(time[e] / period)));
  std::vector<std::pair<int32_t, int64_t>> slots = keys;
  std::sort(slots.begin(), slots.end());
  slots.erase(std::unique(slots.begin(), slots.end()), slots.end());
  for (const auto& [id, number] : slots) effects_.id.push_back(id), effects_.number.push_back(number);
  effects_.value.assign(slots.size(), 0.0);
  count_.assign(slots.size(), 0.0);
  for (const auto& key : keys) {
    slot_.push_back(static_cast<size_t>(std::lower_bound(slots.begin(), slots.end(), key) - slots.begin()));
    ++count_[slot_.back()];
  }
}

void TimeEffects::update(const std::vector<double>& left, double precision,
                         const std::function<double(size_t)>& normal) {
  if (!any()) return;
  std::vector<double> sum(count_.size(), 0.0);
  for (size_t e = 0; e < left.size(); ++e) sum[slot_[e]] += left[e];
  if (!normal) variance_.resize(count_.size());
  for (size_t t = 0; t < sum.size(); ++t) {
    const double information = precision * count_[t] + penalty_;
    effects_.value[t] = precision * sum[t] / information;
    if (normal) effects_.value[t] += normal(t) / std::sqrt(information);
    else variance_[t] = 1 / information;
  }
}

void TimeEffects::learn_penalty(const std::function<double(double)>& gamma) {
  if (!any()) return;
  double spread = std::accumulate(variance_.begin(), variance_.end(), 0.0);
  for (const double v : effects_.value) spread += v * v;
  const double count = static_cast<double>(effects_.value.size()) + 1;
  penalty_ = (gamma ? 2 * gamma(count / 2) : count) / (spread + 0.01);
}

void TimeEffects::take(const PeriodEffects& former, double penalty) {
  if (!any() || former.id.empty()) return;
  penalty_ = penalty;
  for (size_t t = 0; t < effects_.value.size(); ++t) {
    const double middle = (static_cast<double>(effects_.number[t]) + 0.5) * effects_.period;
    if (const int64_t found = former.find(effects_.id[t], middle); found >= 0)
      effects_.value[t] = former.value[static_cast<size_t>(found)];
  }
}

PeriodEffects TimeEffects::effects(double unit) const {
  PeriodEffects out = effects_;
  for (double& v : out.value) v *= unit;
  return out;
}

}  // namespace deeplora
