#include <ATen/Context.h>
#include <torch/torch.h>

#include <algorithm>
#include <mutex>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/scratch_folder.h"
#include "core/system.h"
#include "train/gradients.h"
#include "train/run_identity.h"
#include "train/train_run.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

std::vector<NamedTensor> generator_states(torch::Device device) {
  std::vector<NamedTensor> out;
  for (auto& [name, generator] : default_generators(device)) {
    const std::scoped_lock lock(generator.mutex());
    out.push_back({name, generator.get_state()});
  }
  return out;
}

void restore_generators(const std::vector<NamedTensor>& states, torch::Device device) {
  for (auto& [name, generator] : default_generators(device)) {
    const std::string& wanted = name;
    const auto found =
        std::find_if(states.begin(), states.end(), [&](const NamedTensor& s) { return s.name == wanted; });
    check(found != states.end(), "the checkpoint has no generator state of the ", name);
    const std::scoped_lock lock(generator.mutex());
    generator.set_state(found->value);
  }
}

}  // namespace

void TrainRun::begin(bool resume) {
  session_began_ = clock_seconds();
  use_threads(config_.threads);
  check(config_.early_stopping == 0 || !dev_.empty(),
        "train.early_stopping needs evaluation data; give data.dev or set it to 0");
  if (leads()) folder_.lock();
  optimizer_.zero_grad();
  setup_.model.train();
  if (setup_.group) {
    check_same_run(*setup_.group, identity());
    step_sum_.emplace(*setup_.group, setup_.groups);
  }
  std::optional<ScratchFolder> copy;  // of rank 0's checkpoint
  if (resume && !leads()) copy.emplace("checkpoint");
  const auto checkpoint = resume ? find_checkpoint(copy ? copy->path() : fs::path()) : std::nullopt;
  if (checkpoint) resume_from(*checkpoint);
  else begin_afresh();
  if (setup_.accepted) setup_.accepted();
  if (!leads()) return;
  log_.emplace(folder_, TrainLog::Setup{.label = setup_.label,
                                        .progress = setup_.progress,
                                        .total_steps = order_.total_steps(),
                                        .first_step = state_.step,
                                        .resumed = resume});
  if (resume) note(checkpoint ? cat("resumed after step ", state_.step) : "no usable checkpoint: starting over");
}

void TrainRun::begin_afresh() {
  torch::manual_seed(stream_seed(static_cast<uint64_t>(config_.seed), "dropout"));
  if (leads()) folder_.truncate_metrics(0);
  movement_.emplace(setup_.groups);
  state_.evaluation_due = order_.total_steps() == 0 && !dev_.empty();
}

void TrainRun::resume_from(const fs::path& folder) {
  const Checkpoint checkpoint = read_checkpoint(folder);
  state_ = checkpoint.state;
  try {
    check_same_identity(checkpoint.identity, identity());
    restore_parameters(checkpoint.parameters, setup_.groups);
  } catch (const Error& e) {
    throw CheckpointRefused(e.what());
  }
  optimizer_.restore(checkpoint.optimizer);
  restore_generators(checkpoint.generators, setup_.device);
  movement_.emplace(checkpoint.movement);
  if (leads()) {
    folder_.truncate_metrics(state_.metrics_bytes);
    restore_best_adapter(folder, folder_);
  }
  seconds_before_ = state_.seconds;
  last_saved_step_ = state_.step;
  saved_before_evaluation_ = state_.evaluation_due;
}

void TrainRun::save() {
  if (is_saved()) return;
  check_parameters();
  if (leads()) write_state();
  if (setup_.group) setup_.group->barrier();
  last_saved_step_ = state_.step;
  saved_before_evaluation_ = state_.evaluation_due;
}

void TrainRun::write_state() {
  if (folder_.metrics_size() > 0) sync_path(folder_.metrics_file());
  state_.metrics_bytes = folder_.metrics_size();
  state_.seconds = seconds_so_far();
  write_checkpoint(folder_,
                   {.state = state_,
                    .identity = identity(),
                    .movement = movement_->saved(),
                    .parameters = copy_parameters(setup_.groups),
                    .optimizer = optimizer_.state(),
                    .generators = generator_states(setup_.device)},
                   config_.keep_checkpoints);
}

void TrainRun::give_up(const PeerLost& reason) {
  std::string saved;
  if (leads() && state_.step > 0 && first_non_finite(setup_.groups).empty()) {
    if (!is_saved()) write_state();
    saved = cat("; saved after step ", state_.step, " of ", order_.total_steps(), " in ", folder_.path().string(),
                ": continue with --resume and any number of processes");
  } else if (!leads()) {
    saved = "; continue from rank 0's newest checkpoint with --resume and any number of processes";
  }
  if (log_) log_->finish();
  throw PeerLost(cat(reason.what(), saved));
}

std::optional<fs::path> TrainRun::find_checkpoint(const fs::path& scratch) {
  return setup_.group ? share_newest_checkpoint(*setup_.group, folder_, scratch) : folder_.newest_checkpoint();
}

void TrainRun::save_adapter_to(const fs::path& file) {
  if (leads()) write_file_atomically(file, setup_.save_adapter);
}

nlohmann::ordered_json TrainRun::identity() {
  if (identity_.is_null()) identity_ = run_identity(setup_, order_, train_, dev_);
  nlohmann::ordered_json out = identity_;
  if (!train_.empty()) add_order(out, batches_of_epoch(), state_.epoch);
  return out;
}

double TrainRun::seconds_so_far() const { return seconds_before_ + clock_seconds() - session_began_; }

}  // namespace deeplora
