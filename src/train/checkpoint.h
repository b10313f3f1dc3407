// A run's state on disk: checkpoints/step-XXXXXXXX with state.json (numbers, checksums), state.pt (tensors)
// and best.safetensors (the best adapter so far).
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/error.h"
#include "core/optimizer.h"
#include "train/run_folder.h"
#include "train/train_state.h"

namespace deeplora {

/// A whole checkpoint that this run cannot go on with: it was made with other settings, data or weights. Nothing that
/// happens to a file or a disk is one.
class CheckpointRefused : public Error {
 public:
  using Error::Error;
};

struct Checkpoint {
  TrainState state;
  nlohmann::ordered_json identity;              ///< "train.lr": 0.001, ...: what must be the same when the run goes on
  std::map<std::string, std::string> movement;  ///< MovementGuard's
  std::vector<NamedTensor> parameters;          ///< on the CPU
  std::vector<NamedTensor> optimizer;           ///< GroupOptimizer's state
  std::vector<NamedTensor> generators;          ///< state of the default generators ("cpu", "cuda:0"): byte tensors
};

/// checkpoints/step-00000120 of the folder.
std::filesystem::path checkpoint_path(const RunFolder& folder, int64_t step);

/// Writes the checkpoint of its step atomically and replaces one of that step, with a copy of the run's best
/// adapter when the state has a best score. Afterwards only the newest `keep` checkpoints up to this step
/// remain; later ones are what a resumed run could not use. Throws Error when the disk is full or not
/// writable.
void write_checkpoint(const RunFolder& folder, const Checkpoint& checkpoint, int64_t keep);

/// Throws Error when a file is missing, damaged (checksums) or of another version; the message names the
/// file.
Checkpoint read_checkpoint(const std::filesystem::path& folder);

/// Puts the checkpoint's best adapter back as the run's, or removes the run's when there was none yet.
void restore_best_adapter(const std::filesystem::path& checkpoint, const RunFolder& folder);

/// "" for a whole checkpoint, else what is wrong with it. Throws Error when a file that is there cannot be read: it may
/// be whole.
std::string checkpoint_defect(const std::filesystem::path& folder);

/// Checkpoint folders by rising step, whole or not.
std::vector<std::filesystem::path> list_checkpoints(const std::filesystem::path& checkpoints);

/// Throws one Error that lists every key whose value differs or that only one side has.
void check_same_identity(const nlohmann::ordered_json& saved, const nlohmann::ordered_json& now);

/// Copies `saved` into the parameters of the groups. Throws one Error that lists missing, additional and
/// misshaped tensors; nothing is changed then.
void restore_parameters(const std::vector<NamedTensor>& saved, const std::vector<ParamGroup>& groups);
/// The parameters of the groups, copied to the CPU.
std::vector<NamedTensor> copy_parameters(const std::vector<ParamGroup>& groups);

}  // namespace deeplora
