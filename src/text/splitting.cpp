#include "text/splitting.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "text/sampling.h"

namespace deeplora {
namespace {

/// Rows with one input, which go to one side.
struct Group {
  std::vector<size_t> rows;
  size_t stratum = 0;
  bool taken = false;
};

/// The rows of a file while they are dealt out.
class Dealer {
 public:
  Dealer(std::span<const SplitRow> rows, uint64_t seed) : all_(rows.size()) {
    std::map<std::string, size_t> strata, inputs;
    for (const auto& row : rows) strata.emplace(row.stratum, 0);
    size_t number = 0;
    for (auto& [name, index] : strata) index = number++;
    sizes_.resize(strata.size());
    left_.resize(strata.size());
    for (size_t i = 0; i < rows.size(); ++i) {
      const auto [place, fresh] = inputs.emplace(rows[i].input, groups_.size());
      if (fresh) groups_.push_back({{}, strata.at(rows[i].stratum)});
      groups_[place->second].rows.push_back(i);
    }
    for (const auto& group : groups_) {
      sizes_[group.stratum] += group.rows.size();
      ++left_[group.stratum];
    }
    order_ = shuffled(groups_.size(), seed);
  }

  /// ceil(share x all) rows, ascending.
  std::vector<size_t> take(double share) {
    const auto wanted = static_cast<size_t>(std::ceil(share * static_cast<double>(all_)));
    std::vector<size_t> quotas = quotas_of(wanted), out;
    for (const size_t g : order_)
      if (fits(groups_[g], quotas[groups_[g].stratum])) take_group(groups_[g], quotas[groups_[g].stratum], out);
    for (const size_t g : order_) {  // what strata of one row, or of equal ones, could not give
      size_t missing = wanted - out.size();
      if (fits(groups_[g], missing)) take_group(groups_[g], missing, out);
    }
    std::sort(out.begin(), out.end());
    return out;
  }

  std::vector<size_t> rest() const {
    std::vector<size_t> out;
    for (const auto& group : groups_)
      if (!group.taken) out.insert(out.end(), group.rows.begin(), group.rows.end());
    std::sort(out.begin(), out.end());
    return out;
  }

 private:
  /// Rows of each stratum among `wanted`: the whole part of its share, and one more for the largest remainders.
  std::vector<size_t> quotas_of(size_t wanted) const {
    std::vector<size_t> quotas, order(sizes_.size());
    size_t given = 0;
    for (const size_t size : sizes_) {
      quotas.push_back(wanted * size / all_);
      given += quotas.back();
    }
    std::iota(order.begin(), order.end(), size_t{0});
    std::stable_sort(order.begin(), order.end(),
                     [&](size_t a, size_t b) { return wanted * sizes_[a] % all_ > wanted * sizes_[b] % all_; });
    for (size_t i = 0; given < wanted; ++i, ++given) ++quotas[order[i]];
    return quotas;
  }

  bool fits(const Group& group, size_t room) const {
    return !group.taken && group.rows.size() <= room && left_[group.stratum] > 1;
  }

  void take_group(Group& group, size_t& room, std::vector<size_t>& out) {
    group.taken = true;
    --left_[group.stratum];
    room -= group.rows.size();
    out.insert(out.end(), group.rows.begin(), group.rows.end());
  }

  size_t all_;
  std::vector<Group> groups_;
  std::vector<size_t> sizes_, left_;  ///< of each stratum: its rows, its groups that nobody took
  std::vector<size_t> order_;
};

}  // namespace

SplitRows split_rows(std::span<const SplitRow> rows, double dev_share, double test_share, uint64_t seed) {
  if (rows.empty()) return {};
  Dealer dealer(rows, seed);
  SplitRows out;
  out.test = dealer.take(test_share);
  out.dev = dealer.take(dev_share);
  out.train = dealer.rest();
  return out;
}

}  // namespace deeplora
