#include "models/packing.h"

#include <ATen/autocast_mode.h>
#include <torch/torch.h>

#include <algorithm>

#include "models/attention.h"

namespace deeplora {
namespace {

constexpr int64_t kRowMultiple = 32;

int64_t spare_rows(int64_t rows, torch::Device device) {
  const bool compiles = device.is_cpu() && at::autocast::is_autocast_enabled(at::kCPU);
  return compiles ? (kRowMultiple - rows % kRowMultiple) % kRowMultiple : 0;
}

}  // namespace

Packing::Packing(const torch::Tensor& mask, int64_t batch, int64_t tokens, torch::Device device)
    : batch_(batch), tokens_(tokens) {
  for (int64_t s = 0; s <= batch; ++s) offsets_.push_back(s * tokens);
  if (!mask.defined()) return;
  const torch::Tensor keep = mask.to(device) != 0;
  const torch::Tensor index = keep.reshape({-1}).nonzero().squeeze(1);
  const bool padded = index.size(0) < batch * tokens;
  spare_ = spare_rows(index.size(0), device);
  if (!padded && spare_ == 0) return;
  index_ = spare_ > 0 ? at::cat({index, index.narrow(0, 0, 1).expand(spare_)}) : index;
  if (!padded) return;
  attention_mask_ = keep.view({batch, 1, 1, tokens});
  const torch::Tensor ends = keep.sum(1).cumsum(0).cpu();
  std::copy_n(ends.const_data_ptr<int64_t>(), batch, offsets_.begin() + 1);
}

torch::Tensor Packing::pack(const torch::Tensor& padded) const {
  const torch::Tensor flat = padded.flatten(0, 1);
  return index_.defined() ? flat.index_select(0, index_) : flat;
}

torch::Tensor Packing::unpack(const torch::Tensor& packed) const {
  if (!attention_mask_.defined()) return packed.narrow(0, 0, batch_ * tokens_).view({batch_, tokens_, packed.size(1)});
  torch::Tensor cells = torch::zeros({batch_ * tokens_, packed.size(1)}, packed.options());
  const int64_t tokens = index_.size(0) - spare_;
  return cells.index_copy_(0, index_.narrow(0, 0, tokens), packed.narrow(0, 0, tokens))
      .view({batch_, tokens_, packed.size(1)});
}

bool Packing::has_first_tokens() const {
  return tokens_ > 0 && (!attention_mask_.defined() || attention_mask_.select(3, 0).all().item<bool>());
}

bool Packing::has_no_gaps() const {
  if (!attention_mask_.defined() || tokens_ < 2) return true;
  const torch::Tensor keep = attention_mask_.view({batch_, tokens_});
  const torch::Tensor starts =
      keep.slice(1, 1).logical_and(keep.slice(1, 0, -1).logical_not()).sum(1) + keep.select(1, 0);
  return starts.le(1).all().item<bool>();
}

torch::Tensor Packing::first_tokens(const torch::Tensor& packed) const {
  const torch::Tensor first = torch::tensor(std::vector<int64_t>(offsets_.begin(), offsets_.end() - 1));
  return packed.index_select(0, first.to(packed.device()));
}

torch::Tensor Packing::without_padding(const torch::Tensor& scores) const {
  return attention_mask_.defined() ? scores.masked_fill(attention_mask_.logical_not(), kHiddenScore) : scores;
}

Packing Packing::rows(const torch::Tensor& rows) const {
  Packing out = *this;
  out.batch_ = rows.size(0);
  out.index_.reset();
  out.spare_ = 0;
  out.offsets_.clear();
  if (attention_mask_.defined()) out.attention_mask_ = attention_mask_.index_select(0, rows);
  return out;
}

namespace {

/// [N, D] -> [B, H, T, D/H]
torch::Tensor split_heads(const torch::Tensor& x, const Packing& packing, int64_t heads) {
  return packing.unpack(x).view({packing.batch(), packing.tokens(), heads, -1}).transpose(1, 2);
}

/// Attention over padded rows; `mask` as scaled_dot_product_attention() takes it, or undefined.
torch::Tensor padded_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, int64_t heads,
                               const Packing& packing, const torch::Tensor& mask, double dropout, bool first_only) {
  const torch::Tensor queries = first_only ? q.view({packing.batch(), heads, 1, -1}) : split_heads(q, packing, heads);
  const torch::Tensor out =
      at::scaled_dot_product_attention(queries, split_heads(k, packing, heads), split_heads(v, packing, heads),
                                       mask.defined() ? std::optional(mask) : std::nullopt, dropout);
  return first_only ? out.flatten(1) : packing.pack(out.transpose(1, 2).flatten(2));
}

}  // namespace

torch::Tensor packed_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, int64_t heads,
                               const Packing& packing, double dropout, bool first_only) {
  if (can_attend_packed(q, k, v))
    return sequence_attention(
        q, k, v, {.heads = heads, .kv_heads = heads, .first_only = first_only, .dropout = dropout}, packing.offsets());
  return padded_attention(q, k, v, heads, packing, packing.attention_mask(), dropout, first_only);
}

torch::Tensor biased_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, int64_t heads,
                               const Packing& packing, const torch::Tensor& bias, double dropout, bool first_only) {
  const torch::Tensor scores = first_only ? bias.slice(2, 0, 1) : bias;
  return padded_attention(q, k, v, heads, packing, scores.to(q.scalar_type()), dropout, first_only);
}

}  // namespace deeplora
