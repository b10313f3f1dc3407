#include "train/train_run.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "core/system.h"
#include "train/gradients.h"

namespace deeplora {
namespace {

OptimizerOptions optimizer_options(const TrainConfig& config) {
  return {.name = config.optimizer,
          .beta1 = config.beta1,
          .beta2 = config.beta2,
          .eps = config.eps,
          .weight_decay = config.weight_decay,
          .momentum = config.momentum};
}

bool better(const Scores& scores, const std::optional<TrainResult::Evaluation>& best) {
  if (std::isnan(scores.headline())) return false;
  if (!best) return true;
  const double now = scores.headline(), before = best->scores.headline();
  return scores.higher_is_better ? now > before : now < before;
}

/// The first steps at which a working method has moved every group: a factor that starts at zero holds its
/// partner's gradient at zero for one step.
constexpr int64_t kStepsToMove = 2;

}  // namespace

TrainRun::TrainRun(const Trainer::Setup& setup, std::span<const Example> train, std::span<const Example> dev,
                   RunFolder& folder)
    : setup_(setup),
      config_(setup.config),
      train_(train),
      dev_(dev),
      folder_(folder),
      order_(setup.config, train, setup.task.rows_of_batch(setup.config.batch_size)),
      schedule_{setup.config.schedule, order_.total_steps(), warmup_steps(setup.config.warmup, order_.total_steps())},
      optimizer_(optimizer_options(setup.config), setup.groups) {}

TrainResult TrainRun::run(bool resume) {
  begin(resume);
  try {
    return loop();
  } catch (const PeerLost& e) {
    give_up(e);
  }
}

TrainResult TrainRun::loop() {
  for (;;) {
    if (state_.evaluation_due) {
      stop_if_requested();
      evaluate();
    }
    if (save_due()) save();
    if (finished()) return finish();
    stop_if_requested();
    train_step();
  }
}

void TrainRun::train_step() {
  const double began = clock_seconds();
  const double lr = config_.lr.value() * schedule_.factor(state_.step);
  const auto micro_batches = next_micro_batches();
  bool told = false;
  const auto tell_once = [&] {
    if (told || !setup_.stop || !setup_.stop->requested()) return;
    told = true;
    note(cat("stopping: step ", state_.step + 1, " is finished and saved first"));
  };
  if (setup_.group)  // so that no process's generators have to be saved
    torch::manual_seed(
        stream_seed(static_cast<uint64_t>(config_.seed), cat("dropout/", state_.step, "/", setup_.group->rank())));
  StepLoss loss = accumulate_gradients(
      {setup_.model, setup_.task, setup_.device, setup_.bf16, tell_once, setup_.group, config_.batch_size}, train_,
      micro_batches);
  if (step_sum_) stop_agreed_ = step_sum_->reduce(loss, setup_.stop && setup_.stop->requested());
  const double norm = gradient_norm(setup_.groups);
  check_finite(loss, norm);
  if (!connected_) {
    const auto without = check_connected(setup_.groups);
    if (!without.empty())
      note(cat("warning: the loss does not depend on ", join(without, ", ", 6), "; they stay as they are"));
    connected_ = true;
  }
  if (config_.clip > 0) clip_gradients(setup_.groups, norm, config_.clip);
  optimizer_.set_learning_rate(lr);
  optimizer_.step();
  optimizer_.zero_grad();
  if (lr > 0) ++state_.moving_steps;
  advance(loss, micro_batches.size(), clock_seconds() - began);
  check_movement();
  report_step(lr, norm);
}

const std::vector<MicroBatch>& TrainRun::batches_of_epoch() {
  if (loaded_epoch_ != state_.epoch) {
    epoch_batches_ = order_.epoch(state_.epoch);
    loaded_epoch_ = state_.epoch;
  }
  return epoch_batches_;
}

std::span<const MicroBatch> TrainRun::next_micro_batches() {
  const std::span<const MicroBatch> all = batches_of_epoch();
  const size_t from = static_cast<size_t>(state_.position);
  return all.subspan(from, std::min(static_cast<size_t>(config_.accumulate), all.size() - from));
}

void TrainRun::advance(const StepLoss& loss, size_t micro_batches, double seconds) {
  if (state_.step == 0) state_.seconds_to_first_step = process_seconds();
  ++state_.step;
  state_.position += static_cast<int64_t>(micro_batches);
  if (state_.position >= static_cast<int64_t>(epoch_batches_.size())) {
    ++state_.epoch;
    state_.position = 0;
  }
  state_.samples += loss.samples;
  state_.last_loss = loss.mean();
  state_.window_loss += loss.sum;
  state_.window_count += loss.count;
  state_.training_seconds += seconds;
  window_seconds_ += seconds;
  window_samples_ += loss.samples;
  state_.evaluation_due = !dev_.empty() && milestone();
}

void TrainRun::report_step(double lr, double norm) {
  const double batches = static_cast<double>(std::max<size_t>(1, epoch_batches_.size()));
  const bool row = state_.step % config_.log_every == 0 || state_.step == order_.total_steps();
  const double loss = state_.window_count > 0 ? state_.window_loss / state_.window_count : 0.0;
  if (log_)
    log_->step({.step = state_.step,
                .epoch = static_cast<double>(state_.epoch) + static_cast<double>(state_.position) / batches,
                .loss = loss,
                .lr = lr,
                .grad_norm = norm,
                .samples_per_second = static_cast<double>(window_samples_) / std::max(window_seconds_, 1e-9),
                .seconds = seconds_so_far()},
               row);
  if (!row) return;
  state_.window_loss = 0;
  state_.window_count = 0;
  window_seconds_ = 0;
  window_samples_ = 0;
}

void TrainRun::check_finite(const StepLoss& loss, double norm) const {
  if (loss.bad_rows.empty() && std::isfinite(norm)) return;
  const std::string value = first_non_finite(setup_.groups);
  throw Diverged(cat(loss.bad_rows.empty() ? cat("the gradient's norm is ", norm) : cat("the loss is ", loss.sum),
                     " at step ", state_.step + 1, loss.bad_rows.empty() ? "" : cat(" (rows ", loss.bad_rows, ")"),
                     loss.bad_state.empty() ? "" : cat("; first state that is not finite: ", loss.bad_state),
                     value.empty() ? cat("; first parameter concerned: ", offending_parameter(setup_.groups))
                                   : cat("; already not finite: ", value),
                     "; last good checkpoint: ", last_good_checkpoint(), "; lower train.lr",
                     config_.clip > 0 ? "" : ", set train.clip: 1",
                     setup_.bf16 ? ", or use model.precision: float32" : ""));
}

void TrainRun::check_parameters() const {
  const std::string bad = first_non_finite(setup_.groups);
  if (!bad.empty())
    throw Diverged(cat("after step ", state_.step, " ", bad,
                       " holds a value that is not finite; nothing is saved of it; last good checkpoint: ",
                       last_good_checkpoint(), "; lower train.lr"));
}

std::string TrainRun::last_good_checkpoint() const {
  return last_saved_step_ >= 0 ? checkpoint_path(folder_, last_saved_step_).string() : "none";
}

void TrainRun::check_movement() {
  if (movement_->passed()) return;
  // Within a warm-up the first learning rates may be too small on purpose.
  const bool due = state_.moving_steps >= kStepsToMove && state_.step > schedule_.warmup_steps;
  if (due) movement_->check_moved(setup_.groups, state_.moving_steps, *config_.lr);
}

void TrainRun::evaluate() {
  check_parameters();  // before a score or an adapter file comes of them
  const torch::NoGradGuard no_grad;
  if (setup_.group) broadcast_parameters(*setup_.group, setup_.groups);  // machines that round differently drift apart
  setup_.model.eval();
  Scores scores = setup_.task.evaluate(
      setup_.model, dev_,
      {.batch_size = config_.eval_batch_size, .device = setup_.device, .bf16 = setup_.bf16, .group = setup_.group});
  setup_.model.train();
  if (setup_.group) broadcast_scores(*setup_.group, scores);
  state_.evaluation_due = false;
  state_.last = {state_.step, scores};
  if (log_) log_->evaluated(state_.step, scores);
  if (std::isnan(scores.headline()))
    note(cat("warning: ", scores.headline_name(), " is undefined at step ", state_.step, " (constant predictions?)"));
  if (config_.keep == "last" || better(scores, state_.best)) {
    state_.best = state_.last;
    state_.evaluations_since_best = 0;
    save_adapter_to(folder_.adapter_file());
  } else {
    ++state_.evaluations_since_best;
  }
}

bool TrainRun::stopped_early() const {
  return config_.early_stopping > 0 && state_.evaluations_since_best >= config_.early_stopping;
}

bool TrainRun::milestone() const {
  if (state_.step == order_.total_steps()) return true;
  return config_.eval_every ? state_.step % *config_.eval_every == 0 : state_.position == 0;
}

bool TrainRun::is_saved() const {
  return state_.step == last_saved_step_ && state_.evaluation_due == saved_before_evaluation_;
}

bool TrainRun::save_due() const {
  if (is_saved() || state_.step == 0) return false;
  return finished() || (config_.save_every ? state_.step % *config_.save_every == 0 : milestone());
}

bool TrainRun::stop_wanted() const { return setup_.group ? stop_agreed_ : setup_.stop && setup_.stop->requested(); }

void TrainRun::note(const std::string& text) {
  if (log_) log_->note(text);
}

void TrainRun::stop_if_requested() {
  if (!stop_wanted()) return;
  save();
  if (log_) log_->finish();
  const int signal = setup_.stop ? setup_.stop->signal_number() : 0;
  throw Interrupted(cat(
      "stopped by ", signal != 0 ? cat("signal ", signal) : std::string("a signal to another process"), " after step ",
      state_.step, " of ", order_.total_steps(), "; saved in ", folder_.path().string(), ", continue with --resume"));
}

TrainResult TrainRun::finish() {
  setup_.model.eval();
  if (!movement_->passed() && state_.moving_steps >= kStepsToMove)
    movement_->check_moved(setup_.groups, state_.moving_steps, *config_.lr);
  save_adapter_to(folder_.last_adapter_file());
  if (!state_.best) {
    if (!dev_.empty())
      note(cat("warning: ", state_.last->scores.headline_name(),
               " was never defined; the last state is kept as the best"));
    save_adapter_to(folder_.adapter_file());
  }
  if (log_) log_->finish();
  TrainResult out;
  out.best = state_.best;
  out.last = state_.last;
  out.steps = state_.step;
  out.epochs_started = state_.epoch + (state_.position > 0 ? 1 : 0);
  out.seconds = seconds_so_far();
  out.samples_per_second = static_cast<double>(state_.samples) / std::max(state_.training_seconds, 1e-9);
  out.seconds_to_first_step = state_.seconds_to_first_step;
  out.last_loss = state_.last_loss;
  if (step_sum_) out.bytes_per_step = step_sum_->bytes();
  out.stopped_early = stopped_early() && state_.step < order_.total_steps();
  return out;
}

}  // namespace deeplora
