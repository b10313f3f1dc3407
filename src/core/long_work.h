// Work that may take more than two seconds, shown on a terminal while it lasts: what is being done, and how far it is.
// Elsewhere nothing is written and no thread is started.
#pragma once

#include <atomic>
#include <cstdint>
#include <string>

namespace deeplora {

/// Shown on standard error from its third second on, in a line that is gone when the work is done. Of several at once
/// the innermost that is old enough is shown. A process that does not lead others shows none.
///
///   LongWork work("tokenizing data.train", rows.size());
///   for (...) work.advance();
class LongWork {
 public:
  /// `label`: what is done, in plain words; `total`: its steps, 0 when they are not known.
  explicit LongWork(std::string label, int64_t total = 0);
  ~LongWork();
  LongWork(const LongWork&) = delete;
  LongWork& operator=(const LongWork&) = delete;

  /// Steps that are done; from any thread.
  void advance(int64_t steps = 1) { done_.fetch_add(steps, std::memory_order_relaxed); }

  /// The line after so many seconds, at most `width` characters.
  std::string line(double seconds, int width) const;

 private:
  friend class LongWorkBoard;
  std::string label_;
  int64_t total_;
  std::atomic<int64_t> done_{0};
  double started_ = 0;
  bool shown_;
};

/// While it lives the terminal's line is free for something else.
class ClearLine {
 public:
  ClearLine();
  ~ClearLine();
  ClearLine(const ClearLine&) = delete;
  ClearLine& operator=(const ClearLine&) = delete;
};

/// Off and on again, as often: while a bar of its own stands on the terminal.
void show_long_work(bool on);

}  // namespace deeplora
