// What the theory says about the factors over training: singular values, and subspaces that stay where they started.
#pragma once

#include <nlohmann/json.hpp>

#include <vector>

#include "factorization/factor_chain.h"
#include "factorization/spectral.h"

namespace deeplora {

/// Watches a chain. For a full-width chain (every factor square or the smaller side wide) started at eps x orthogonal
/// factors it knows the subspaces that the gradient at the start picks out (Theorem 2.1 of arXiv 2406.04112): V_1 =
/// span[V_G, P^T U_G] of dimension 2r, V_{l+1} = W_l(0) V_l. On the complement of V_l the factor W_l is to stay as it
/// was, and it is to map V_l into V_{l+1}.
class SubspaceTracker {
 public:
  /// `pairs`: the leading r singular pairs of the gradient at the start; undefined ones: no subspaces are watched.
  SubspaceTracker(const FactorChainImpl& chain, const SingularPairs& pairs);

  /// {"singular_values": [k] of the product, "numerical_rank" at 1e-2 of the largest, "effective_rank",
  ///  "factors": [{"name", "singular_values": [leading 2r + 2], "smallest",
  ///               "tail_change": |(W_l - W_l(0)) on the complement| / |W_l(0) on it|,
  ///               "angle": largest principal angle between W_l V_l and V_{l+1} in degrees}]}; the last two for
  ///               full-width
  /// chains only.
  nlohmann::ordered_json operator()(const FactorChainImpl& chain) const;

 private:
  struct Watched {
    torch::Tensor start;    ///< W_l(0)
    torch::Tensor inside;   ///< V_l [d_{l-1}, 2r]
    torch::Tensor outside;  ///< its complement
    torch::Tensor image;    ///< V_{l+1}
  };
  std::vector<Watched> watched_;
  int64_t shown_;
};

}  // namespace deeplora
