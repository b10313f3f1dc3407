#include "compare/comparison.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/error.h"
#include "report/axis.h"

namespace deeplora {

std::string slug(const std::string& name) {
  std::string out;
  for (const char c : name) {
    const bool plain =
        (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '.' || c == '+';
    if (plain) out += c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
    else if (!out.empty() && out.back() != '-') out += '-';
  }
  while (!out.empty() && out.back() == '-') out.pop_back();
  return out;
}

Comparison::Comparison(ComparePlan plan) : plan_(std::move(plan)) {
  for (const int64_t samples : plan_.samples)
    for (const int64_t rank : plan_.ranks)
      for (size_t m = 0; m < plan_.methods.size(); ++m) {
        const Group group = group_at(m, rank, samples);
        if (std::find(groups_.begin(), groups_.end(), group) == groups_.end()) groups_.push_back(group);
      }
  for (const int64_t seed : plan_.seeds)
    for (const Group& group : groups_)
      for (size_t lr = 0; lr < plan_.methods[group.method].lr.size(); ++lr) {
        index_[{group, lr, seed}] = cells_.size();
        cells_.push_back({group, lr, seed});
      }
  settled_.resize(cells_.size());
  outcomes_.resize(cells_.size());
}

Group Comparison::group_at(size_t method, int64_t rank, int64_t samples) const {
  return {method, plan_.methods.at(method).ranked ? rank : 0, samples};
}

std::string Comparison::name(const Cell& cell) const {
  const MethodPlan& method = plan_.methods.at(cell.group.method);
  return cat(slug(method.name), cell.group.rank > 0 ? cat("-r", cell.group.rank) : "",
             cell.group.samples > 0 ? cat("-n", cell.group.samples) : "", "-lr", number_text(method.lr.at(cell.lr), 6),
             "-s", cell.seed);
}

std::string Comparison::title(const Cell& cell) const {
  const MethodPlan& method = plan_.methods.at(cell.group.method);
  return cat(method.name, cell.group.rank > 0 ? cat(", rank ", cell.group.rank) : "",
             cell.group.samples > 0 ? cat(", ", cell.group.samples, " rows") : "", ", lr ",
             number_text(method.lr.at(cell.lr), 6), ", seed ", cell.seed);
}

void Comparison::settle(size_t cell, CellOutcome outcome) {
  settled_.at(cell) = std::move(outcome);
  outcomes_.at(cell) = settled_.at(cell);
}

size_t Comparison::count(CellState state) const {
  return static_cast<size_t>(
      std::count_if(outcomes_.begin(), outcomes_.end(), [&](const CellOutcome& o) { return o.state == state; }));
}

bool Comparison::better(double a, double b) const {
  const double rounding = 1e-12 * std::max(std::abs(a), std::abs(b));
  return higher_is_better_ ? a > b + rounding : a < b - rounding;
}

bool Comparison::diverged(const Group& group, size_t lr) const {
  return std::any_of(plan_.seeds.begin(), plan_.seeds.end(),
                     [&](int64_t seed) { return settled_[index_of({group, lr, seed})].state == CellState::diverged; });
}

void Comparison::drop_rest(const Group& group, size_t lr, size_t first_seed, const std::string& reason) {
  for (size_t s = 0; s < plan_.seeds.size(); ++s) {
    const size_t cell = index_of({group, lr, plan_.seeds[s]});
    // A run that is there all the same (it is also another method's) must not change what the rule decides.
    const bool there_all_the_same = s >= first_seed && outcomes_[cell].state == CellState::done;
    if (outcomes_[cell].state != CellState::open && !there_all_the_same) continue;
    outcomes_[cell] = {.state = CellState::dropped, .message = reason};
  }
}

bool Comparison::early_seeds_settled(const Group& group) const {
  const size_t early = std::min(plan_.seeds.size(), static_cast<size_t>(plan_.early_stop.seeds));
  for (size_t lr = 0; lr < plan_.methods[group.method].lr.size(); ++lr)
    for (size_t s = 0; s < early; ++s)
      if (outcomes_[index_of({group, lr, plan_.seeds[s]})].state == CellState::open) return false;
  return true;
}

std::vector<double> Comparison::dev_of(const Group& group, size_t lr, size_t seeds) const {
  std::vector<double> out;
  for (size_t s = 0; s < seeds; ++s) {
    const CellOutcome& outcome = outcomes_[index_of({group, lr, plan_.seeds[s]})];
    if (outcome.state == CellState::done) out.push_back(outcome.dev);
  }
  return out;
}

void Comparison::drop_far_from_best(const Group& group) {
  const auto early = static_cast<size_t>(plan_.early_stop.seeds);
  const MethodPlan& method = plan_.methods[group.method];
  std::vector<double> means;
  std::optional<size_t> best;
  for (size_t lr = 0; lr < method.lr.size(); ++lr) {
    const std::vector<double> dev = dev_of(group, lr, early);
    // A failed cell may yet run: its learning rate is neither the best nor given up.
    means.push_back(dev.size() == early ? summarize(dev).mean : std::nan(""));
    if (!std::isnan(means[lr]) && !diverged(group, lr) && (!best || better(means[lr], means[*best]))) best = lr;
  }
  if (!best) return;
  const double sign = higher_is_better_ ? 1 : -1;
  const double least = means[*best] - sign * plan_.early_stop.margin * (higher_is_better_ ? 1 : std::abs(means[*best]));
  for (size_t lr = 0; lr < method.lr.size(); ++lr) {
    if (diverged(group, lr)) continue;
    const std::string after = cat("after ", early, early == 1 ? " seed" : " seeds");
    if (std::isnan(means[lr])) {
      const bool ran = dev_of(group, lr, early).size() == early;
      if (ran) drop_rest(group, lr, early, cat(after, ": its dev score is undefined (constant predictions)"));
    } else if (better(least, means[lr])) {
      drop_rest(group, lr, early,
                cat(after, ": dev ", number_text(means[lr], 4), ", the best learning rate ",
                    number_text(method.lr[*best], 6), " has ", number_text(means[*best], 4)));
    }
  }
}

Comparison::Drops Comparison::drop_hopeless() {
  const std::vector<CellOutcome> before = std::exchange(outcomes_, settled_);
  for (const Group& group : groups_) {
    const size_t rates = plan_.methods[group.method].lr.size();
    for (size_t lr = 0; lr < rates; ++lr)
      for (const int64_t seed : plan_.seeds)
        if (settled_[index_of({group, lr, seed})].state == CellState::diverged)
          drop_rest(group, lr, plan_.seeds.size(), cat("it diverged with seed ", seed));
    const bool decide =
        plan_.early_stop.seeds > 0 && static_cast<size_t>(plan_.early_stop.seeds) < plan_.seeds.size() && rates > 1;
    if (decide && early_seeds_settled(group)) drop_far_from_best(group);
  }
  Drops out;
  for (size_t cell = 0; cell < cells_.size(); ++cell) {
    const bool was_dropped = before[cell].state == CellState::dropped;
    if (before[cell].state == CellState::open && outcomes_[cell].state == CellState::dropped)
      out.given_up.push_back(cell);
    if (was_dropped && outcomes_[cell].state == CellState::open) out.taken_back.push_back(cell);
  }
  return out;
}

std::optional<size_t> Comparison::next(const std::set<size_t>& running) const {
  for (size_t i = 0; i < cells_.size(); ++i) {
    if (outcomes_[i].state != CellState::open || running.count(i) > 0) continue;
    const auto seed =
        static_cast<int64_t>(std::find(plan_.seeds.begin(), plan_.seeds.end(), cells_[i].seed) - plan_.seeds.begin());
    const bool undecided = plan_.early_stop.seeds > 0 && seed >= plan_.early_stop.seeds &&
                           plan_.methods[cells_[i].group.method].lr.size() > 1;
    if (!undecided || early_seeds_settled(cells_[i].group)) return i;
  }
  return std::nullopt;
}

LrOutcome Comparison::describe(const Group& group, size_t lr) const {
  LrOutcome out;
  out.lr = plan_.methods[group.method].lr[lr];
  out.dev = dev_of(group, lr, plan_.seeds.size());
  out.summary = summarize(out.dev);
  out.fate = LrOutcome::Fate::lost;
  // The gravest of its cells' states decides.
  const auto mark = [&](CellState state, LrOutcome::Fate fate) {
    for (const int64_t seed : plan_.seeds) {
      const CellOutcome& outcome = outcomes_[index_of({group, lr, seed})];
      if (outcome.state != state) continue;
      out.fate = fate;
      if (!outcome.message.empty()) out.reason = outcome.message;
      if (state == CellState::diverged || state == CellState::failed)
        out.reason = cat("seed ", seed, ": ", outcome.message);
    }
  };
  mark(CellState::open, LrOutcome::Fate::open);
  mark(CellState::dropped, LrOutcome::Fate::dropped);
  mark(CellState::failed, LrOutcome::Fate::failed);
  mark(CellState::diverged, LrOutcome::Fate::diverged);
  return out;
}

LrChoice Comparison::choice(const Group& group) const {
  using Fate = LrOutcome::Fate;
  LrChoice out;
  bool open = false;
  const auto usable = [](const LrOutcome& o) {
    return o.fate != Fate::dropped && o.fate != Fate::diverged && !o.dev.empty();
  };
  for (size_t lr = 0; lr < plan_.methods[group.method].lr.size(); ++lr) {
    out.tried.push_back(describe(group, lr));
    const LrOutcome& now = out.tried.back();
    open = open || now.fate == Fate::open || now.fate == Fate::failed;
    if (!usable(now)) continue;
    if (!out.chosen) {
      out.chosen = lr;
      continue;
    }
    const LrOutcome& before = out.tried[*out.chosen];
    // More seeds first: means over different seeds are not comparable. An undefined mean loses to any other, and of
    // equals the lowest learning rate is taken.
    if (now.dev.size() != before.dev.size() ? now.dev.size() > before.dev.size()
                                            : better(now.summary.mean, before.summary.mean) ||
                                                  (std::isnan(before.summary.mean) && !std::isnan(now.summary.mean)))
      out.chosen = lr;
  }
  if (!out.chosen) return out;
  LrOutcome& chosen = out.tried[*out.chosen];
  out.complete = chosen.dev.size() == plan_.seeds.size() && !open;
  if (chosen.fate == Fate::lost) chosen.fate = Fate::chosen;
  for (LrOutcome& other : out.tried) {
    if (other.fate != Fate::lost) continue;
    const bool comparable = other.dev.size() == chosen.dev.size() && !std::isnan(chosen.summary.mean);
    if (std::isnan(other.summary.mean)) other.reason = "its dev score is undefined (constant predictions)";
    else if (comparable && !better(chosen.summary.mean, other.summary.mean)) other.fate = Fate::tied;
  }
  if (out.tried.size() > 1 && *out.chosen == 0) out.edge = LrChoice::Edge::lowest;
  if (out.tried.size() > 1 && *out.chosen + 1 == out.tried.size()) out.edge = LrChoice::Edge::highest;
  return out;
}

}  // namespace deeplora
