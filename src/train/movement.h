// Catches the silent failure of a fine-tuning run: it ends well, and nothing was learnt because nothing
// moved.
#pragma once

#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/optimizer.h"

namespace deeplora {

/// Remembers the starting bits of every parameter until each group was seen to have changed. Groups with
/// lr_scale 0 are meant to stand still and are left out.
class MovementGuard {
 public:
  explicit MovementGuard(const std::vector<ParamGroup>& groups);
  /// Goes on with what saved() gave.
  explicit MovementGuard(std::map<std::string, std::string> saved) : starting_bits_(std::move(saved)) {}
  const std::map<std::string, std::string>& saved() const { return starting_bits_; }

  bool passed() const { return starting_bits_.empty(); }
  /// Nothing when every group changed in at least one bit since the start; the guard is done then. Throws
  /// Error naming the tensors of the groups that did not, after `steps` steps at a largest learning rate of
  /// `lr`.
  void check_moved(const std::vector<ParamGroup>& groups, int64_t steps, double lr);

 private:
  std::map<std::string, std::string> starting_bits_;  ///< parameter name -> fingerprint
};

/// To be called after the first backward pass. Throws Error when no parameter of a group that is to be
/// trained has a gradient; returns the names of single parameters that have none.
std::vector<std::string> check_connected(const std::vector<ParamGroup>& groups);

}  // namespace deeplora
