// What a run's loss compares with: values that every example has under the model as its files have it.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "core/process_group.h"
#include "tasks/task.h"

namespace deeplora {

class Session;

/// Values by split ("train", "dev", "test"), with the checksum of the rows that they are of. They are computed once and
/// kept in the run folder, so that a run that goes on has the same bits, whatever it does with its weights.
class ReferenceValues {
 public:
  /// Of a run folder; empty where it holds none. Throws Error for a file that is damaged or belongs to another model.
  static ReferenceValues read(const std::filesystem::path& run, const std::string& model_fingerprint);

  /// Gives the examples theirs: those that are kept where they are of these rows, else what the task says of the model
  /// as its files have it, which is said and kept. Nothing for a task without a reference. With a group, every process
  /// calls it and rank 0 knows what is kept.
  void give(const Session& session, const std::string& split, std::span<Example> examples, ProcessGroup* group);
  /// Writes what is kept; nothing where there is nothing.
  void write(const std::filesystem::path& run, const std::string& model_fingerprint) const;

 private:
  struct Kept {
    std::string rows;      ///< their checksum
    torch::Tensor values;  ///< [N, k] float64
  };
  std::map<std::string, Kept> kept_;
};

}  // namespace deeplora
