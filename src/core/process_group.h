// The processes that train one model together: sums, copies and waiting over LibTorch's c10d.
#pragma once

#include <torch/types.h>

#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "core/rendezvous.h"

namespace deeplora {

/// Every process of the run has one, and all make the same calls in the same order. CPU tensors go through Gloo; CUDA
/// tensors through NCCL where the build has it, else through Gloo by way of the CPU. Every call throws PeerLost when a
/// process ended, failed or did not answer within the timeout; afterwards the group is of no use.
class ProcessGroup {
 public:
  /// Meets the others. Throws Error when this build has no Gloo.
  ProcessGroup(const Launch& launch, std::chrono::milliseconds timeout, torch::Device device = torch::kCPU);
  ~ProcessGroup();
  ProcessGroup(const ProcessGroup&) = delete;
  ProcessGroup& operator=(const ProcessGroup&) = delete;

  int rank() const { return meeting_.launch().rank; }
  int size() const { return meeting_.launch().size; }
  bool leads() const { return rank() == 0; }
  const char* backend() const;  ///< of the tensors of the run's device: "gloo" or "nccl"
  Rendezvous& meeting() { return meeting_; }

  /// Adds up the tensor of every process, in place; the same bits everywhere.
  void sum(torch::Tensor tensor);
  /// Overwrites the tensors with those of rank 0.
  void broadcast(const std::vector<torch::Tensor>& tensors);
  /// The text of rank 0.
  std::string broadcast(const std::string& text);
  /// The texts of all processes, by rank.
  std::vector<std::string> gather(const std::string& text);
  void barrier();

  /// Equal parts of `count` items: how many one process takes at most.
  int64_t share(int64_t count) const { return (count + size() - 1) / size(); }

 private:
  struct Backends;
  [[noreturn]] void lost(const std::exception& error);

  Rendezvous meeting_;
  std::unique_ptr<Backends> backends_;
};

/// Does part i of a work that is dealt out in turn belong to this process? Without a group everything does.
inline bool is_mine(const ProcessGroup* group, size_t i) {
  return !group || static_cast<int>(i % static_cast<size_t>(group->size())) == group->rank();
}

}  // namespace deeplora
