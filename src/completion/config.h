// The `completion` section as plain structs.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "core/config.h"

namespace deeplora {

/// The chain and where it starts.
struct ChainConfig {
  std::string method = "deep";   ///< deep, narrow, compressed, full
  int64_t rank = 8;              ///< r' of the compression; rank that is looked for
  std::optional<int64_t> width;  ///< inner width; absent: by method (inner_width)
  int64_t depth = 3;             ///< factors L >= 2 (compressed: inner factors L >= 1 between two outer ones)
  double init_scale = 1e-3;      ///< eps
  double outer_lr_ratio = 1e-2;  ///< gamma of compressed: learning rate of the outer factors over the inner ones'
  bool same_start = false;       ///< compressed: the compression of the chain that `full` would start with

  /// r of a matrix [rows, cols]: `width`, else rank (deep), 2 rank (narrow, compressed), the smaller side (full).
  int64_t inner_width(int64_t rows, int64_t cols) const;
};

/// How it is fitted.
struct FitConfig {
  std::string optimizer = "auto";  ///< auto, gd, momentum, adam, rmsprop
  std::optional<double> lr;        ///< absent: by default_learning_rate()
  double momentum = 0.9, beta1 = 0.9, beta2 = 0.999, alpha = 0.99, eps = 1e-8;
  double weight_decay = 0;                  ///< adds weight_decay x W_l to every factor's gradient
  std::string reduction = "mean-observed";  ///< sum, mean-all, mean-observed
  std::string gradient = "exact";           ///< exact, feedback-alignment
  int64_t batch = 0;                        ///< residuals of a step, drawn anew each time; 0: all
  int64_t steps = 10000;
  double tolerance = 0;  ///< ends the run at an evaluation whose error is at most this; 0: never
  double stall = 1e-9;   ///< auto: ends after 10 steps in a row that lower the loss by less than this share
  int64_t eval_every = 100, log_every = 100, early_stopping = 0, keep_checkpoints = 2;
  std::optional<int64_t> save_every;  ///< absent: at the end only
  bool track = false;                 ///< singular values and invariant subspaces at every evaluation
  std::string precision = "float64";
  int64_t seed = 1, threads = 0;
};

/// A target of known rank.
struct SyntheticConfig {
  int64_t rows = 0, cols = 0, rank = 5;
  double observed = 0.2, noise = 0;
  std::string target = "gaussian";  ///< gaussian, factors
  bool given() const { return rows > 0; }
};

/// Linear measurements <A_k, W> of a synthetic target in place of entries.
struct SensingConfig {
  int64_t measurements = 0;
};

struct CompletionConfig {
  std::string title = "Matrix completion";  ///< heading of the report
  ChainConfig chain;
  FitConfig fit;
  SyntheticConfig synthetic;
  SensingConfig sensing;
  bool save_problem = false;  ///< problem.safetensors in the run folder: what a check by other means needs

  /// Reads these keys of `completion`, recording mistakes on it.
  static CompletionConfig read(const Config& completion);
};

}  // namespace deeplora
