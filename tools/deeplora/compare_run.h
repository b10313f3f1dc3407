// Runs the cells of a comparison: a process each, several at once, none of them twice.
#pragma once

#include <chrono>
#include <filesystem>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "child_process.h"
#include "compare_config.h"
#include "core/files.h"
#include "core/progress.h"
#include "core/system.h"
#include "shared_cells.h"
#include "train/run_places.h"

namespace deeplora {

/// Between two looks at what the running cells do.
constexpr std::chrono::milliseconds kBetweenLooks(100);

/// The folder of a comparison: cells/NAME.yaml (what the cell is), cells/NAME.log (what it said), cells/NAME/ (its run
/// folder, which `deeplora finetune` wrote; the cell is finished when result.json or diverged.json is there).
class CompareRun {
 public:
  enum class Purpose { run, report };
  /// Writes nothing yet. Throws Error when the folder holds something else, or cells of another configuration. For a
  /// report nothing but the folder is needed: model, data and the files that adapters start from may be gone. With a
  /// meeting point, the processes that meet there share the cells.
  CompareRun(const CompareConfig& config, const Registries& registries, std::filesystem::path folder,
             Purpose purpose = Purpose::run, Rendezvous* meeting = nullptr);

  /// Takes the lock, writes `yaml` as compare.yaml, and reads what earlier calls finished. Throws Error when another
  /// process holds it, or when the files that runs read are not those of the finished cells.
  void open(const std::string& yaml);
  /// For the other processes, once rank 0 has opened the folder. Throws Error when this process does not see the same
  /// comparison there.
  void open_beside(const std::string& yaml);
  /// Starts every method with open cells once, at its largest size, without training. Throws Error with everything that
  /// is wrong.
  void check_methods();
  /// Runs what is open. Throws Interrupted after running cells have saved when a signal came; failed cells are left in
  /// the comparison.
  void run();

  const Comparison& comparison() const { return comparison_; }
  const std::string& metric() const { return metric_; }
  std::filesystem::path cell_folder(size_t cell) const;
  const std::filesystem::path& folder() const { return folder_; }
  int workers() const { return workers_; }
  int processes() const { return shared_ ? shared_->launch().size : 1; }
  int64_t threads() const { return threads_; }

 private:
  struct CellPlan {
    std::string yaml = {};
    int64_t steps = 0;  ///< 0: known only once the data are read
    int64_t weight() const { return steps > 0 ? steps : 100; }
  };
  struct Running {
    ChildProcess process;
    int slot = 0;
    int64_t shown = 0;  ///< steps last seen
  };

  std::filesystem::path cell_file(size_t cell, const char* extension) const;
  void plan_cells(const CompareConfig& config, const Registries& registries);
  void check_same_cells(const Registries& registries) const;
  void choose_workers();
  /// inputs.json as it is to be: checksums by key. Throws Error when they are not those of the finished cells.
  nlohmann::ordered_json checked_inputs() const;
  bool load_finished(size_t cell);
  void start(size_t cell, int slot, std::map<size_t, Running>& running);
  std::vector<std::string> arguments(size_t cell, int slot) const;
  void settle(size_t cell, int exit_code, bool stopping);
  void note_dropped(Progress& progress);
  int64_t steps_done(size_t cell) const;
  const std::vector<size_t>& twins(size_t cell) const { return twins_.at(cells_.at(cell).yaml); }
  void report(size_t cell, Progress& progress);
  void fill_slots(std::map<size_t, Running>& running, Progress& progress);
  bool wait_for_lock(size_t cell) const;
  bool stopping() const { return stop_.requested() || stopped_elsewhere_; }
  void look_elsewhere(Progress& progress);

  std::filesystem::path folder_;
  Comparison comparison_;
  CompareOptions options_;
  Purpose purpose_ = Purpose::run;
  std::string device_, metric_ = "score";
  std::vector<NamedFile>
      inputs_;  ///< what runs read: models, tokenizers, data, factors to start from; "model.path of LoRA", "data.train"
  std::vector<CellPlan> cells_;
  std::map<std::string, std::vector<size_t>>
      twins_;  ///< by configuration: cells that are the same run, which runs once
  std::unique_ptr<FolderLock> lock_;
  std::set<size_t> reported_;            ///< cells whose end was said, or known from an earlier call
  std::unique_ptr<SharedCells> shared_;  ///< null for a process alone
  std::set<size_t> elsewhere_;           ///< open cells of other processes
  bool stopped_elsewhere_ = false;
  int workers_ = 1;
  int64_t threads_ = 0, done_weight_ = 0;
  StopSignal stop_;
};

}  // namespace deeplora
