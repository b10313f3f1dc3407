#include "core/progress.h"

#include <fcntl.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <limits>
#include <vector>

#include "core/error.h"
#include "core/terminal.h"

namespace deeplora {
namespace {

constexpr double kSecondsPerDraw = 0.1;
constexpr double kSecondsPerLine = 30;  // when the total is unknown

std::string number_text(double value, int digits) {
  char text[40];
  std::snprintf(text, sizeof(text), "%.*g", digits, value);
  return text;
}

std::string rate_text(double rate) {
  char text[40];
  std::snprintf(text, sizeof(text), rate >= 10 ? "%.0f samples/s" : "%.2g samples/s", rate);
  return text;
}

/// Loss, metric, rate and time left, as far as they are known.
std::vector<std::string> fields(const Progress::Setup& setup, const ProgressState& state, double elapsed) {
  std::vector<std::string> out;
  if (state.loss) out.push_back(cat("loss ", number_text(*state.loss, 4)));
  if (state.metric) out.push_back(cat(state.metric_name, " ", number_text(*state.metric, 4)));
  if (state.samples_per_second) out.push_back(rate_text(*state.samples_per_second));
  const int64_t done = state.step - setup.first, left = setup.total - state.step;
  if (left > 0 && done > 0)
    out.push_back(duration_text(elapsed * static_cast<double>(left) / static_cast<double>(done)) + " left");
  if (left <= 0) out.push_back(cat(setup.total > 0 ? "in " : "after ", duration_text(elapsed)));
  return out;
}

int64_t percent(const Progress::Setup& setup, int64_t step) {
  return setup.total > 0 ? std::clamp<int64_t>(step * 100 / setup.total, 0, 100) : 0;
}

/// Characters of UTF-8 text: every byte that does not continue one.
int width_of(const std::string& text) {
  return static_cast<int>(std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; }));
}

}  // namespace

std::string cut_to(std::string text, int width) {
  while (width_of(text) > std::max(width, 0)) {
    while (!text.empty() && (text.back() & 0xC0) == 0x80) text.pop_back();
    if (!text.empty()) text.pop_back();
  }
  return text;
}

std::string duration_text(double seconds) {
  if (!std::isfinite(seconds) || seconds < 0 || seconds > 1e9) return "?";
  const auto whole = static_cast<long long>(std::llround(seconds));
  char text[40];
  if (whole >= 3600) std::snprintf(text, sizeof(text), "%lld:%02lld:%02lld", whole / 3600, whole / 60 % 60, whole % 60);
  else std::snprintf(text, sizeof(text), "%lld:%02lld", whole / 60, whole % 60);
  return text;
}

std::string progress_line(const Progress::Setup& setup, const ProgressState& state, double elapsed) {
  std::string line = cat(setup.label, setup.label.empty() ? "" : " ", state.step);
  if (setup.total > 0) line += cat("/", setup.total, " (", percent(setup, state.step), " %)");
  for (const std::string& field : fields(setup, state, elapsed)) line += ", " + field;
  return line;
}

std::string progress_bar(const Progress::Setup& setup, const ProgressState& state, double elapsed, int width) {
  std::string count = std::to_string(state.step);
  if (setup.total > 0) count += cat("/", setup.total);
  std::string head = setup.label.empty() ? "" : setup.label + " ", tail = " " + count;
  for (const std::string& field : fields(setup, state, elapsed)) {
    if (width_of(head) + width_of(tail) + 2 + width_of(field) > width) break;
    tail += "  " + field;
  }
  // The bar lives on what the words leave.
  const int room = std::min(32, width - width_of(head) - width_of(tail) - 2);
  if (setup.total <= 0 || room < 5) return cut_to(head + tail.substr(1), width);
  const auto filled = static_cast<size_t>(std::clamp<int64_t>(state.step * room / setup.total, 0, room));
  return head + "[" + std::string(filled, '#') + std::string(static_cast<size_t>(room) - filled, '-') + "]" + tail;
}

Progress::Progress(Setup setup) : setup_(std::move(setup)) {
  // A closed descriptor may be given to another file later: decided once, before that can happen.
  silent_ = ::fcntl(setup_.descriptor, F_GETFD) < 0;
  terminal_ = setup_.terminal.value_or(!silent_ && is_terminal(setup_.descriptor));
  setup_.percent_per_line = std::clamp<int64_t>(setup_.percent_per_line, 1, 100);
  if (terminal_) until_drawn_ = std::make_unique<LongWork>(setup_.label, setup_.total);
  started_ = setup_.clock();
  last_shown_ = terminal_ ? -std::numeric_limits<double>::infinity() : started_;  // a bar is drawn at once
  next_percent_ = (percent(setup_, setup_.first) / setup_.percent_per_line + 1) * setup_.percent_per_line;
  last_.step = setup_.first;
}

Progress::~Progress() { finish(); }

void Progress::update(const ProgressState& state) {
  if (finished_) return;
  last_ = state;
  const double now = setup_.clock();
  if (terminal_) {
    if (now - last_shown_ >= kSecondsPerDraw) draw(state);
  } else if (setup_.total > 0 ? percent(setup_, state.step) >= next_percent_ : now - last_shown_ >= kSecondsPerLine) {
    print_line(state);
  }
}

void Progress::evaluated(const ProgressState& state) {
  if (finished_) return;
  last_ = state;
  terminal_ ? draw(state) : print_line(state);
}

void Progress::note(const std::string& text) {
  if (!terminal_ || finished_) return write(text + "\n");
  write(cat("\r\x1b[K", text, "\n"));
  if (drawn_) draw(last_);
}

void Progress::finish() {
  if (finished_) return;
  if (terminal_ && drawn_) {
    draw(last_);
    write("\n");
  } else if (!terminal_ && last_.step != last_printed_ && last_.step > setup_.first) {
    print_line(last_);
  }
  if (drawn_) show_long_work(true);
  until_drawn_.reset();
  finished_ = true;
}

void Progress::draw(const ProgressState& state) {
  last_shown_ = setup_.clock();
  if (!drawn_) show_long_work(false);  // one line at a time
  until_drawn_.reset();
  drawn_ = true;
  // One column stays free: a full last column makes some terminals wrap.
  const int width = terminal_width(setup_.descriptor) - 1;
  write(cat("\r", progress_bar(setup_, state, last_shown_ - started_, width), "\x1b[K"));
}

void Progress::print_line(const ProgressState& state) {
  last_shown_ = setup_.clock();
  last_printed_ = state.step;
  next_percent_ = (percent(setup_, state.step) / setup_.percent_per_line + 1) * setup_.percent_per_line;
  write(progress_line(setup_, state, last_shown_ - started_) + "\n");
}

void Progress::write(const std::string& text) {
  if (!silent_) silent_ = !write_quietly(setup_.descriptor, text);
}

}  // namespace deeplora
