#include "core/process_group.h"

#include <arpa/inet.h>
#include <netdb.h>
#include <sys/socket.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/torch.h>
#include <unistd.h>
#ifdef DEEPLORA_GLOO
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>
#endif

#include <algorithm>
#include <csignal>
#include <cstdlib>

#include "core/rendezvous_store.h"

namespace deeplora {

#ifdef DEEPLORA_NCCL
c10::intrusive_ptr<c10d::Backend> make_nccl_backend(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size,
                                                    std::chrono::milliseconds timeout);
#endif

struct ProcessGroup::Backends {
  c10::intrusive_ptr<c10d::Backend> cpu, cuda;  ///< cuda may be null

  c10d::Backend* of(const torch::Tensor& tensor) const {
    if (tensor.device().is_cpu()) return cpu.get();
    return tensor.device().is_cuda() ? cuda.get() : nullptr;
  }
};

namespace {

[[maybe_unused]] std::string numeric_host(const sockaddr* address, socklen_t length) {
  char text[NI_MAXHOST] = {};
  return ::getnameinfo(address, length, text, sizeof(text), nullptr, 0, NI_NUMERICHOST) == 0 ? text : "";
}

/// Addresses of a route to rank 0: of its far end, and of this machine's end of it.
struct Route {
  std::string far, near;
  bool inside() const { return near.starts_with("127.") || near == "::1"; }
};

/// The route that the system would take; asks the routing table, sends nothing.
[[maybe_unused]] Route route_to(const Launch& launch) {
  addrinfo hints = {};
  hints.ai_socktype = SOCK_DGRAM;
  addrinfo* found = nullptr;
  const int failed = ::getaddrinfo(launch.master.c_str(), std::to_string(launch.port).c_str(), &hints, &found);
  check(failed == 0, "MASTER_ADDR ", launch.master, " cannot be resolved: ", ::gai_strerror(failed));
  const std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)> all(found, ::freeaddrinfo);
  for (const addrinfo* at = found; at; at = at->ai_next) {
    const int descriptor = ::socket(at->ai_family, at->ai_socktype | SOCK_CLOEXEC, at->ai_protocol);
    if (descriptor < 0) continue;
    sockaddr_storage own = {};
    socklen_t length = sizeof(own);
    const bool ok = ::connect(descriptor, at->ai_addr, at->ai_addrlen) == 0 &&
                    ::getsockname(descriptor, reinterpret_cast<sockaddr*>(&own), &length) == 0;
    ::close(descriptor);
    if (ok) return {numeric_host(at->ai_addr, at->ai_addrlen), numeric_host(reinterpret_cast<sockaddr*>(&own), length)};
  }
  fail("there is no route to MASTER_ADDR ", launch.master);
}

/// The address at which the others reach this process: its end of the route to rank 0. A process on rank 0's machine
/// may know that machine by a loopback address only; then what the other machines call it counts.
[[maybe_unused]] std::string own_address(Rendezvous& meeting) {
  const Route route = route_to(meeting.launch());
  meeting.set(cat("master seen by ", meeting.launch().rank), route.inside() ? "" : route.far);
  if (!route.inside()) return route.near;
  for (int rank = 0; rank < meeting.launch().size; ++rank) {
    const std::string seen = meeting.wait(cat("master seen by ", rank), cat("rank ", rank));
    if (!seen.empty()) return seen;
  }
  return route.near;
}

c10::intrusive_ptr<c10d::Backend> make_gloo_backend(Rendezvous& meeting) {
#ifdef DEEPLORA_GLOO
  using Gloo = c10d::ProcessGroupGloo;
  const char* interface = std::getenv("GLOO_SOCKET_IFNAME");
  auto options = Gloo::Options::create(meeting.timeout());
  options->devices.push_back(interface && *interface ? Gloo::createDeviceForInterface(interface)
                                                     : Gloo::createDeviceForHostname(own_address(meeting)));
  const auto store = c10::make_intrusive<c10d::PrefixStore>("gloo", meeting.store().shared);
  return c10::make_intrusive<Gloo>(store, meeting.launch().rank, meeting.launch().size, options);
#else
  fail(
      "this deeplora was built without Gloo, so several processes cannot train together; install Gloo's headers "
      "(libgloo-dev) and build again");
#endif
}

torch::Tensor tensor_of(const std::string& text) {
  return torch::from_blob(const_cast<char*>(text.data()), {static_cast<int64_t>(text.size())}, torch::kUInt8).clone();
}

std::string text_of(const torch::Tensor& bytes) {
  return {static_cast<const char*>(bytes.const_data_ptr()), static_cast<size_t>(bytes.numel())};
}

}  // namespace

ProcessGroup::ProcessGroup(const Launch& launch, std::chrono::milliseconds timeout, torch::Device device)
    : meeting_(launch, timeout), backends_(std::make_unique<Backends>()) {
  // Gloo's threads write to peers that may be gone: that is to be an error with a message, not the end of this process
  // by SIGPIPE.
  std::signal(SIGPIPE, SIG_IGN);
  try {
    backends_->cpu = make_gloo_backend(meeting_);
#ifdef DEEPLORA_NCCL
    if (device.is_cuda())
      backends_->cuda = make_nccl_backend(c10::make_intrusive<c10d::PrefixStore>("nccl", meeting_.store().shared),
                                          launch.rank, launch.size, timeout);
#endif
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    lost(e);
  }
}

ProcessGroup::~ProcessGroup() = default;

const char* ProcessGroup::backend() const { return backends_->cuda ? "nccl" : "gloo"; }

void ProcessGroup::lost(const std::exception& error) {
  const auto failure = meeting_.failure();
  throw PeerLost(failure ? "stopped with the other processes: " + *failure
                         : cat("process ", rank(), " of ", size(), " lost another one: ", reason_of(error),
                               "; the messages of that process say why, if it could write any"));
}

void ProcessGroup::sum(torch::Tensor tensor) {
  const torch::NoGradGuard no_grad;
  c10d::Backend* backend = backends_->of(tensor);
  const bool direct = backend && tensor.is_contiguous();
  std::vector<torch::Tensor> sent = {direct    ? tensor
                                     : backend ? tensor.contiguous()
                                               : tensor.to(torch::kCPU).contiguous()};
  try {
    (backend ? backend : backends_->cpu.get())->allreduce(sent)->wait();
  } catch (const std::exception& e) {
    lost(e);
  }
  if (!direct) tensor.copy_(sent[0]);
}

void ProcessGroup::broadcast(const std::vector<torch::Tensor>& tensors) {
  const torch::NoGradGuard no_grad;
  for (torch::Tensor tensor : tensors) {
    if (tensor.numel() == 0) continue;
    std::vector<torch::Tensor> sent = {tensor.to(torch::kCPU).contiguous()};
    try {
      backends_->cpu->broadcast(sent)->wait();
    } catch (const std::exception& e) {
      lost(e);
    }
    tensor.copy_(sent[0]);
  }
}

std::string ProcessGroup::broadcast(const std::string& text) {
  const torch::Tensor size = torch::tensor(static_cast<int64_t>(text.size()));
  broadcast({size});
  if (size.item<int64_t>() == 0) return "";
  const torch::Tensor bytes = leads() ? tensor_of(text) : torch::empty({size.item<int64_t>()}, torch::kUInt8);
  broadcast({bytes});
  return text_of(bytes);
}

std::vector<std::string> ProcessGroup::gather(const std::string& text) {
  const torch::Tensor sizes = torch::zeros({size()}, torch::kInt64);
  sizes[rank()] = static_cast<int64_t>(text.size());
  sum(sizes);
  const torch::Tensor ends = sizes.cumsum(0);
  const torch::Tensor all = torch::zeros({std::max<int64_t>(1, ends[-1].item<int64_t>())}, torch::kUInt8);
  const auto begin_of = [&](int rank) { return ends[rank].item<int64_t>() - sizes[rank].item<int64_t>(); };
  if (!text.empty()) all.slice(0, begin_of(rank()), ends[rank()].item<int64_t>()).copy_(tensor_of(text));
  sum(all);
  std::vector<std::string> out;
  for (int i = 0; i < size(); ++i) out.push_back(text_of(all.slice(0, begin_of(i), ends[i].item<int64_t>())));
  return out;
}

void ProcessGroup::barrier() { sum(torch::zeros({1})); }

}  // namespace deeplora
