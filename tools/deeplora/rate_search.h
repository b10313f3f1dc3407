// train.lr: auto. Short runs at several learning rates, of which dev chooses one.
#pragma once

#include <optional>
#include <vector>

#include "session.h"

namespace deeplora {

struct RateTrial {
  double lr = 0;
  std::optional<double> score;  ///< on dev at its end; none where it diverged or the score is undefined
  std::optional<double> loss;   ///< on dev, where the task has one besides: decides between equal scores
  int64_t steps = 0;
};

struct RateSearch {
  std::string metric;
  bool higher_is_better = true;
  std::vector<RateTrial> trials;  ///< by learning rate, ascending
  double lr = 0;                  ///< of the best

  nlohmann::ordered_json json() const;
  /// Throws Error for a file that is damaged.
  static RateSearch read(const OrderedJsonFile& json);
};

/// The learning rates that are tried around a default: half decades, two to each side.
std::vector<double> rates_around(double default_lr);
/// Steps of a trial for a run of so many: a fifth, but 10 to 100, and never more than the run.
int64_t trial_steps(int64_t total_steps);
/// The better one of two on dev; of equal ones that with the lower loss, then the first.
bool is_better(const RateTrial& a, const RateTrial& b, bool higher_is_better);

/// Runs the trials, each from the session's own start, which is restored afterwards. The same session gives the same
/// rates, on the CPU the same bits. Throws Error where every trial diverges; Interrupted when stopped.
RateSearch search_rate(Session& session, const LoadedData& dev, const StopSignal* stop);

}  // namespace deeplora
