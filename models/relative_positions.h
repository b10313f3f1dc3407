// Relative positions in buckets, as T5 and MPNet have them.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// Buckets of key - query distances, int64 [T, S] -> [T, S]: each direction's own half where both are seen; exact up to half
/// of a direction's buckets, then logarithmic up to `max_distance` (Raffel et al. 2020, arXiv 1910.10683).
torch::Tensor relative_buckets(const torch::Tensor& distance, bool bidirectional, int64_t buckets, int64_t max_distance);

}  // namespace deeplora
