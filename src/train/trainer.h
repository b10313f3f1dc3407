// The loop: batches, loss, backward, step, evaluate, save. Knows models and tasks only by their interfaces,
// and parameters only as groups, so every method and baseline runs through the same code.
#pragma once

#include <nlohmann/json.hpp>

#include <functional>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/optimizer.h"
#include "core/system.h"
#include "tasks/task.h"
#include "train/run_folder.h"

namespace deeplora {

/// The `train` section. A resumed run may change threads, eval_batch_size, log_every, save_every,
/// keep_checkpoints and distributed_timeout; any other difference is an Error.
struct TrainConfig {
  std::string optimizer = "adamw";  ///< adamw, adam, sgd
  std::optional<double> lr;         ///< peak learning rate; absent: the method's default, which the caller fills in
  bool search_lr = false;           ///< train.lr: auto; lr is then where the caller's search begins, and what it found
  std::optional<double>
      head_lr;  ///< peak learning rate of the head (same schedule); absent: 5e-3 for one that the run
                ///< makes, lr for the model's own. The caller makes it the lr_scale of the head's group
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0, momentum = 0.9;
  std::string schedule = "linear";  ///< constant, linear, cosine (after warm-up)
  double warmup = 0.0;              ///< below 1 a share of all steps, else a number of steps
  int64_t batch_size = 16, accumulate = 1;
  std::optional<int64_t> steps;       ///< optimizer steps; 0 only evaluates
  double epochs = 3;                  ///< used when steps is absent
  double clip = 1.0;                  ///< largest global gradient norm; 0 switches clipping off
  std::optional<int64_t> eval_every;  ///< steps between evaluations on dev; absent: once per epoch
  int64_t eval_batch_size = 64;
  std::string keep = "best";          ///< best: the state with the best score on dev; last: the final one
  int64_t early_stopping = 0;         ///< evaluations without improvement before the run ends; 0 never
  std::optional<int64_t> save_every;  ///< steps between checkpoints; absent: at every evaluation
  int64_t keep_checkpoints = 2;
  int64_t log_every = 10;
  bool shuffle = true;          ///< false: rows in the order of the file, every epoch the same
  bool group_by_length = true;  ///< never without shuffle
  bool gradient_checkpointing = false;
  bool contrastive = false;  ///< a classification's rows tune the encoder in pairs; its head is fitted, not trained
  int64_t seed = 1;
  int64_t threads = 0;               ///< 0: those of default_threads()
  double distributed_timeout = 600;  ///< seconds that processes of one run wait for each other

  /// Reads every key of `train`, recording mistakes on the configuration.
  static TrainConfig read(const Config& train);
};

/// What finetune reports; metrics.jsonl holds the course of it.
struct TrainResult {
  using Evaluation = StepScores;
  std::optional<Evaluation> best, last;  ///< on dev; absent without a dev set
  int64_t steps = 0, epochs_started = 0;
  double seconds = 0;                ///< of training, evaluations included, all sessions of a resumed run
  double samples_per_second = 0;     ///< training only, evaluations and checkpoints left out
  double seconds_to_first_step = 0;  ///< from process start to the end of the first optimizer step
  double last_loss = 0;
  bool stopped_early = false;
  int64_t bytes_per_step = 0;  ///< what each process gives into the sum over processes; 0 for a process alone
};

class Trainer {
 public:
  struct Setup {
    LanguageModel& model;
    const Task& task;
    std::vector<ParamGroup> groups;  ///< everything that is trained
    TrainConfig config;
    torch::Device device = torch::kCPU;
    bool bf16 = false;  ///< autocast
    /// Writes the trained state to a file: the run's adapter.safetensors whenever dev improves (at the end
    /// without dev), last.safetensors at the end.
    std::function<void(const std::filesystem::path&)> save_adapter;
    const StopSignal* stop = nullptr;
    /// What else decides the course of the run ("adapter.rank": 8, "model.path": ...). Kept in every
    /// checkpoint; a run that is resumed with other values is refused with the differences named.
    nlohmann::ordered_json identity = nlohmann::ordered_json::object();
    /// Called by run() once nothing speaks against this run any more, before its first step: a resumed run is refused
    /// before. May be empty.
    std::function<void()> accepted{};
    bool progress = true;         ///< a bar or lines on standard error
    std::string label = "train";  ///< first word of them
    /// The processes that share the work of every step and evaluation; null: this one does all. They must agree
    /// in everything else. Only rank 0 reads and writes the folder, and speaks.
    ProcessGroup* group = nullptr;
  };
  explicit Trainer(Setup setup);

  /// Trains on `train`, scoring `dev` (may be empty). With resume set, goes on exactly where the newest whole
  /// checkpoint was taken: same bits on CPU; without a usable checkpoint it starts over. Seeds LibTorch's
  /// default generators, and locks the folder. The model is in evaluation mode afterwards, with the last
  /// weights, not the best. Throws Interrupted after saving when stopped by a signal; Error on a NaN loss or
  /// gradient (step, parameter, last good checkpoint), when a group's tensors did not move, and when another
  /// configuration or other data is to go on with a checkpoint. With a group, the state of a step is a function
  /// of the configuration alone up to rounding (dropout apart, whose masks also depend on the number of
  /// processes); PeerLost when another process is gone, after rank 0 saved the last whole step.
  TrainResult run(std::span<const Example> train, std::span<const Example> dev, RunFolder& folder, bool resume);

 private:
  Setup setup_;
};

}  // namespace deeplora
