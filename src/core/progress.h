// How far a long job is, on standard error: a bar on a terminal, plain lines into a pipe or a log file.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>

#include "core/long_work.h"
#include "core/system.h"

namespace deeplora {

/// What is known at a step; absent values are not shown.
struct ProgressState {
  int64_t step = 0;  ///< steps done, first ones of a resumed run included
  std::optional<double> loss = {};
  std::string metric_name = {};  ///< of the last evaluation, e.g. "dev pearson"
  std::optional<double> metric = {};
  std::optional<double> samples_per_second = {};
};

/// Draws at most 10 times a second on a terminal, no wider than it; elsewhere prints a line every
/// `percent_per_line` percent and at each evaluation. Never fails: a closed or broken output only silences
/// it, SIGPIPE included.
class Progress {
 public:
  struct Setup {
    std::string label = {};  ///< first word of the line, e.g. "train"
    int64_t total = 0;       ///< steps of the whole job; 0: unknown, plain lines then come every 30 seconds
    int64_t first = 0;       ///< steps done before this session (a resumed run), left out of the time estimate
    int64_t percent_per_line = 10;
    int descriptor = 2;
    std::optional<bool> terminal = {};  ///< absent: asks the descriptor and TERM
    std::function<double()> clock = clock_seconds;
  };
  explicit Progress(Setup setup);
  /// Ends the bar's line.
  ~Progress();
  Progress(const Progress&) = delete;
  Progress& operator=(const Progress&) = delete;

  /// After every step.
  void update(const ProgressState& state);
  /// Steps that turned out not to be needed: counted as done, left out of the time estimate.
  void skipped(int64_t steps) { setup_.first += steps; }
  /// After an evaluation: shown at once in either form.
  void evaluated(const ProgressState& state);
  /// A line of its own, above the bar.
  void note(const std::string& text);
  /// Shows the last state and ends the line; further calls do nothing.
  void finish();

 private:
  void draw(const ProgressState& state);
  void print_line(const ProgressState& state);
  void write(const std::string& text);

  Setup setup_;
  bool terminal_ = false, silent_ = false, finished_ = false, drawn_ = false;
  double started_ = 0, last_shown_ = 0;
  int64_t next_percent_ = 0, last_printed_ = -1;
  ProgressState last_;
  std::unique_ptr<LongWork> until_drawn_;  ///< stands for the bar before the first step is done
};

/// "1:05", "2:03:04"; "?" when not finite.
std::string duration_text(double seconds);

/// The plain line, e.g. "train 30/100 (30 %), loss 0.4312, pearson 0.71, 128 samples/s, 0:42 left".
std::string progress_line(const Progress::Setup& setup, const ProgressState& state, double elapsed_seconds);

/// The bar, at most `width` characters: fields that do not fit are left out from the right.
std::string progress_bar(const Progress::Setup& setup, const ProgressState& state, double elapsed_seconds, int width);

/// The first `width` characters (of UTF-8) of a text.
std::string cut_to(std::string text, int width);

}  // namespace deeplora
