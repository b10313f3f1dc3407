// Relative positions in buckets, as T5 and MPNet have them, and as DeBERTa has them.
#pragma once

#include <torch/types.h>

namespace deeplora {

/// Buckets of key - query distances, int64 [T, S] -> [T, S]: each direction's own half where both are seen; exact up to
/// half of a direction's buckets, then logarithmic up to `max_distance` (Raffel et al. 2020, arXiv 1910.10683).
torch::Tensor relative_buckets(const torch::Tensor& distance, bool bidirectional, int64_t buckets,
                               int64_t max_distance);

/// DeBERTa's buckets of query - key distances, int64 of any shape -> the same: exact up to half of `buckets` on either
/// side, then logarithmic up to `farthest`; with 0 buckets the distance itself (He et al. 2021, arXiv 2111.09543).
torch::Tensor log_buckets(const torch::Tensor& distance, int64_t buckets, int64_t farthest);

}  // namespace deeplora
