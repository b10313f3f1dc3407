// A comparison of methods: which runs it consists of, which are still to do, which learning rate each method gets. Free
// of LibTorch and of files.
//
// A cell is one fine-tuning run: method x rank x number of training rows x learning rate x seed. A group is the cells
// of one method, rank and number of rows; its learning rate is chosen on dev, by the mean over all seeds, and scored on
// test. Every method sees the same seeds, and a seed draws the same training rows and the same batches for all.
#pragma once

#include <cstdint>
#include <limits>
#include <map>
#include <optional>
#include <set>
#include <string>
#include <tuple>
#include <vector>

#include "compare/statistics.h"

namespace deeplora {

struct MethodPlan {
  std::string name;        ///< as the report calls it
  std::string method;      ///< adapter.method
  bool ranked = true;      ///< has a rank that the comparison may vary
  std::vector<double> lr;  ///< grid, rising
};

/// Which learning rates are given up before all seeds ran. See Comparison::drop_hopeless().
struct EarlyStop {
  int64_t seeds = 2;    ///< whole runs of every learning rate that are looked at; 0: no learning rate is given up
  double margin = 0.1;  ///< distance from the best one on dev that is hopeless
};

struct ComparePlan {
  std::vector<MethodPlan> methods;
  size_t baseline = 0;              ///< index into methods
  std::vector<int64_t> ranks{0};    ///< 0: as each method's configuration says
  std::vector<int64_t> samples{0};  ///< training rows; 0: as the configuration says
  std::vector<int64_t> seeds{1};
  EarlyStop early_stop;
};

struct Group {
  size_t method = 0;
  int64_t rank = 0, samples = 0;  ///< rank 0 for a method that has none
  auto operator<=>(const Group&) const = default;
};

struct Cell {
  Group group;
  size_t lr = 0;  ///< index into the method's grid
  int64_t seed = 0;
  auto operator<=>(const Cell&) const = default;
};

enum class CellState { open, done, diverged, failed, dropped };

struct CellOutcome {
  CellState state = CellState::open;
  std::string message = {};  ///< why it diverged, failed or was dropped
  double dev = std::numeric_limits<double>::quiet_NaN(), test = std::numeric_limits<double>::quiet_NaN();
  double test_step = 0;  ///< smallest step of `test`; 0: it has none
  double best_step = 0, steps = 0, seconds = 0, samples_per_second = 0, peak_rss_mb = 0, parameters = 0;
};

/// One learning rate of a group.
struct LrOutcome {
  double lr = 0;
  std::vector<double> dev = {};  ///< of the seeds that are done, in their order
  Summary summary = {};          ///< of `dev`
  /// tied: as good on dev as the chosen one, which is the lowest of them.
  enum class Fate { chosen, tied, lost, dropped, diverged, failed, open } fate = Fate::open;
  std::string reason = {};
};

/// What dev says about a group's learning rates.
struct LrChoice {
  std::vector<LrOutcome> tried = {};
  std::optional<size_t> chosen = {};  ///< index into the grid
  bool complete = false;              ///< every seed of the chosen one is done and nothing of the group is open
  /// The chosen one is the first or last of a grid of several: a better one may lie beyond it.
  enum class Edge { no, lowest, highest } edge = Edge::no;
};

class Comparison {
 public:
  explicit Comparison(ComparePlan plan);

  const ComparePlan& plan() const { return plan_; }
  /// All cells, in the order in which they run: seed by seed, so that whatever is finished can be compared.
  const std::vector<Cell>& cells() const { return cells_; }
  const CellOutcome& outcome(size_t cell) const { return outcomes_.at(cell); }
  size_t index_of(const Cell& cell) const { return index_.at(cell); }
  /// Every group once, by number of rows, then rank, then method.
  const std::vector<Group>& groups() const { return groups_; }
  /// The group that stands for a method at a rank: the same for every rank when the method has none.
  Group group_at(size_t method, int64_t rank, int64_t samples) const;
  /// "deep-lora-r8-n64-lr0.001-s1": name of the cell's run folder; different for every cell.
  std::string name(const Cell& cell) const;
  /// "Deep LoRA, rank 8, 64 rows, lr 0.001, seed 1".
  std::string title(const Cell& cell) const;

  void set_better(bool higher) { higher_is_better_ = higher; }
  bool higher_is_better() const { return higher_is_better_; }
  /// What became of a cell, whether its learning rate was given up or not: drop_hopeless() decides anew what counts.
  void settle(size_t cell, CellOutcome outcome);

  /// Cells that need not run any more, and cells that must run after all, since the last call.
  struct Drops {
    std::vector<size_t> given_up, taken_back;
  };
  /// Gives up learning rates that cannot be chosen:
  /// - the remaining seeds of a learning rate that diverged with one;
  /// - once the first early_stop.seeds seeds of every learning rate of the group have run to their end: the remaining
  /// seeds of
  ///   those whose mean dev score is undefined or more than margin worse than the group's best (score units; where
  ///   lower is better, a share of the best). A learning rate that diverged with any seed is no yardstick: when it does
  ///   so later, what was given up for it runs after all.
  /// The rule looks at dev only, at whole runs only (a method that starts slowly is not cut short), and compares
  /// learning rates of one group only, never methods; the outcome does not depend on which cell finished first.
  Drops drop_hopeless();
  /// The next open cell that may run: not in `running`, and not waiting for drop_hopeless() to decide about its
  /// learning rate.
  std::optional<size_t> next(const std::set<size_t>& running) const;
  size_t count(CellState state) const;

  LrChoice choice(const Group& group) const;

 private:
  bool early_seeds_settled(const Group& group) const;
  std::vector<double> dev_of(const Group& group, size_t lr, size_t seeds) const;
  /// By more than rounding: means of the same scores in another order are as good as each other.
  bool better(double a, double b) const;
  bool diverged(const Group& group, size_t lr) const;
  void drop_rest(const Group& group, size_t lr, size_t first_seed, const std::string& reason);
  void drop_far_from_best(const Group& group);
  LrOutcome describe(const Group& group, size_t lr) const;

  ComparePlan plan_;
  std::vector<Cell> cells_;
  std::vector<CellOutcome> settled_;   ///< as the cells ended
  std::vector<CellOutcome> outcomes_;  ///< what counts: those, or dropped
  std::vector<Group> groups_;
  std::map<Cell, size_t> index_;
  bool higher_is_better_ = true;
};

/// "Deep LoRA (eps 1e-3)" as "deep-lora-eps-1e-3".
std::string slug(const std::string& name);

}  // namespace deeplora
