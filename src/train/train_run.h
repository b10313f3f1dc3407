// One call of Trainer::run: the loop and what it keeps between steps.
#pragma once

#include <memory>
#include <optional>
#include <span>
#include <string>

#include "train/checkpoint.h"
#include "train/data_order.h"
#include "train/distributed.h"
#include "train/movement.h"
#include "train/optimizers.h"
#include "train/schedule.h"
#include "train/train_log.h"
#include "train/train_state.h"
#include "train/train_step.h"

namespace deeplora {

class TrainRun {
 public:
  TrainRun(const Trainer::Setup& setup, std::span<const Example> train, std::span<const Example> dev,
           RunFolder& folder);
  TrainResult run(bool resume);

 private:
  // train_run.cpp: the loop.
  TrainResult loop();
  /// Rank 0, or a process alone: reads and writes the folder, and speaks.
  bool leads() const { return !setup_.group || setup_.group->leads(); }
  bool stop_wanted() const;
  void note(const std::string& text);
  void train_step();
  const std::vector<MicroBatch>& batches_of_epoch();
  std::span<const MicroBatch> next_micro_batches();
  void advance(const StepLoss& loss, size_t micro_batches, double seconds);
  void report_step(double lr, double norm);
  void check_finite(const StepLoss& loss, double norm) const;
  /// Throws Diverged when a trained value is NaN or infinite.
  void check_parameters() const;
  std::string last_good_checkpoint() const;
  void check_movement();
  void evaluate();
  bool stopped_early() const;
  bool finished() const { return state_.step >= order_.total_steps() || stopped_early(); }
  bool milestone() const;
  bool is_saved() const;
  bool save_due() const;
  void stop_if_requested();
  TrainResult finish();

  // train_run_state.cpp: beginning, saving and going on.
  void begin(bool resume);
  void begin_afresh();
  void resume_from(const std::filesystem::path& folder);
  /// Writes a checkpoint of the last step, unless there is one; the others wait for rank 0.
  void save();
  void write_state();
  /// What is left to do when another process is gone: the message, after rank 0 has saved.
  [[noreturn]] void give_up(const PeerLost& reason);
  std::optional<std::filesystem::path> find_checkpoint(const std::filesystem::path& scratch);
  void save_adapter_to(const std::filesystem::path& file);
  /// What a checkpoint of this state must agree with.
  nlohmann::ordered_json identity();
  double seconds_so_far() const;

  const Trainer::Setup& setup_;
  const TrainConfig& config_;
  std::span<const Example> train_, dev_;
  RunFolder& folder_;
  DataOrder order_;
  Schedule schedule_;
  GroupOptimizer optimizer_;
  TrainState state_;
  std::optional<MovementGuard> movement_;
  std::optional<TrainLog> log_;      ///< of the leader
  std::optional<StepSum> step_sum_;  ///< with a group
  bool stop_agreed_ = false;         ///< a process of the group was asked to stop
  nlohmann::ordered_json identity_;  ///< run_identity(), the same for the whole run
  std::vector<MicroBatch> epoch_batches_;
  int64_t loaded_epoch_ = -1;  ///< epoch of epoch_batches_
  int64_t last_saved_step_ = -1;
  bool saved_before_evaluation_ = false;  ///< that checkpoint leaves the evaluation of its step to do
  bool connected_ = false;                ///< gradients reached every group in this session
  double session_began_ = 0, seconds_before_ = 0;
  double window_seconds_ = 0;  ///< training time since the last row of metrics.jsonl
  int64_t window_samples_ = 0;
};

}  // namespace deeplora
