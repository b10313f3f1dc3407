// Training by several processes: which rows of a step are whose, and the one sum that makes them a step again.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "core/optimizer.h"
#include "core/process_group.h"
#include "train/data_order.h"
#include "train/run_folder.h"
#include "train/train_step.h"

namespace deeplora {

/// The rows of one step that process `rank` of `size` computes: each size-th row (in a micro-batch rows of similar
/// length stand together, so that all processes have some of each), put together into as few forward passes of at most
/// `batch_size` rows as they need. Over all ranks every row comes once; a process may have none.
std::vector<MicroBatch> share_of_step(std::span<const MicroBatch> micro_batches, int64_t batch_size, int rank,
                                      int size);

/// The sum over processes at the end of a step: gradients of everything that is trained, the loss, and whether a
/// process was asked to stop, in one all-reduce.
class StepSum {
 public:
  StepSum(ProcessGroup& group, const std::vector<ParamGroup>& groups);

  /// Gradients become those of all rows of the step; a parameter that no process has a gradient of keeps none.
  /// loss.sum, and loss.bad_rows of all processes, become the step's. Returns whether any process passed `stop`.
  bool reduce(StepLoss& loss, bool stop);
  /// Size of what one process gives into reduce().
  int64_t bytes() const;

 private:
  torch::Tensor flatten(const StepLoss& loss, bool stop) const;
  void take_gradients(const torch::Tensor& flat) const;

  ProcessGroup& group_;
  std::vector<torch::Tensor> parameters_;
  int64_t values_ = 0;  ///< of all parameters
};

/// Parameters of the groups become those of rank 0.
void broadcast_parameters(ProcessGroup& group, const std::vector<ParamGroup>& groups);

/// The scores of rank 0: what follows from them must be the same everywhere, and another processor may round otherwise.
void broadcast_scores(ProcessGroup& group, Scores& scores);

/// Throws one Error that lists in what this process differs from rank 0.
void check_same_run(ProcessGroup& group, const nlohmann::ordered_json& identity);

/// The newest checkpoint of rank 0's folder as every process can read it: rank 0 the folder itself, the others a copy
/// below `scratch`. Nothing when there is none.
std::optional<std::filesystem::path> share_newest_checkpoint(ProcessGroup& group, const RunFolder& folder,
                                                             const std::filesystem::path& scratch);

}  // namespace deeplora
