#include "adapters/site_ranks.h"

#include <algorithm>

#include "core/log.h"

namespace deeplora {

SiteRanks::SiteRanks(std::string where, int64_t rank, int64_t width_per_rank)
    : where_(std::move(where)), rank_(rank), width_per_rank_(width_per_rank) {}

int64_t SiteRanks::of(const AdapterContext& site) const {
  const int64_t most = std::min(site.out(), site.in()) / width_per_rank_;
  if (rank_ <= most) {
    met_->whole = true;
    return rank_;
  }
  const std::string asked =
      width_per_rank_ == 1 ? cat("rank ", rank_) : cat("rank ", rank_, " (inner width ", width_per_rank_ * rank_, ")");
  const std::string excess =
      cat(where_, ": ", asked, " is more than the smaller side of ", site.path, " [", site.out(), ", ", site.in(), "]");
  if (!met_->whole || most < 1) {
    const std::string remedy = most >= 1 ? cat("use a rank of at most ", most, " or leave") : std::string("leave");
    fail(excess, "; ", remedy, " this weight out of adapter.targets");
  }
  if (!met_->said)
    log_warning(excess, ": its adapter has rank ", most, "; other weights without room for rank ", rank_,
                " get what they have room for too");
  met_->said = true;
  return most;
}

SiteRanks SiteRanks::of_its_own(int64_t rank) const {
  SiteRanks out(where_, rank, width_per_rank_);
  out.met_->whole = true;
  return out;
}

}  // namespace deeplora
