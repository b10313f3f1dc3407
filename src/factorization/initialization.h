// The starting points of method paper section 1 and 2: every method is a chain with its own initialisation.
#pragma once

#include <ATen/core/Generator.h>

#include "factorization/factor_chain.h"

namespace deeplora {

/// Which side of a two-factor chain starts at zero.
enum class ZeroSide { output /* Hu et al.: B = 0 */, input /* the Deep LoRA authors' baseline: A = 0 */ };

/// LoRA as PEFT starts it: A [r, n] uniform(-1/sqrt n, 1/sqrt n) (= Kaiming uniform with a = sqrt 5), B [m,
/// r] = 0. Factors are named "A" and "B". shape.depth must be 2 (std::invalid_argument otherwise, here and
/// below).
FactorChain kaiming_zero_chain(ChainShape shape, double scale, at::Generator generator,
                               torch::TensorOptions options = {});

/// N(0, std^2) on one side, zeros on the other. Factors "A" and "B".
FactorChain gaussian_zero_chain(ChainShape shape, ZeroSide zero_side, double std, double scale, at::Generator generator,
                                torch::TensorOptions options = {});

/// Deep LoRA: every factor is init_scale x a uniformly random (semi-)orthogonal matrix. Factors "W1".."WL";
/// outer widths m and n, inner width shape.width. A factor wider than tall has orthonormal rows, else
/// orthonormal columns. `scale` multiplies the product.
FactorChain orthogonal_chain(ChainShape shape, double init_scale, at::Generator generator,
                             torch::TensorOptions options = {}, double scale = 1.0);

/// Section 2's compressed chain U (eps I)^L V^T from the leading singular pairs of the gradient at the start,
/// found without any full-width factor. left [m, k], right [n, k] orthonormal columns (k = r'); the result
/// has inner width 2k, factors "V" (= V^T, [2k, n]), "W1".."WL" ([2k, 2k], init_scale x I) and "U" ([m, 2k]);
/// the outer two carry outer_lr_scale (gamma). 2k must not exceed min(m, n). Computed in float64, returned in
/// left's dtype and device.
///
/// It is the compression of a full-width chain whose product starts at eps^L P, P random and semi-orthogonal,
/// of which only the action on 2k vectors is drawn. For m = n, P is Haar-distributed. For m != n it is so
/// among the P that keep the gradient's directions (v_g in P's row space, u_g in its column space): the
/// condition under which the 2k-dimensional subspaces are invariant and P is an isometry between them, so
/// that U and V are both orthonormal. Throws std::invalid_argument when the sizes do not fit.
FactorChain compressed_chain(const torch::Tensor& left, const torch::Tensor& right, int64_t depth, double init_scale,
                             double outer_lr_scale, at::Generator generator, double scale = 1.0);

/// The compression of a given full-width chain (all inner widths min(m, n), factors init_scale x orthogonal), by its
/// own P = W(0) / init_scale^L: V = orth[V_G, P^T U_G], U = P V, inner factors init_scale x I. Factors and names as
/// compressed_chain. P is applied factor by factor, but the full chain must exist. Throws std::invalid_argument when
/// the sizes do not fit.
FactorChain compression_of(const FactorChainImpl& full, const torch::Tensor& left, const torch::Tensor& right,
                           double init_scale, double outer_lr_scale);

/// A uniformly random (Haar) matrix [rows, cols] with orthonormal columns (rows >= cols) or rows (rows <
/// cols).
torch::Tensor random_semi_orthogonal(int64_t rows, int64_t cols, at::Generator generator,
                                     torch::TensorOptions options = {});

}  // namespace deeplora
