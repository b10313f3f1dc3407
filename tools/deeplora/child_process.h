// This program once more, as a child process: one run per process, so that a crash, a leak or a peak of memory is that
// run's own.
#pragma once

#include <sys/types.h>

#include <filesystem>
#include <optional>
#include <string>
#include <vector>

namespace deeplora {

/// A running copy of this program, alone: it does not inherit what makes this process one of several (core/launch.h).
/// Ends with its parent: when this process dies, the child gets SIGTERM, saves and stops.
class ChildProcess {
 public:
  /// Starts it with these arguments, both outputs in `log`. A process group of its own keeps the terminal's Ctrl-C
  /// away: the parent passes it on. Throws Error when the system refuses.
  ChildProcess(const std::vector<std::string>& arguments, const std::filesystem::path& log);
  /// Still running: asks it to stop and waits.
  ~ChildProcess();
  ChildProcess(ChildProcess&& other) noexcept;
  ChildProcess& operator=(ChildProcess&&) = delete;

  /// The exit code once it has ended (128 + number when a signal ended it), nothing before. Never waits.
  std::optional<int> poll();
  /// Asks it to save and stop.
  void stop();

 private:
  pid_t pid_ = -1;
};

/// What a child's log says about its end: the last "error: ..." line without that word, else its last line.
std::string reason_in_log(const std::filesystem::path& log);

}  // namespace deeplora
