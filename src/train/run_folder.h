// A run folder: resolved configuration, metrics, adapter, checkpoints, result. Every write is atomic or
// append-only.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <memory>
#include <optional>
#include <string>

#include "core/files.h"

namespace deeplora {

class RunFolder {
 public:
  /// A new run. Throws Error when the folder holds a run already (say how to resume or choose another) or
  /// files that are not a run's; an empty or absent folder is fine. Created on the first write, so that a
  /// mistake found before training leaves nothing behind.
  static RunFolder create(const std::filesystem::path& folder);
  /// An existing run, for resuming, evaluating, exporting. Throws Error when it is not a run folder.
  static RunFolder open(const std::filesystem::path& folder);

  /// The folder of a run that another process reads and writes: nothing is checked, and nothing is to be written.
  static RunFolder of_another(const std::filesystem::path& folder) { return RunFolder(folder); }

  const std::filesystem::path& path() const { return path_; }
  std::filesystem::path config_file() const { return path_ / "config.yaml"; }
  std::filesystem::path adapter_file() const { return path_ / "adapter.safetensors"; }  ///< best
  std::filesystem::path last_adapter_file() const { return path_ / "last.safetensors"; }
  std::filesystem::path metrics_file() const { return path_ / "metrics.jsonl"; }
  std::filesystem::path result_file() const { return path_ / "result.json"; }
  std::filesystem::path task_file() const { return path_ / "task.json"; }
  std::filesystem::path updates_file() const { return path_ / "updates.json"; }  ///< spectra of the learned updates
  std::filesystem::path diverged_file() const {
    return path_ / "diverged.json";
  }  ///< why training left the finite numbers
  std::filesystem::path checkpoints() const { return path_ / "checkpoints"; }
  std::filesystem::path report_file() const { return path_ / "report.html"; }

  /// Takes the folder's lock until the object dies. Throws Error when another process holds it (naming it), or has
  /// made a run here since create() looked.
  void lock();
  void write(const std::filesystem::path& file, const std::string& content);
  void append_metrics(const nlohmann::ordered_json& row);
  /// Drops rows of metrics.jsonl beyond the first `bytes` bytes: what a killed run wrote after its last
  /// checkpoint.
  void truncate_metrics(uint64_t bytes);
  uint64_t metrics_size() const;
  /// The newest whole checkpoint folder (checkpoints/step-00000120), or nothing.
  std::optional<std::filesystem::path> newest_checkpoint() const;
  bool finished() const;  ///< result.json is there

 private:
  void check_empty() const;
  explicit RunFolder(std::filesystem::path path) : path_(std::move(path)) {}
  std::filesystem::path path_;
  bool fresh_ = false;  ///< made by create()
  std::unique_ptr<FolderLock> lock_;
};

}  // namespace deeplora
