// What a run asks its machine: memory, clock, host, cores, and the signals that end it early.
#pragma once

#include <signal.h>

#include <cstdint>
#include <string>
#include <string_view>

namespace deeplora {

/// Resident memory of this process in MB (2^20 bytes).
double memory_mb();

/// Largest resident memory of this process so far in MB (2^20 bytes).
double peak_memory_mb();

/// Tells the allocator to keep freed blocks of up to 32 MB for the next step instead of giving them back: the system
/// clears every page that it hands out again, a seventh of a training step. Does nothing where the C library is not
/// glibc.
void keep_freed_memory();

/// From now on freed blocks of 4 MB and more go back to the system at once, whatever keep_freed_memory() asked for: of
/// blocks that large glibc reuses few (an aligned block wants a hole that is larger than itself). Their pages are
/// cleared anew each time: a tenth of a step at 1.1 billion parameters.
void give_large_blocks_back();

/// Gives the freed blocks back after all, once, when many of them will not be wanted again.
void release_freed_memory();

/// From now on a mapped file that was cut off ends the program with a sentence and exit code 1 when its missing part is
/// read, not with SIGBUS.
void explain_lost_pages();

/// Ends this process with `code` when all it had to write is written, without the destructors of LibTorch's static
/// objects: those take as long as half of the program's start. Under a sanitizer, which reports at the very end, they
/// do run.
[[noreturn]] void end_process(int code);

/// Seconds of a clock that never jumps; only differences mean anything.
double clock_seconds();

/// Seconds since the system started this process (resolution 10 ms).
double process_seconds();

/// Now as "2026-01-31T23:59:59Z".
std::string utc_timestamp();

/// Whether the processor multiplies bfloat16 matrices faster than float32 ones: on x86 only with AMX or AVX-512's
/// products of pairs (flags amx_bf16, avx512_bf16); others are taken to.
bool has_fast_bfloat16();

/// Name of this machine, or "localhost" when it has none.
std::string host_name();

/// Cores this process may use: its affinity mask, cut to the quota of its control group; at least 1.
int usable_cores();

/// Cores that a control group's cpu.max grants ("200000 100000" is 2, "max 100000" is 0: no limit); part
/// cores count whole.
int cores_of_quota(std::string_view cpu_max);

/// While alive, SIGINT and SIGTERM ask the program to save and stop instead of ending it; a second SIGINT
/// leaves at once with exit code 130. The destructor puts the former handlers back. One at a time: a second
/// object throws std::logic_error.
class StopSignal {
 public:
  StopSignal();
  ~StopSignal();
  StopSignal(const StopSignal&) = delete;
  StopSignal& operator=(const StopSignal&) = delete;

  /// True once one of the signals came.
  bool requested() const;
  /// The signal that came first (SIGINT or SIGTERM), 0 before.
  int signal_number() const;

 private:
  struct sigaction old_interrupt_ = {};
  struct sigaction old_terminate_ = {};
};

}  // namespace deeplora
