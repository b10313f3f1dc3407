#include "child_process.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <sstream>
#include <utility>

#include "core/error.h"
#include "core/files.h"
#include "core/launch.h"

namespace deeplora {

ChildProcess::ChildProcess(const std::vector<std::string>& arguments, const std::filesystem::path& log) {
  // Everything is ready before fork(): between it and exec only system calls are safe.
  std::vector<std::string> words = {"deeplora"};
  words.insert(words.end(), arguments.begin(), arguments.end());
  std::vector<char*> argv;
  for (auto& word : words) argv.push_back(word.data());
  argv.push_back(nullptr);
  std::vector<char*> environment;
  for (char** variable = ::environ; *variable; ++variable)
    if (!is_launch_variable(std::string(*variable).substr(0, std::string_view(*variable).find('='))))
      environment.push_back(*variable);
  environment.push_back(nullptr);
  const int output = ::open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
  check(output >= 0, "cannot write ", log.string(), ": ", std::strerror(errno));
  const pid_t parent = ::getpid();
  pid_ = ::fork();
  if (pid_ == 0) {
    ::setpgid(0, 0);
    ::prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (::getppid() != parent) ::_exit(130);
    const int nothing = ::open("/dev/null", O_RDONLY);
    ::dup2(nothing, 0);
    ::dup2(output, 1);
    ::dup2(output, 2);
    ::execve("/proc/self/exe", argv.data(), environment.data());
    ::_exit(127);
  }
  const int reason = errno;
  ::close(output);
  check(pid_ > 0, "cannot start a process: ", std::strerror(reason), "; lower compare.workers");
}

ChildProcess::ChildProcess(ChildProcess&& other) noexcept : pid_(std::exchange(other.pid_, -1)) {}

ChildProcess::~ChildProcess() {
  if (pid_ <= 0) return;
  stop();
  while (::waitpid(pid_, nullptr, 0) < 0 && errno == EINTR) {
  }
}

std::optional<int> ChildProcess::poll() {
  int status = 0;
  if (pid_ <= 0 || ::waitpid(pid_, &status, WNOHANG) != pid_) return std::nullopt;
  pid_ = -1;
  return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

void ChildProcess::stop() {
  if (pid_ > 0) ::kill(pid_, SIGTERM);
}

std::string reason_in_log(const std::filesystem::path& log) {
  std::istringstream lines(read_file(log, "log of a run"));
  std::string last, error;
  for (std::string line; std::getline(lines, line);) {
    if (line.starts_with("error: ")) error = line.substr(7);
    if (!line.empty()) last = line;
  }
  return !error.empty() ? error : last.empty() ? "it said nothing" : last;
}

}  // namespace deeplora
