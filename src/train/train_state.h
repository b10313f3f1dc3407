// Everything a run knows between two steps, apart from tensors; kept in a checkpoint's state.json. Free of LibTorch.
#pragma once

#include <cstdint>
#include <optional>

#include "core/json_file.h"
#include "tasks/scores.h"

namespace deeplora {

struct TrainState {
  int64_t step = 0;             ///< optimizer steps done
  int64_t epoch = 0;            ///< the epoch at hand, from 0
  int64_t position = 0;         ///< micro-batches of this epoch that are done
  int64_t samples = 0;          ///< rows trained on, all epochs
  int64_t moving_steps = 0;     ///< steps with a learning rate above 0
  bool evaluation_due = false;  ///< an evaluation belongs to this step and was not made yet
  int64_t evaluations_since_best = 0;
  std::optional<StepScores> best, last;
  double seconds = 0;           ///< of all sessions, evaluations included
  double training_seconds = 0;  ///< of all sessions, without evaluations and checkpoints
  double seconds_to_first_step = 0;
  double last_loss = 0;
  double window_loss = 0;      ///< loss sum since the last row of metrics.jsonl
  double window_count = 0;     ///< items in it
  uint64_t metrics_bytes = 0;  ///< size of metrics.jsonl
};

/// Floating-point numbers survive bit for bit, NaN and infinities included (as texts).
nlohmann::ordered_json to_json(const TrainState& state);
/// Throws Error when something is missing, of the wrong type, or a count below 0.
TrainState train_state_from(const OrderedJsonFile& json);

}  // namespace deeplora
