// What a run tells while it goes on: metrics.jsonl, TensorBoard, and the terminal.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>

#include "core/progress.h"
#include "tasks/task.h"
#include "train/event_writer.h"
#include "train/run_folder.h"

namespace deeplora {

/// One step's numbers. `row` says whether metrics.jsonl and TensorBoard take them.
struct StepReport {
  int64_t step = 0;
  double epoch = 0;      ///< epochs done, a fraction within one
  double loss = 0;       ///< mean since the last row
  double lr = 0;         ///< base learning rate of the step
  double grad_norm = 0;  ///< before clipping
  double samples_per_second = 0;
  double seconds = 0;  ///< of the run so far
};

class TrainLog {
 public:
  struct Setup {
    std::string label = "train";
    bool progress = true;
    int64_t total_steps = 0;
    int64_t first_step = 0;  ///< steps done before this session
    bool resumed = false;
  };
  TrainLog(RunFolder& folder, const Setup& setup);

  /// After every step; `row` adds a line to metrics.jsonl and a point to the curves.
  void step(const StepReport& report, bool row);
  /// After an evaluation: {"step","eval":{...}} (NaN becomes null) and dev/<metric>.
  void evaluated(int64_t step, const Scores& scores);
  /// A line on standard error.
  void note(const std::string& text);
  /// Ends the bar; metrics and events are on the disk afterwards.
  void finish();

 private:
  RunFolder& folder_;
  EventWriter events_;
  std::unique_ptr<Progress> progress_;
  ProgressState shown_;
};

}  // namespace deeplora
