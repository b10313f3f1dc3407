#include "train/movement.h"

#include <torch/torch.h>

#include "core/error.h"
#include "train/fingerprint.h"
#include "train/gradients.h"

namespace deeplora {
namespace {

std::vector<std::string> names_of(const ParamGroup& group) {
  std::vector<std::string> out;
  for (const auto& parameter : group.params) out.push_back(parameter.name);
  return out;
}

}  // namespace

MovementGuard::MovementGuard(const std::vector<ParamGroup>& groups) {
  for (const auto& group : groups)
    if (group.lr_scale != 0.0)
      for (const auto& [name, value] : group.params) starting_bits_[name] = fingerprint(value);
}

void MovementGuard::check_moved(const std::vector<ParamGroup>& groups, int64_t steps, double lr) {
  std::vector<std::string> still;
  for (const auto& group : groups) {
    if (group.lr_scale == 0.0 || group.params.empty()) continue;
    bool moved = false;
    for (const auto& [name, value] : group.params) moved = moved || fingerprint(value) != starting_bits_.at(name);
    if (moved) continue;
    for (const auto& name : names_of(group)) still.push_back(name);
  }
  check(still.empty(), "training changes nothing: after ", steps, steps == 1 ? " step" : " steps", " at learning rate ",
        lr, " these tensors still hold their starting bits: ", join(still),
        "; raise train.lr, or check that the loss depends on them");
  starting_bits_.clear();
}

std::vector<std::string> check_connected(const std::vector<ParamGroup>& groups) {
  std::vector<std::string> without;
  Errors errors;
  for (const auto& group : groups) {
    if (group.lr_scale == 0.0 || group.params.empty()) continue;
    const auto names = without_gradient(group);
    if (names.size() == group.params.size()) errors.add(join(names));
    without.insert(without.end(), names.begin(), names.end());
  }
  errors.throw_if_any(
      "the loss does not depend on these trained tensors (no gradient); leave them out of adapter.targets");
  return without;
}

}  // namespace deeplora
