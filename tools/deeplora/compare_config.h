// The `compare` section: which runs a comparison consists of, each as a complete configuration of `finetune`.
#pragma once

#include <optional>
#include <set>
#include <string>
#include <vector>

#include "compare/comparison.h"
#include "run_config.h"

namespace deeplora {

/// The keys of `compare` that say how the comparison runs, not what it compares.
struct CompareOptions {
  std::string title;
  int64_t workers = 0;                 ///< cells at once; 0: by cores or devices
  int64_t threads = 0;                 ///< of each cell; 0: one on the CPU
  std::vector<std::string> devices;    ///< a device per worker in turn; empty: model.device
  std::vector<int64_t> steps;          ///< train.steps for each entry of `samples`; empty: as `train` says
  std::optional<int64_t> evaluations;  ///< per run; absent: as `train` says
  std::vector<std::string> remarks;    ///< what to say at the start: how the configuration was understood
};

/// A comparison as configured: reading it checks the configuration of every cell.
class CompareConfig {
 public:
  /// Throws Error with every mistake: in `compare`, and in the run configurations it leads to.
  static CompareConfig read(const Config& given, const Registries& registries);

  const ComparePlan& plan() const { return plan_; }
  const CompareOptions& options() const { return options_; }
  /// Resolved YAML of the comparison, enough to rerun it.
  const std::string& resolved() const { return resolved_; }
  /// Only announces the keys of `compare` on `given`, for the configuration reference.
  static void announce(const Config& given, const Registries& registries);
  /// One cell as `deeplora finetune` takes it.
  RunConfig cell_run(const Cell& cell, const Registries& registries) const;

 private:
  CompareConfig(Config given) : given_(std::move(given)) {}
  /// The `compare` section itself.
  void read_section(const Config& given, const Registries& registries);
  void read_method(const Config& item, size_t index, const Registries& registries);
  void choose_rates(const Config& compare, const std::vector<Config>& items);
  std::vector<double> rates_of(const Config& compare, const Config& item, size_t index, std::set<std::string>& used);
  void read_grids(const Config& compare);
  void refuse_both(const Config& compare, size_t sample_sizes, const std::set<std::string>& empty_lists) const;
  void read_workers(const Config& compare);
  void check_names(const Config& compare) const;
  Config without_evaluations(const Cell& cell) const;
  Config cell_config(const Cell& cell) const;
  void check_cells(const Registries& registries) const;

  Config given_;
  ComparePlan plan_;
  CompareOptions options_;
  std::vector<double> rank_scales_;
  std::vector<std::vector<double>> own_rates_;  ///< of methods.N.lr; empty: none given
  std::vector<double> shared_rates_;            ///< of compare.lr
  std::vector<double> default_rates_;           ///< of each method
  std::vector<bool> head_only_;                 ///< trains nothing but the head, so that train.head_lr is not for it
  std::vector<std::vector<std::string>>
      unknown_shared_;  ///< keys of the common `adapter` section that a method does not have
  std::string resolved_;
};

}  // namespace deeplora
