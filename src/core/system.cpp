#include "core/system.h"

#ifdef __GLIBC__
#include <malloc.h>
#endif
#include <sched.h>
#include <sys/resource.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <iostream>
#include <limits>
#include <optional>
#include <sstream>
#include <stdexcept>
#include <thread>

namespace deeplora {
namespace {

// A signal handler receives no argument of ours, so what it writes has to be static.
std::atomic<int> stop_signal{0};
std::atomic<int> interrupts{0};
std::atomic<bool> stop_signal_alive{false};
static_assert(std::atomic<int>::is_always_lock_free, "a signal handler may only touch lock-free atomics");

void on_signal(int number) {
  int none = 0;
  stop_signal.compare_exchange_strong(none, number);
  if (number == SIGINT && interrupts.fetch_add(1) > 0) ::_exit(130);
}

void on_lost_page(int) {
  constexpr char kSaid[] =
      "error: a model file was cut off while a run was reading it (written over in place?); put the original back and "
      "start again, a run with checkpoints by --resume\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, kSaid, sizeof kSaid - 1);
  ::_exit(1);
}

std::string first_line(const char* file) {
  std::ifstream in(file);
  std::string line;
  std::getline(in, line);
  return line;
}

/// A line of the process's status that is given in kB, in MB; nothing where the system has none.
std::optional<double> status_mb(std::string_view name) {
  std::ifstream status("/proc/self/status");
  for (std::string line; std::getline(status, line);)
    if (line.starts_with(name)) return std::stod(line.substr(name.size())) / 1024.0;
  return std::nullopt;
}

}  // namespace

void end_process(int code) {
#if defined(DEEPLORA_SANITIZED)
  std::exit(code);
#else
  std::cout.flush();
  std::cerr.flush();
  std::fflush(nullptr);
  ::_exit(code);
#endif
}

double memory_mb() { return status_mb("VmRSS:").value_or(0); }

double peak_memory_mb() {
  if (const auto most = status_mb("VmHWM:")) return *most;
  struct rusage usage = {};
  ::getrusage(RUSAGE_SELF, &usage);
  return static_cast<double>(usage.ru_maxrss) / 1024.0;
}

void keep_freed_memory() {
#ifdef __GLIBC__
  constexpr int kLargestBlock = 32 << 20;  // glibc allows no larger threshold
  mallopt(M_MMAP_THRESHOLD, kLargestBlock);
  mallopt(M_TRIM_THRESHOLD, 1 << 30);
  mallopt(M_TOP_PAD, kLargestBlock);
#endif
}

void give_large_blocks_back() {
#ifdef __GLIBC__
  mallopt(M_MMAP_THRESHOLD, 4 << 20);
#endif
}

void release_freed_memory() {
#ifdef __GLIBC__
  malloc_trim(0);
#endif
}

void explain_lost_pages() {
  struct sigaction action = {};
  action.sa_handler = on_lost_page;
  ::sigaction(SIGBUS, &action, nullptr);
}

bool has_fast_bfloat16() {
#if defined(__x86_64__)
  static const bool has = [] {
    std::ifstream cpu("/proc/cpuinfo");
    for (std::string line; std::getline(cpu, line);) {
      if (!line.starts_with("flags")) continue;
      line += ' ';
      return line.find(" amx_bf16 ") != std::string::npos || line.find(" avx512_bf16 ") != std::string::npos;
    }
    return false;
  }();
  return has;
#else
  return true;
#endif
}

double clock_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

double process_seconds() {
  // Field 22 counts from behind the command's name, which may itself hold spaces and parentheses.
  const std::string stat = first_line("/proc/self/stat");
  std::istringstream fields(stat.substr(std::min(stat.size(), stat.rfind(')') + 1)));
  std::string skipped;
  for (int field = 3; field < 22; ++field) fields >> skipped;
  double ticks = 0;
  struct timespec now = {};
  if (!(fields >> ticks) || ::clock_gettime(CLOCK_BOOTTIME, &now) != 0) return std::numeric_limits<double>::quiet_NaN();
  const double uptime = static_cast<double>(now.tv_sec) + static_cast<double>(now.tv_nsec) * 1e-9;
  return std::max(0.0, uptime - ticks / static_cast<double>(::sysconf(_SC_CLK_TCK)));
}

std::string utc_timestamp() {
  const std::time_t now = std::time(nullptr);
  std::tm parts = {};
  ::gmtime_r(&now, &parts);
  char text[32];
  std::strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%SZ", &parts);
  return text;
}

std::string host_name() {
  char name[256] = {};
  if (::gethostname(name, sizeof(name) - 1) != 0 || name[0] == '\0') return "localhost";
  return name;
}

int cores_of_quota(std::string_view cpu_max) {
  std::istringstream in{std::string(cpu_max)};
  double quota = 0, period = 0;
  if (!(in >> quota >> period) || quota <= 0 || period <= 0) return 0;
  return std::max(1, static_cast<int>(std::ceil(quota / period)));
}

int usable_cores() {
  int cores = static_cast<int>(std::thread::hardware_concurrency());
  cpu_set_t mask;
  CPU_ZERO(&mask);
  if (::sched_getaffinity(0, sizeof(mask), &mask) == 0) cores = CPU_COUNT(&mask);
  int granted = cores_of_quota(first_line("/sys/fs/cgroup/cpu.max"));
  if (granted == 0)  // the first version of control groups has a file for each number
    granted = cores_of_quota(first_line("/sys/fs/cgroup/cpu/cpu.cfs_quota_us") + " " +
                             first_line("/sys/fs/cgroup/cpu/cpu.cfs_period_us"));
  return std::max(1, granted > 0 ? std::min(cores, granted) : cores);
}

StopSignal::StopSignal() {
  if (stop_signal_alive.exchange(true)) throw std::logic_error("there is a StopSignal already");
  stop_signal = 0;
  interrupts = 0;
  struct sigaction action = {};
  action.sa_handler = on_signal;
  action.sa_flags = SA_RESTART;  // reads and writes under way go on
  sigemptyset(&action.sa_mask);
  ::sigaction(SIGINT, &action, &old_interrupt_);
  ::sigaction(SIGTERM, &action, &old_terminate_);
}

StopSignal::~StopSignal() {
  ::sigaction(SIGINT, &old_interrupt_, nullptr);
  ::sigaction(SIGTERM, &old_terminate_, nullptr);
  stop_signal_alive = false;
}

bool StopSignal::requested() const { return stop_signal.load() != 0; }

int StopSignal::signal_number() const { return stop_signal.load(); }

}  // namespace deeplora
