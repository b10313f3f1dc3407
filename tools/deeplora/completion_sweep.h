// Several completions of one configuration, side by side: variants x swept values x trials.
#pragma once

#include <functional>
#include <string>
#include <vector>

#include "completion_report.h"
#include "core/config.h"

namespace deeplora {

/// The keys `completion.sweep`, `completion.variants` and `completion.trials`.
struct CompletionSweep {
  std::vector<std::pair<std::string, std::vector<std::string>>> lists;  ///< "width": {"10", "20"}
  std::vector<std::string> variants;                                    ///< "method=compressed outer_lr_ratio=0"
  int64_t trials = 1;
  bool given() const { return trials > 1 || !lists.empty() || !variants.empty(); }

  /// Reads them, recording mistakes on `completion`.
  static CompletionSweep read(const Config& completion);

  struct Member {
    std::string name;  ///< "method=full, trial=2"
    std::vector<std::pair<std::string, std::string>> values;
    std::vector<std::string> assignments;  ///< "completion.width=10", to be set over the configuration
    int64_t further_seeds = 0;             ///< to be added to its seed: trial t of T, from 0
  };
  /// The product, trials innermost. Throws Error when two have the same name.
  std::vector<Member> members() const;
};

}  // namespace deeplora
