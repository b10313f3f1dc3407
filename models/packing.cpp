#include "models/packing.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "models/attention.h"
#include "models/dropout.h"

namespace deeplora {

Packing::Packing(const torch::Tensor& mask, int64_t batch, int64_t tokens, torch::Device device) : batch_(batch), tokens_(tokens) {
  for (int64_t s = 0; s <= batch; ++s) offsets_.push_back(s * tokens);
  if (!mask.defined()) return;
  const torch::Tensor keep = mask.to(device) != 0;
  const torch::Tensor index = keep.reshape({-1}).nonzero().squeeze(1);
  if (index.size(0) == batch * tokens) return;
  index_ = index;
  attention_mask_ = keep.view({batch, 1, 1, tokens});
  const torch::Tensor ends = keep.sum(1).cumsum(0).cpu();
  std::copy_n(ends.const_data_ptr<int64_t>(), batch, offsets_.begin() + 1);
}

torch::Tensor Packing::pack(const torch::Tensor& padded) const {
  const torch::Tensor flat = padded.flatten(0, 1);
  return index_.defined() ? flat.index_select(0, index_) : flat;
}

torch::Tensor Packing::unpack(const torch::Tensor& packed) const {
  if (!index_.defined()) return packed.view({batch_, tokens_, packed.size(1)});
  torch::Tensor cells = torch::zeros({batch_ * tokens_, packed.size(1)}, packed.options());
  return cells.index_copy_(0, index_, packed).view({batch_, tokens_, packed.size(1)});
}

Packing Packing::rows(const torch::Tensor& rows) const {
  Packing out = *this;
  out.batch_ = rows.size(0);
  out.index_.reset();
  out.offsets_.clear();
  if (attention_mask_.defined()) out.attention_mask_ = attention_mask_.index_select(0, rows);
  return out;
}

namespace {

/// Up to so many tokens in the longest sequence our own loops are faster than LibTorch's batched products (measured: docs/performance.md).
constexpr int64_t kShort = 24;

bool is_packed_float(const torch::Tensor& x) { return x.device().is_cpu() && x.scalar_type() == torch::kFloat32; }

}  // namespace

torch::Tensor packed_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, int64_t heads,
                               const Packing& packing, double dropout) {
  const bool plain = is_packed_float(q) && is_packed_float(k) && is_packed_float(v) && q.numel() > 0;
  if (plain && packing.tokens() <= kShort) return sequence_attention(q, k, v, heads, packing.offsets(), dropout);
  const auto split = [&](const torch::Tensor& x) {  // [N, D] -> [B, H, T, D/H]
    return packing.unpack(x).view({packing.batch(), packing.tokens(), heads, -1}).transpose(1, 2);
  };
  const torch::Tensor& seen = packing.attention_mask();
  torch::Tensor out;
  if (plain && dropout > 0) {  // LibTorch has no fused attention with dropout, and draws its masks one by one
    const double scale = 1.0 / std::sqrt(static_cast<double>(q.size(1) / heads));
    torch::Tensor scores = at::matmul(split(q) * scale, split(k).transpose(2, 3));
    if (seen.defined()) scores = scores.masked_fill(seen.logical_not(), -std::numeric_limits<float>::infinity());
    out = at::matmul(seeded_dropout(scores.softmax(-1), dropout), split(v));
  } else {
    out = at::scaled_dot_product_attention(split(q), split(k), split(v), seen.defined() ? std::optional(seen) : std::nullopt, dropout);
  }
  return packing.pack(out.transpose(1, 2).flatten(2));
}

}  // namespace deeplora
