#include "completion/fit.h"

#include <torch/torch.h>

#include <cmath>

#include "core/error.h"
#include "core/files.h"
#include "core/parallel.h"
#include "train/checkpoint.h"
#include "train/gradients.h"
#include "train/train_log.h"

namespace deeplora {
namespace {

/// Every factor, the frozen ones included: what a checkpoint holds of the chain.
std::vector<ParamGroup> all_factors(const FactorChainImpl& chain) {
  std::vector<ParamGroup> groups(1);
  for (const auto& factor : chain.factors()) groups[0].params.push_back({factor.name, factor.value});
  return groups;
}

bool better(const Scores& now, const std::optional<StepScores>& best) {
  if (std::isnan(now.headline())) return false;
  if (!best) return true;
  return now.higher_is_better ? now.headline() > best->scores.headline() : now.headline() < best->scores.headline();
}

class FitRun {
 public:
  FitRun(const FitSetup& setup, RunFolder& folder) : setup_(setup), config_(setup.config), folder_(folder) {}

  FitResult run(bool resume) {
    begin(resume);
    for (;;) {
      if (state_.evaluation_due) evaluate();
      if (!why_finished().empty()) return finish();
      if (save_due()) save();
      stop_if_requested();
      iterate();
    }
  }

 private:
  void begin(bool resume) {
    began_ = clock_seconds();
    folder_.lock();
    stepper_ = make_stepper(setup_.problem, setup_.chain, config_, setup_.step_length);
    lr_ = config_.optimizer == "auto" ? 0 : learning_rate(config_, setup_.problem, setup_.step_length);
    const auto checkpoint = resume ? folder_.newest_checkpoint() : std::nullopt;
    if (checkpoint) {
      resume_from(*checkpoint);
    } else {
      folder_.truncate_metrics(0);
      state_.evaluation_due = true;
    }
    log_.emplace(folder_, TrainLog::Setup{.label = setup_.label,
                                          .progress = setup_.progress,
                                          .total_steps = config_.steps,
                                          .first_step = state_.step,
                                          .resumed = resume});
    if (resume)
      log_->note(checkpoint ? cat("resumed after iteration ", state_.step) : "no usable checkpoint: starting over");
  }

  void resume_from(const std::filesystem::path& path) {
    const Checkpoint checkpoint = read_checkpoint(path);
    check_same_identity(checkpoint.identity, setup_.identity);
    restore_parameters(checkpoint.parameters, all_factors(*setup_.chain));
    stepper_->restore(checkpoint.optimizer);
    state_ = checkpoint.state;
    seconds_before_ = state_.seconds;
    last_saved_ = state_.step;
    folder_.truncate_metrics(state_.metrics_bytes);
    restore_best_adapter(path, folder_);
  }

  void iterate() {
    const double began = clock_seconds();
    state_.last_loss = stepper_->step(state_.step);
    ++state_.step;
    state_.training_seconds += clock_seconds() - began;
    if (!std::isfinite(state_.last_loss)) fail_on_loss();
    state_.evaluation_due =
        state_.step % config_.eval_every == 0 || state_.step == config_.steps || stepper_->converged();
    report();
  }

  void report() {
    const bool row = state_.step % config_.log_every == 0 || state_.evaluation_due;
    const double now = clock_seconds();
    if (!row && now - shown_ < 0.1) return;
    shown_ = now;
    log_->step({.step = state_.step,
                .epoch = static_cast<double>(state_.step),
                .loss = state_.last_loss,
                .lr = lr_,
                .grad_norm = 0,
                .samples_per_second =
                    static_cast<double>(state_.step) * residuals_per_step() / std::max(state_.training_seconds, 1e-9),
                .seconds = state_.training_seconds},
               row);
  }

  double residuals_per_step() const {
    return static_cast<double>(config_.batch > 0 ? std::min(config_.batch, setup_.problem.count)
                                                 : setup_.problem.count);
  }

  [[noreturn]] void fail_on_loss() {
    log_->finish();
    const std::string saved = last_saved_ >= 0 ? checkpoint_path(folder_, last_saved_).string() : "none";
    throw Diverged(
        cat("the loss is ", state_.last_loss, " at iteration ", state_.step, "; last good checkpoint: ", saved,
            config_.optimizer == "auto" ? "" : cat("; lower completion.lr (now ", lr_, ") or use optimizer: auto")));
  }

  void evaluate() {
    torch::NoGradGuard no_grad;
    state_.evaluation_due = false;
    if (setup_.track) {
      stepper_->settle();
      folder_.append_metrics({{"step", state_.step}, {"track", setup_.track(*setup_.chain)}});
    }
    if (!setup_.evaluate) return;
    const auto [b, a_t] = stepper_->halves();
    const Scores scores = setup_.evaluate(b, a_t);
    state_.last = {state_.step, scores};
    log_->evaluated(state_.step, scores);
    if (!setup_.keep_best) return;
    if (better(scores, state_.best)) {
      state_.best = state_.last;
      state_.evaluations_since_best = 0;
      save_factors(folder_.adapter_file());
    } else {
      ++state_.evaluations_since_best;
    }
  }

  void save_factors(const std::filesystem::path& file) {
    stepper_->settle();
    if (setup_.save_factors) write_file_atomically(file, setup_.save_factors);
  }

  /// The error that the tolerance is about: the headline of the last evaluation, else the loss.
  bool within_tolerance() const {
    if (config_.tolerance <= 0) return false;
    if (setup_.evaluate)
      return state_.last && state_.last->step == state_.step && state_.last->scores.headline() <= config_.tolerance;
    return state_.step > 0 && state_.last_loss <= config_.tolerance;
  }

  std::string why_finished() const {
    if (within_tolerance()) return "tolerance";
    if (config_.early_stopping > 0 && state_.evaluations_since_best >= config_.early_stopping) return "early-stopping";
    if (stepper_->converged()) return "converged";
    return state_.step >= config_.steps ? "steps" : "";
  }

  bool save_due() const {
    return config_.save_every && state_.step > 0 && state_.step % *config_.save_every == 0 &&
           state_.step != last_saved_;
  }

  void save() {
    if (state_.step == last_saved_) return;
    stepper_->settle();
    const auto groups = all_factors(*setup_.chain);
    const std::string bad = first_non_finite(groups);
    if (!bad.empty())
      throw Diverged(
          cat("after iteration ", state_.step, " ", bad, " holds a value that is not finite; nothing is saved"));
    if (folder_.metrics_size() > 0) sync_path(folder_.metrics_file());
    state_.metrics_bytes = folder_.metrics_size();
    state_.seconds = seconds_so_far();
    write_checkpoint(folder_,
                     {.state = state_,
                      .identity = setup_.identity,
                      .movement = {},
                      .parameters = copy_parameters(groups),
                      .optimizer = stepper_->state(),
                      .generators = {}},
                     config_.keep_checkpoints);
    last_saved_ = state_.step;
  }

  void stop_if_requested() {
    if (!setup_.stop || !setup_.stop->requested()) return;
    save();
    log_->finish();
    throw Interrupted(cat("stopped by signal ", setup_.stop->signal_number(), " after iteration ", state_.step,
                          "; saved in ", folder_.path().string(), ", continue with --resume"));
  }

  double seconds_so_far() const { return seconds_before_ + clock_seconds() - began_; }

  FitResult finish() {
    save();
    save_factors(folder_.last_adapter_file());
    if (!state_.best) save_factors(folder_.adapter_file());
    log_->finish();
    FitResult out{.iterations = state_.step,
                  .seconds = seconds_so_far(),
                  .training_seconds = state_.training_seconds,
                  .loss = state_.last_loss,
                  .last = {},
                  .best = {},
                  .best_iteration = 0,
                  .stopped = why_finished()};
    if (state_.last) out.last = state_.last->scores;
    if (state_.best) {
      out.best = state_.best->scores;
      out.best_iteration = state_.best->step;
    }
    return out;
  }

  const FitSetup& setup_;
  const FitConfig& config_;
  RunFolder& folder_;
  std::unique_ptr<Stepper> stepper_;
  TrainState state_;
  std::optional<TrainLog> log_;
  double lr_ = 0, began_ = 0, seconds_before_ = 0, shown_ = 0;
  int64_t last_saved_ = -1;
};

}  // namespace

FitResult fit(const FitSetup& setup, RunFolder& folder, bool resume) {
  use_threads(setup.config.threads);
  return FitRun(setup, folder).run(resume);
}

}  // namespace deeplora
