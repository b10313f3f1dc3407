#include "train/train_log.h"

#include "core/log.h"

namespace deeplora {
namespace {

std::optional<int64_t> first_event_step(const TrainLog::Setup& setup) {
  if (!setup.resumed) return std::nullopt;
  return setup.first_step + 1;
}

}  // namespace

TrainLog::TrainLog(RunFolder& folder, const Setup& setup)
    : folder_(folder), events_(folder.path(), first_event_step(setup)) {
  if (setup.progress && setup.total_steps > 0)
    progress_ = std::make_unique<Progress>(
        Progress::Setup{.label = setup.label, .total = setup.total_steps, .first = setup.first_step});
}

void TrainLog::step(const StepReport& report, bool row) {
  shown_.step = report.step;
  shown_.loss = report.loss;
  shown_.samples_per_second = report.samples_per_second;
  if (progress_) progress_->update(shown_);
  if (!row) return;
  folder_.append_metrics({{"step", report.step},
                          {"epoch", report.epoch},
                          {"loss", report.loss},
                          {"lr", report.lr},
                          {"grad_norm", report.grad_norm},
                          {"samples_per_second", report.samples_per_second},
                          {"seconds", report.seconds}});
  events_.scalar("train/loss", report.loss, report.step);
  events_.scalar("train/lr", report.lr, report.step);
  events_.scalar("train/grad_norm", report.grad_norm, report.step);
}

void TrainLog::evaluated(int64_t step, const Scores& scores) {
  for (const auto& [name, value] : scores.values) events_.scalar("dev/" + name, value, step);
  folder_.append_metrics({{"step", step}, {"eval", scores.json()}});
  shown_.step = step;
  shown_.metric_name = "dev " + scores.headline_name();
  shown_.metric = scores.headline();
  if (progress_) progress_->evaluated(shown_);
}

void TrainLog::note(const std::string& text) {
  if (progress_) progress_->note(text);
  else log_info(text);
}

void TrainLog::finish() {
  if (progress_) progress_->finish();
  events_.flush();
}

}  // namespace deeplora
