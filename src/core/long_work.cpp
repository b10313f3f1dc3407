#include "core/long_work.h"

#include <signal.h>

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <mutex>
#include <thread>
#include <vector>

#include "core/error.h"
#include "core/launch.h"
#include "core/progress.h"
#include "core/system.h"
#include "core/number_text.h"
#include "core/terminal.h"

namespace deeplora {
namespace {

constexpr double kSecondsUnseen = 2;
constexpr auto kBetweenDraws = std::chrono::milliseconds(200);
constexpr int kStandardError = 2;

/// Whether this process may draw: of those that work together only the first.
bool draws_here() {
  if (!is_terminal(kStandardError)) return false;
  try {
    return launch_from_environment().leads();
  } catch (const Error&) {
    return true;  // said where the processes are to meet
  }
}

}  // namespace

/// The works that are under way and the thread that draws them. Never destroyed: the thread may outlive main().
class LongWorkBoard {
 public:
  static LongWorkBoard& instance() {
    static auto* board = new LongWorkBoard;
    return *board;
  }
  bool draws() const { return draws_; }

  void add(LongWork& work) {
    const std::lock_guard lock(mutex_);
    works_.push_back(&work);
    if (!started_) start();
    wake_.notify_one();
  }
  void remove(LongWork& work) {
    const std::lock_guard lock(mutex_);
    std::erase(works_, &work);
    if (works_.empty()) clear();
  }
  void show(bool on) {
    const std::lock_guard lock(mutex_);
    hidden_ += on ? -1 : 1;
    if (!on) clear();
    wake_.notify_one();
  }
  void hold() {
    mutex_.lock();
    clear();
  }
  void release() { mutex_.unlock(); }

 private:
  void start() {
    started_ = true;
    sigset_t all, old;  // signals are for the threads that work
    sigfillset(&all);
    ::pthread_sigmask(SIG_BLOCK, &all, &old);
    std::thread([this] { run(); }).detach();
    ::pthread_sigmask(SIG_SETMASK, &old, nullptr);
  }
  void run() {
    std::unique_lock lock(mutex_);
    while (true) {
      if (works_.empty() || hidden_ > 0) {
        wake_.wait(lock);
        continue;
      }
      draw();
      wake_.wait_for(lock, kBetweenDraws);
    }
  }
  void draw() {
    const double now = clock_seconds();
    const auto old_enough = [now](const LongWork* work) { return now - work->started_ >= kSecondsUnseen; };
    const auto found = std::find_if(works_.rbegin(), works_.rend(), old_enough);
    if (found == works_.rend()) return clear();
    // One column stays free: a full last column makes some terminals wrap.
    const std::string line = (*found)->line(now - (*found)->started_, terminal_width(kStandardError) - 1);
    drawn_ = write_quietly(kStandardError, cat("\r", line, "\x1b[K"));
  }
  void clear() {
    if (drawn_) write_quietly(kStandardError, "\r\x1b[K");
    drawn_ = false;
  }

  const bool draws_ = draws_here();
  std::mutex mutex_;
  std::condition_variable wake_;
  std::vector<LongWork*> works_;
  int hidden_ = 0;
  bool started_ = false, drawn_ = false;
};

LongWork::LongWork(std::string label, int64_t total)
    : label_(std::move(label)), total_(total), shown_(LongWorkBoard::instance().draws()) {
  if (!shown_) return;
  started_ = clock_seconds();
  LongWorkBoard::instance().add(*this);
}

LongWork::~LongWork() {
  if (shown_) LongWorkBoard::instance().remove(*this);
}

std::string LongWork::line(double seconds, int width) const {
  const int64_t done = done_.load(std::memory_order_relaxed);
  if (total_ > 0) return progress_bar({.label = label_, .total = total_}, {.step = done}, seconds, width);
  const std::string count = done > 0 ? cat("  ", with_commas(done)) : "";
  return cut_to(cat(label_, count, "  ", duration_text(seconds)), width);
}

ClearLine::ClearLine() {
  if (LongWorkBoard::instance().draws()) LongWorkBoard::instance().hold();
}

ClearLine::~ClearLine() {
  if (LongWorkBoard::instance().draws()) LongWorkBoard::instance().release();
}

void show_long_work(bool on) {
  if (LongWorkBoard::instance().draws()) LongWorkBoard::instance().show(on);
}

}  // namespace deeplora
