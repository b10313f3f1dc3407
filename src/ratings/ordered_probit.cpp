#include "ratings/ordered_probit.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "ratings/normal_distribution.h"

namespace deeplora {
namespace {

constexpr size_t kMostLevels = 100;
constexpr double kWanted = 0.44;  ///< share of accepted proposals (Gelman, Roberts, Gilks 1996)

}  // namespace

OrderedProbit::OrderedProbit(const std::vector<double>& ratings) : levels_(ratings) {
  std::sort(levels_.begin(), levels_.end());
  levels_.erase(std::unique(levels_.begin(), levels_.end()), levels_.end());
  check(levels_.size() >= 2 && levels_.size() <= kMostLevels, "completion.likelihood: ordinal is for ratings of few ",
        "values; expected 2 to ", kMostLevels, " different ones, found ", levels_.size(), "; use likelihood: gaussian");
  sort_entries(ratings);
  double below = 0;
  for (size_t c = 0; c + 1 < levels_.size(); ++c) {
    below += static_cast<double>(entries_[c].size()) / static_cast<double>(ratings.size());
    cutpoints_.push_back(normal_quantile(std::min(below, 1 - 1e-12)));
  }
}

OrderedProbit::OrderedProbit(const std::vector<double>& ratings, const std::vector<double>& levels,
                             const std::vector<double>& cutpoints)
    : levels_(levels), cutpoints_(cutpoints) {
  for (const double v : ratings)
    check(std::binary_search(levels_.begin(), levels_.end(), v), "a rating of ", v, ", which is none of the ",
          levels_.size(), " values that the run was trained on (likelihood: ordinal)");
  sort_entries(ratings);
}

void OrderedProbit::sort_entries(const std::vector<double>& ratings) {
  entries_.resize(levels_.size());
  for (const double v : ratings) {
    level_.push_back(static_cast<size_t>(std::lower_bound(levels_.begin(), levels_.end(), v) - levels_.begin()));
    entries_[level_.back()].push_back(level_.size() - 1);
  }
  for (size_t c = 0; c + 1 < levels_.size(); ++c)
    steps_.push_back(2 / std::sqrt(1 + static_cast<double>(entries_[c].size() + entries_[c + 1].size())));
}

double OrderedProbit::low_end(size_t level) const {
  return level > 0 ? cutpoints_[level - 1] : -std::numeric_limits<double>::infinity();
}

double OrderedProbit::high_end(size_t level) const {
  return level < cutpoints_.size() ? cutpoints_[level] : std::numeric_limits<double>::infinity();
}

double OrderedProbit::log_probability(size_t level, double low, double high, const std::vector<double>& mean) const {
  double sum = 0;
  for (const size_t e : entries_[level]) {
    const LowerTail tail(mean[e], low, high);
    sum += std::log(std::max(tail.mass(), 1e-300));
  }
  return sum;
}

void OrderedProbit::draw_cutpoints(const std::vector<double>& mean, PortableRandom random, bool adapt) {
  for (size_t c = 0; c < cutpoints_.size(); ++c) {
    const double low = low_end(c), high = high_end(c + 1), now = cutpoints_[c];
    const double next = now + steps_[c] * random.normal();
    const double threshold = std::log(random.inside());
    const auto at = [&](double cut) {
      return log_probability(c, low, cut, mean) + log_probability(c + 1, cut, high, mean);
    };
    const bool accepted = next > low && next < high && threshold < at(next) - at(now);
    if (accepted) cutpoints_[c] = next;
    if (adapt) steps_[c] *= std::exp(0.2 * ((accepted ? 1 : 0) - kWanted));
  }
}

double OrderedProbit::latent(size_t entry, double mean, PortableRandom& random) const {
  return truncated_normal(mean, low_end(level_[entry]), high_end(level_[entry]), random);
}

}  // namespace deeplora
