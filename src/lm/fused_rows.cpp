#include "lm/fused_rows.h"

#include <torch/torch.h>

#include <algorithm>

#include "factorization/chain_linear.h"
#include "lm/targets.h"

namespace deeplora {
namespace {

/// In the slot of a fused weight: each block of rows is a layer of its own, with its adapter or without.
class BlockAdapters : public Adapter {
 public:
  explicit BlockAdapters(const AdapterSite& whole)
      : blocks_(whole.blocks), adapters_(whole.blocks.size()), seen_(whole.weight.detach()) {
    for (const auto& block : blocks_) rows_.push_back(block.of(seen_));
    version_ = seen_._version();
  }

  void put(size_t block, std::shared_ptr<Adapter> adapter) {
    if (adapters_[block]) unregister_module(blocks_[block].role);
    adapters_[block] = std::move(adapter);
    if (adapters_[block]) register_module(blocks_[block].role, adapters_[block]);
  }
  bool empty() const {
    return std::none_of(adapters_.begin(), adapters_.end(), [](const auto& adapter) { return adapter != nullptr; });
  }
  /// The rows of one block, made once.
  const torch::Tensor& rows_of(size_t block) const { return rows_[block]; }

  torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias) override {
    const bool same = same_weight(weight);
    return together([&](size_t i) {
      const torch::Tensor rows = same ? rows_[i] : blocks_[i].of(weight);
      const torch::Tensor part = bias.defined() ? blocks_[i].of(bias) : bias;
      return adapters_[i] ? adapters_[i]->linear(x, rows, part) : frozen_linear(x, rows, part);
    });
  }
  torch::Tensor forward(const torch::Tensor& x) override {
    return together([&](size_t i) {
      if (adapters_[i]) return adapters_[i]->forward(x);
      std::vector<int64_t> shape = x.sizes().vec();
      shape.back() = blocks_[i].groups * blocks_[i].size;
      return torch::zeros(shape, x.options());
    });
  }
  torch::Tensor rows(const torch::Tensor& ids) override { return delta().index({ids}); }
  torch::Tensor delta() const override {
    torch::NoGradGuard no_grad;
    torch::Tensor out;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (!adapters_[i]) continue;
      const torch::Tensor part = adapters_[i]->delta();
      if (!out.defined()) out = torch::zeros(seen_.sizes(), part.options());
      blocks_[i].add_to(out, part);
    }
    return out;
  }
  std::vector<ParamGroup> param_groups() const override {
    std::vector<ParamGroup> out;
    for (size_t i = 0; i < blocks_.size(); ++i) {
      if (!adapters_[i]) continue;
      for (ParamGroup group : adapters_[i]->param_groups()) {
        for (auto& parameter : group.params) parameter.name = cat(blocks_[i].role, "/", parameter.name);
        out.push_back(std::move(group));
      }
    }
    return out;
  }
  std::vector<NamedTensor> tensors() const override {
    std::vector<NamedTensor> out;
    for (size_t i = 0; i < blocks_.size(); ++i)
      if (adapters_[i])
        for (const auto& [name, value] : adapters_[i]->tensors())
          out.push_back({cat(blocks_[i].role, "/", name), value});
    return out;
  }

 private:
  /// Outputs [..., groups x size] of all blocks in the fused weight's order, [..., out].
  template <class Layer>
  torch::Tensor together(Layer layer) const {
    std::vector<torch::Tensor> parts;
    for (size_t i = 0; i < blocks_.size(); ++i)
      parts.push_back(layer(i).unflatten(-1, {blocks_[i].groups, blocks_[i].size}));
    return torch::cat(parts, -1).flatten(-2);
  }

  /// Interleaved rows are copies: those made at the start serve as long as the weight is the frozen one.
  bool same_weight(const torch::Tensor& weight) const {
    return !weight.requires_grad() && weight.const_data_ptr() == seen_.const_data_ptr() &&
           weight.strides() == seen_.strides() && weight.scalar_type() == seen_.scalar_type() &&
           seen_._version() == version_;
  }

  std::vector<RowBlock> blocks_;
  std::vector<std::shared_ptr<Adapter>> adapters_;
  torch::Tensor seen_;
  std::vector<torch::Tensor> rows_;
  int64_t version_ = 0;
};

}  // namespace

std::string block_path(const AdapterSite& whole, const std::string& role) {
  return cat(module_path(whole.path), ".", role, ".weight");
}

std::vector<AdapterSite> block_sites(const AdapterSite& whole) {
  std::vector<AdapterSite> out;
  if (whole.blocks.empty()) return out;
  const auto slot = std::make_shared<BlockAdapters>(whole);
  for (size_t i = 0; i < whole.blocks.size(); ++i) {
    AdapterSite site = whole;
    site.blocks.clear();
    site.role = whole.blocks[i].role;
    site.path = block_path(whole, site.role);
    site.fused_path = whole.path;
    site.fused_weight = whole.weight;
    site.block = whole.blocks[i];
    site.weight = slot->rows_of(i);
    site.attach = [slot, i, attach = whole.attach](std::shared_ptr<Adapter> adapter) {
      slot->put(i, std::move(adapter));
      attach(slot->empty() ? nullptr : slot);
    };
    out.push_back(std::move(site));
  }
  return out;
}

}  // namespace deeplora
