// The rank that each site's adapter gets.
#pragma once

#include <memory>
#include <string>

#include "lm/adapter.h"

namespace deeplora {

/// The rank of the configuration, or as much as a smaller weight has room for: then the first such weight is named in a
/// warning. Copies share what they know of the sites met so far.
class SiteRanks {
 public:
  /// `where` is the place of the rank in the configuration; factors have an inner width of `width_per_rank` times the
  /// rank.
  SiteRanks(std::string where, int64_t rank, int64_t width_per_rank = 1);

  /// Sites come by falling smaller side (AdaptedModel::add_adapters): where the first has no room for the rank, none
  /// has. Throws Error then, and for a weight that has no room for a rank of 1, naming the site and a hint.
  int64_t of(const AdapterContext& site) const;
  /// For a weight that the configuration gives a rank of its own; other weights' room says nothing of its.
  SiteRanks of_its_own(int64_t rank) const;

 private:
  struct Met {
    bool whole = false;  ///< some site took the whole rank
    bool said = false;
  };
  std::string where_;
  int64_t rank_, width_per_rank_;
  std::shared_ptr<Met> met_ = std::make_shared<Met>();
};

}  // namespace deeplora
