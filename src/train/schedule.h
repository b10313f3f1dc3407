// The course of the learning rate over a run, as a factor of the peak.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace deeplora {

/// Names that Schedule takes: constant, linear, cosine.
std::vector<std::string> schedule_names();

/// Linear rise from 0 over `warmup_steps`, then constant, or a linear or half-cosine fall that reaches 0
/// after `total_steps`. The formulas of transformers' get_{constant,linear,cosine}_schedule_with_warmup: the
/// first step of a warm-up has factor 0.
struct Schedule {
  std::string name = "linear";
  int64_t total_steps = 0;
  int64_t warmup_steps = 0;

  /// Factor in [0, 1] of the step with this number, counted from 0. Throws Error for an unknown name.
  double factor(int64_t step) const;
};

/// Steps of a warm-up: a share of all steps (rounded up) below 1, else a number of steps. Throws Error when
/// it is longer than the run.
int64_t warmup_steps(double warmup, int64_t total_steps);

}  // namespace deeplora
