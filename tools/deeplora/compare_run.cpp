#include "compare_run.h"

#include <algorithm>
#include <fstream>
#include <thread>

#include "core/log.h"
#include "report/axis.h"

namespace deeplora {
namespace fs = std::filesystem;

std::vector<std::string> CompareRun::arguments(size_t cell, int slot) const {
  std::vector<std::string> out = {"finetune", cell_file(cell, ".yaml").string(), "--run", cell_folder(cell).string(),
                                  "--set",    cat("train.threads=", threads_)};
  if (!options_.devices.empty()) {
    out.push_back("--set");
    const int place = slot + (shared_ ? shared_->launch().local_rank * workers_ : 0);
    out.push_back("model.device=" + options_.devices[static_cast<size_t>(place) % options_.devices.size()]);
  }
  std::error_code ignored;
  // A checkpoint that cannot go on is worth less than the cell: the run itself begins again. Nothing else is a reason
  // to.
  if (fs::exists(cell_folder(cell) / "config.yaml", ignored)) out.insert(out.end(), {"--resume", "--restart-refused"});
  return out;
}

/// Steps of a running cell: the last row of its metrics.jsonl.
int64_t CompareRun::steps_done(size_t cell) const {
  std::ifstream in(cell_folder(cell) / "metrics.jsonl", std::ios::binary | std::ios::ate);
  if (!in || cells_[cell].steps == 0) return 0;
  const std::streamoff size = in.tellg(), part = std::min<std::streamoff>(size, 4096);
  std::string tail(static_cast<size_t>(part), '\0');
  in.seekg(size - part);
  in.read(tail.data(), part);
  const size_t at = tail.rfind("{\"step\":");
  return at == std::string::npos ? 0 : std::min<int64_t>(std::atoll(tail.c_str() + at + 8), cells_[cell].steps);
}

/// A killed comparison's cells may take a moment to save and stop: true once nobody holds the cell's run folder.
bool CompareRun::wait_for_lock(size_t cell) const {
  std::error_code ignored;
  if (!fs::exists(cell_folder(cell) / ".lock", ignored)) return true;
  for (int i = 0; i < 600 && !stopping(); ++i) {
    try {
      const FolderLock free(cell_folder(cell));
      return true;
    } catch (const Error&) {
      std::this_thread::sleep_for(kBetweenLooks);
    }
  }
  return false;
}

void CompareRun::start(size_t cell, int slot, std::map<size_t, Running>& running) {
  write_file_atomically(cell_file(cell, ".yaml"), cells_[cell].yaml);
  running.emplace(cell, Running{ChildProcess(arguments(cell, slot), cell_file(cell, ".log")), slot});
}

void CompareRun::settle(size_t cell, int exit_code, bool stopping) {
  const bool finished = load_finished(cell);
  if (!finished && stopping && (exit_code == 130 || exit_code == 143)) return;  // saved; the cell stays open
  CellOutcome outcome = comparison_.outcome(cell);
  if (!finished) {
    outcome.state = CellState::failed;
    outcome.message = exit_code == 137                      ? std::string("killed by signal 9 (out of memory?)")
                      : exit_code > 128 && exit_code != 130 ? cat("ended by signal ", exit_code - 128)
                                                            : reason_in_log(cell_file(cell, ".log"));
    if (shared_) shared_->tell_failed(twins(cell).front(), outcome.message);
  }
  for (const size_t twin : twins(cell)) {
    const CellState state = comparison_.outcome(twin).state;
    if (twin == cell || state == CellState::open || state == CellState::dropped) comparison_.settle(twin, outcome);
  }
}

void CompareRun::note_dropped(Progress& progress) {
  std::map<std::string, size_t> given_up, taken_back;
  const auto title = [&](size_t cell) {
    Cell without_seed = comparison_.cells()[cell];
    without_seed.seed = 0;
    const std::string out = comparison_.title(without_seed);
    return out.substr(0, out.rfind(", seed"));
  };
  const Comparison::Drops drops = comparison_.drop_hopeless();
  for (const size_t cell : drops.given_up) {
    ++given_up[cat("given up: ", title(cell), ", ", comparison_.outcome(cell).message)];
    done_weight_ += cells_[cell].weight();
    reported_.insert(cell);
    progress.skipped(cells_[cell].weight());
  }
  for (const size_t cell : drops.taken_back) {
    ++taken_back[cat("runs after all: ", title(cell), ", as the learning rate it was given up for diverged")];
    done_weight_ -= cells_[cell].weight();
    reported_.erase(cell);
    progress.skipped(-cells_[cell].weight());
  }
  for (const auto& [reason, count] : given_up)
    progress.note(cat(reason, " (", count, count == 1 ? " run saved)" : " runs saved)"));
  for (const auto& [reason, count] : taken_back)
    progress.note(cat(reason, " (", count, count == 1 ? " run)" : " runs)"));
}

void CompareRun::fill_slots(std::map<size_t, Running>& running, Progress& progress) {
  while (running.size() < static_cast<size_t>(workers_) && !stopping()) {
    std::set<size_t> busy = elsewhere_;
    std::set<int> slots;
    for (const auto& [cell, process] : running) {
      busy.insert(twins(cell).begin(), twins(cell).end());
      slots.insert(process.slot);
    }
    const auto cell = comparison_.next(busy);
    if (!cell) return;
    if (shared_ && !shared_->claim(twins(*cell).front())) {
      elsewhere_.insert(twins(*cell).begin(), twins(*cell).end());
      continue;
    }
    if (!wait_for_lock(*cell)) {
      if (stopping()) return;
      CellOutcome outcome;
      outcome.state = CellState::failed;
      outcome.message = "its run folder is in use by another process";
      comparison_.settle(*cell, outcome);
      if (shared_) shared_->tell_failed(twins(*cell).front(), outcome.message);
      progress.note(cat(comparison_.title(comparison_.cells()[*cell]), ": ", outcome.message));
      continue;
    }
    int slot = 0;
    while (slots.count(slot) > 0) ++slot;
    start(*cell, slot, running);
  }
}

/// Says what became of a cell, its twins included.
void CompareRun::report(size_t cell, Progress& progress) {
  const CellOutcome& outcome = comparison_.outcome(cell);
  if (outcome.state == CellState::open || !reported_.insert(cell).second) return;
  done_weight_ += cells_[cell].weight();
  const std::string title = cat("[", comparison_.cells().size() - comparison_.count(CellState::open), "/",
                                comparison_.cells().size(), "] ", comparison_.title(comparison_.cells()[cell]), ": ");
  if (outcome.state == CellState::done)
    progress.note(cat(title, "dev ", number_text(outcome.dev, 4), ", test ", number_text(outcome.test, 4), ", ",
                      duration_text(outcome.seconds)));
  else progress.note(cat(title, outcome.state == CellState::diverged ? "diverged: " : "failed: ", outcome.message));
}

/// Once a second: what the other processes finished, and whether one was asked to stop.
void CompareRun::look_elsewhere(Progress& progress) {
  if (!shared_ || !shared_->due()) return;
  if (stop_.requested()) shared_->ask_to_stop();
  stopped_elsewhere_ = shared_->stop_asked();
  for (const size_t cell : std::set<size_t>(elsewhere_)) {
    if (!load_finished(cell)) {
      const auto failure = shared_->failure_of(twins(cell).front());
      if (!failure) continue;
      CellOutcome outcome;
      outcome.state = CellState::failed;
      outcome.message = *failure;
      comparison_.settle(cell, outcome);
    }
    elsewhere_.erase(cell);
    report(cell, progress);
  }
  note_dropped(progress);
}

void CompareRun::run() {
  int64_t total = 0;
  for (size_t i = 0; i < cells_.size(); ++i) {
    total += cells_[i].weight();
    if (comparison_.outcome(i).state == CellState::open) continue;
    done_weight_ += cells_[i].weight();
    reported_.insert(i);
  }
  const bool speaks = !shared_ || shared_->launch().leads();
  Progress progress({.label = "compare",
                     .total = total,
                     .first = done_weight_,
                     .percent_per_line = 5,
                     .descriptor = speaks ? 2 : -1});
  std::map<size_t, Running> running;
  bool told = false;
  note_dropped(progress);
  for (;;) {
    look_elsewhere(progress);
    fill_slots(running, progress);
    if (running.empty() && (elsewhere_.empty() || stopping())) break;
    if (stopping() && !told) {
      told = true;
      progress.note(cat("stopping: ", running.size(),
                        running.size() == 1 ? " running cell saves first" : " running cells save first"));
      for (auto& [cell, process] : running) process.process.stop();
    }
    int64_t under_way = 0;
    for (auto it = running.begin(); it != running.end();) {
      const auto code = it->second.process.poll();
      if (!code) {
        under_way += steps_done(it->first);
        ++it;
        continue;
      }
      const size_t cell = it->first;
      it = running.erase(it);
      settle(cell, *code, told);
      for (const size_t twin : twins(cell)) report(twin, progress);
      note_dropped(progress);
    }
    progress.update({.step = done_weight_ + under_way});
    std::this_thread::sleep_for(kBetweenLooks);
  }
  if (shared_) {
    if (stop_.requested()) shared_->ask_to_stop();
    shared_->leave();
    for (const size_t cell : elsewhere_) load_finished(cell);
  }
  progress.finish();
  if (stopping())
    throw Interrupted(
        cat("stopped by ",
            stop_.requested() ? cat("signal ", stop_.signal_number()) : std::string("a signal to another process"),
            "; ", comparison_.count(CellState::done), " of ", comparison_.cells().size(), " cells are finished and ",
            comparison_.count(CellState::open), " are left; the same command goes on with them"));
}

}  // namespace deeplora
