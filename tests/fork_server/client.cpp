// deeplora_forked SOCKET PROGRAM [ARGUMENT...]: runs PROGRAM by the server at SOCKET (server.cpp), as if started here:
// with these streams, this folder and environment; ends as it ends, and passes on SIGINT, SIGTERM and SIGHUP.
#include <signal.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cstdint>
#include <cstdio>
#include <cstring>
#include <string>

namespace {

int connection = -1;

void pass_on(int number) {
  const auto byte = static_cast<unsigned char>(number);
  (void)!write(connection, &byte, 1);
}

[[noreturn]] void give_up(const char* what) {
  perror(what);
  _exit(70);
}

void connect_to(const char* path) {
  sockaddr_un address{};
  address.sun_family = AF_UNIX;
  if (std::strlen(path) >= sizeof(address.sun_path)) give_up("deeplora_forked: the socket's path is too long");
  std::strcpy(address.sun_path, path);
  connection = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (connect(connection, reinterpret_cast<sockaddr*>(&address), sizeof(address)) != 0)
    give_up("deeplora_forked: no server");
}

void send_streams(uint64_t bytes) {
  const int streams[3] = {0, 1, 2};
  iovec part{&bytes, sizeof(bytes)};
  alignas(cmsghdr) char control[CMSG_SPACE(sizeof(streams))] = {};
  msghdr message{};
  message.msg_iov = &part;
  message.msg_iovlen = 1;
  message.msg_control = control;
  message.msg_controllen = sizeof(control);
  cmsghdr* head = CMSG_FIRSTHDR(&message);
  head->cmsg_level = SOL_SOCKET;
  head->cmsg_type = SCM_RIGHTS;
  head->cmsg_len = CMSG_LEN(sizeof(streams));
  std::memcpy(CMSG_DATA(head), streams, sizeof(streams));
  if (sendmsg(connection, &message, MSG_NOSIGNAL) < 0) give_up("deeplora_forked: sendmsg");
}

void send_request(int argc, char** argv) {
  char folder[4096];
  if (getcwd(folder, sizeof(folder)) == nullptr) give_up("deeplora_forked: getcwd");
  std::string text;
  const auto add = [&](const std::string& part) { text.append(part).push_back('\0'); };
  add(folder);
  add(std::to_string(argc - 2));
  for (int i = 2; i < argc; ++i) add(argv[i]);
  for (char** one = environ; *one != nullptr; ++one) add(*one);
  send_streams(text.size());
  for (size_t sent = 0; sent < text.size();) {
    const ssize_t n = send(connection, text.data() + sent, text.size() - sent, MSG_NOSIGNAL);
    if (n <= 0) give_up("deeplora_forked: send");
    sent += static_cast<size_t>(n);
  }
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::fputs("usage: deeplora_forked SOCKET PROGRAM [ARGUMENT...]\n", stderr);
    return 64;
  }
  connect_to(argv[1]);
  for (const int number : {SIGINT, SIGTERM, SIGHUP}) signal(number, pass_on);
  send_request(argc, argv);
  int status = 0;
  ssize_t n = 0;
  do n = read(connection, &status, sizeof(status));
  while (n < 0);  // a signal was passed on
  if (n != static_cast<ssize_t>(sizeof(status))) give_up("deeplora_forked: the server is gone");
  if (WIFEXITED(status)) return WEXITSTATUS(status);
  const rlimit none{0, 0};
  setrlimit(RLIMIT_CORE, &none);
  signal(WTERMSIG(status), SIG_DFL);
  raise(WTERMSIG(status));
  return 70;
}
