// Fitting a chain to a problem: the loop with evaluations, checkpoints and exact resume.
#pragma once

#include <nlohmann/json.hpp>

#include <filesystem>
#include <functional>
#include <optional>
#include <string>

#include "completion/config.h"
#include "completion/problem.h"
#include "completion/stepper.h"
#include "core/system.h"
#include "factorization/factor_chain.h"
#include "tasks/task.h"
#include "train/run_folder.h"

namespace deeplora {

struct FitResult {
  int64_t iterations = 0;
  double seconds = 0;           ///< of all sessions, evaluations and checkpoints included
  double training_seconds = 0;  ///< iterations only
  double loss = 0;              ///< of the last iteration, by the reduction
  std::optional<Scores> last, best;
  int64_t best_iteration = 0;
  std::string stopped;  ///< steps, tolerance, early-stopping, converged
  double seconds_per_iteration() const {
    return iterations > 0 ? training_seconds / static_cast<double>(iterations) : 0;
  }
};

struct FitSetup {
  const Problem& problem;
  FactorChain chain;  ///< holds the last point afterwards
  FitConfig config;
  double step_length = 0;  ///< default_step() of the problem, for gd without lr
  /// Scores at W = b a_t^T, headline first; empty: no evaluations but the loss.
  std::function<Scores(const torch::Tensor& b, const torch::Tensor& a_t)> evaluate;
  /// Numbers about the chain for metrics.jsonl at every evaluation: {"step", "track": {...}}.
  std::function<nlohmann::ordered_json(const FactorChainImpl&)> track;
  /// Writes the chain's factors to a file: adapter.safetensors whenever an evaluation is the best one (keep_best) or at
  /// the end, last.safetensors at the end.
  std::function<void(const std::filesystem::path&)> save_factors;
  bool keep_best = false;
  nlohmann::ordered_json identity = nlohmann::ordered_json::object();  ///< what a resumed run must agree with
  const StopSignal* stop = nullptr;
  bool progress = true;
  std::string label = "complete";
};

/// Runs until config.steps, the tolerance, early stopping, or convergence (auto). With resume set, goes on exactly
/// where the newest whole checkpoint was taken: the same bits on one machine and thread count. Locks the folder. Throws
/// Interrupted after saving when stopped by a signal; Error naming the iteration when the loss is not finite, and when
/// another configuration is to go on with a checkpoint.
FitResult fit(const FitSetup& setup, RunFolder& folder, bool resume);

}  // namespace deeplora
