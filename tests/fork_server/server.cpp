// Loads LibTorch once for many starts of one program.
//
// A test starts the program some thousand times, and each start spends 0.25 s of a core on the registration of
// LibTorch's operators. Preloaded into the program (LD_PRELOAD), this library stands in front of its main(): behind the
// start of all libraries it listens at the socket that DEEPLORA_FORK_SERVER names, and every request forks a process
// that runs main() with the arguments, environment, folder and streams of whoever asked (client.cpp). The program
// itself knows nothing of it. It ends when its standard input does.
#include <dlfcn.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdint>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

namespace torch::jit {
struct Operator;
/// LibTorch's own, without its headers; absent from a program that is not linked with it.
[[gnu::weak]] std::vector<std::shared_ptr<Operator>> getAllOperators();
}  // namespace torch::jit

namespace {

using Main = int (*)(int, char**, char**);
using Start = int (*)(Main, int, char**, void (*)(), void (*)(), void (*)(), void*);
using Execute = int (*)(const char*, char* const[], char* const[]);
using Streams = std::array<int, 3>;

Main program_main = nullptr;
std::array<std::string, 3> client_words;  // client, socket, program: what starts the program by this server

struct Running {
  int connection;  // to the client: its end means that the client was killed
  int process;     // pidfd
  pid_t pid;
};

struct Request {
  std::string folder;
  std::vector<std::string> arguments, environment;
  Streams streams;
};

[[noreturn]] void give_up(const char* what) {
  perror(what);
  _exit(70);
}

bool read_all(int from, void* to, size_t bytes) {
  auto* at = static_cast<char*>(to);
  while (bytes > 0) {
    const ssize_t n = read(from, at, bytes);
    if (n <= 0) return false;
    at += n, bytes -= static_cast<size_t>(n);
  }
  return true;
}

/// The bytes of the text that follows, with the client's three streams beside them.
bool read_head(int connection, uint64_t& bytes, Streams& streams) {
  iovec part{&bytes, sizeof(bytes)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(Streams))];
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  if (recvmsg(connection, &message, MSG_CMSG_CLOEXEC) != static_cast<ssize_t>(sizeof(bytes))) return false;
  const cmsghdr* given = CMSG_FIRSTHDR(&message);
  if (given == nullptr || given->cmsg_type != SCM_RIGHTS) return false;
  std::memcpy(streams.data(), CMSG_DATA(given), sizeof(Streams));
  return true;
}

/// Texts that each end in a zero byte: the folder, the number of arguments, those, the environment.
bool read_request(int connection, Request& request) {
  uint64_t bytes = 0;
  if (!read_head(connection, bytes, request.streams)) return false;
  std::string text(bytes, '\0');
  if (!read_all(connection, text.data(), bytes)) return false;
  std::vector<std::string> parts;
  for (size_t at = 0; at < text.size(); at += parts.back().size() + 1) parts.emplace_back(text.c_str() + at);
  if (parts.size() < 2) return false;
  const auto first = parts.begin() + 2, last = first + std::stol(parts[1]);
  request.folder = parts[0];
  request.arguments.assign(first, last);
  request.environment.assign(last, parts.end());
  return true;
}

int run_program(const Request& request) {
  for (int i = 0; i < 3; ++i) dup2(request.streams[i], i);
  for (const int fd : request.streams) close(fd);
  if (chdir(request.folder.c_str()) != 0) give_up("fork server: chdir");
  clearenv();
  for (const auto& one : request.environment) putenv(strdup(one.c_str()));
  std::vector<char*> arguments;
  for (const auto& one : request.arguments) arguments.push_back(strdup(one.c_str()));
  arguments.push_back(nullptr);
  return program_main(static_cast<int>(request.arguments.size()), arguments.data(), environ);
}

int listener() {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  const char* path = std::getenv("DEEPLORA_FORK_SERVER");
  if (path == nullptr || std::strlen(path) >= sizeof(address.sun_path)) give_up("fork server: no socket's path");
  std::strcpy(address.sun_path, path);
  const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (fd < 0 || bind(fd, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0 || listen(fd, 64) != 0)
    give_up("fork server: socket");
  return fd;
}

/// One request: true in the new process, whose exit code is then in `code`.
bool accept_one(int listening, std::vector<Running>& running, int& code) {
  const int connection = accept4(listening, nullptr, nullptr, SOCK_CLOEXEC);
  if (connection < 0) return false;
  Request request;
  if (!read_request(connection, request)) {
    close(connection);
    return false;
  }
  const pid_t pid = fork();
  if (pid < 0) give_up("fork server: fork");
  if (pid == 0) {
    close(listening), close(connection);
    for (const auto& other : running) close(other.connection), close(other.process);
    code = run_program(request);
    return true;
  }
  for (const int fd : request.streams) close(fd);
  const int process = static_cast<int>(syscall(SYS_pidfd_open, pid, 0));
  if (process < 0) give_up("fork server: pidfd_open");
  running.push_back({connection, process, pid});
  return false;
}

/// Passes on signals of the client, or its end, and tells it the status that wait() gives; false when all is over.
bool serve(const Running& one, bool ended, bool spoken) {
  unsigned char signal_number = 0;
  if (spoken && !ended) {
    if (read(one.connection, &signal_number, 1) == 1) return kill(one.pid, signal_number), true;
    kill(one.pid, SIGKILL);
  } else if (!ended) {
    return true;
  }
  int status = 0;
  waitpid(one.pid, &status, 0);
  send(one.connection, &status, sizeof(status), MSG_NOSIGNAL);
  close(one.connection), close(one.process);
  return false;
}

void note_client() {
  const char *client = std::getenv("DEEPLORA_FORK_CLIENT"), *socket_path = std::getenv("DEEPLORA_FORK_SERVER");
  std::array<char, 4096> program{};
  if (client == nullptr || readlink("/proc/self/exe", program.data(), program.size() - 1) < 0) return;
  client_words = {client, socket_path, program.data()};
}

int serving_main(int, char**, char**) {
  note_client();
  // The interpreter's table of operators is filled when it is first asked for: a quarter of a short command.
  if (torch::jit::getAllOperators != nullptr) (void)torch::jit::getAllOperators();
  const int listening = listener();
  std::vector<Running> running;
  for (int code = 0;;) {
    std::vector<pollfd> watched{{STDIN_FILENO, 0, 0}, {listening, POLLIN, 0}};
    for (const auto& one : running)
      watched.push_back({one.connection, POLLIN, 0}), watched.push_back({one.process, POLLIN, 0});
    if (poll(watched.data(), watched.size(), -1) < 0) continue;
    std::vector<Running> left;
    for (size_t i = 0; i < running.size(); ++i)
      if (serve(running[i], watched[3 + 2 * i].revents != 0, watched[2 + 2 * i].revents != 0))
        left.push_back(running[i]);
    running = std::move(left);
    if ((watched[0].revents & (POLLHUP | POLLERR)) != 0) break;
    if (watched[1].revents != 0 && accept_one(listening, running, code)) return code;
  }
  for (const auto& one : running) kill(one.pid, SIGKILL);
  _exit(0);
}

}  // namespace

extern "C" int fsync(int) { return 0; }

extern "C" int execve(const char* path, char* const arguments[], char* const environment[]) {
  static const auto start = reinterpret_cast<Execute>(dlsym(RTLD_NEXT, "execve"));
  if (std::strcmp(path, "/proc/self/exe") != 0 || client_words[0].empty()) return start(path, arguments, environment);
  std::vector<char*> words;
  for (auto& word : client_words) words.push_back(word.data());
  for (auto* one = arguments + 1; *one != nullptr; ++one) words.push_back(*one);
  words.push_back(nullptr);
  return start(words[0], words.data(), environment);
}

extern "C" int __libc_start_main(Main main, int argc, char** argv, void (*init)(), void (*fini)(), void (*rtld_fini)(),
                                 void* stack_end) {
  program_main = main;
  const auto start = reinterpret_cast<Start>(dlsym(RTLD_NEXT, "__libc_start_main"));
  return start(serving_main, argc, argv, init, fini, rtld_fini, stack_end);
}
