#include "train/schedule.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "core/error.h"

namespace deeplora {

std::vector<std::string> schedule_names() { return {"constant", "linear", "cosine"}; }

double Schedule::factor(int64_t step) const {
  if (step < warmup_steps) return static_cast<double>(step) / static_cast<double>(std::max<int64_t>(1, warmup_steps));
  if (name == "constant") return 1.0;
  const double span = static_cast<double>(std::max<int64_t>(1, total_steps - warmup_steps));
  if (name == "linear") return std::max(0.0, static_cast<double>(total_steps - step) / span);
  if (name == "cosine") {
    const double progress = static_cast<double>(step - warmup_steps) / span;
    return std::max(0.0, 0.5 * (1.0 + std::cos(std::numbers::pi * progress)));
  }
  fail("train.schedule: expected one of ", join(schedule_names()), ", found '", name, "'",
       did_you_mean(name, schedule_names()));
}

int64_t warmup_steps(double warmup, int64_t total_steps) {
  const double steps = warmup < 1.0 ? std::ceil(warmup * static_cast<double>(total_steps)) : warmup;
  check(steps <= static_cast<double>(total_steps), "train.warmup: ", warmup, " steps are more than the ", total_steps,
        " steps of the run; shorten it or give a share below 1");
  return static_cast<int64_t>(steps);
}

}  // namespace deeplora
