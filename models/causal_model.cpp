#include "models/causal_model.h"

#include <torch/torch.h>

#include <algorithm>

#include "lm/token_labels.h"
#include "models/checkpointing.h"
#include "models/rotary.h"

namespace deeplora {
namespace {

/// True when some row has padding before a token.
bool pads_before_tokens(const torch::Tensor& mask) {
  return mask.size(1) > 1 && mask.slice(1, 1).gt(mask.slice(1, 0, -1)).any().item<bool>();
}

torch::Tensor repeat_heads(const torch::Tensor& x, int64_t times) {  // [B, G, S, d] -> [B, G * times, S, d]
  if (times == 1) return x;
  return x.unsqueeze(2).expand({x.size(0), x.size(1), times, x.size(2), x.size(3)}).flatten(1, 2);
}

/// Softmax attention whose scores are bounded (Gemma 2), q, k, v [B, H, T or S, d], look bool [B or 1, 1, T, S] -> [B,
/// H, T, d].
torch::Tensor capped_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                               const torch::Tensor& look, const AttentionShape& shape) {
  const torch::Tensor scores = shape.cap * torch::tanh(torch::matmul(q, k.transpose(2, 3)) * (shape.scale / shape.cap));
  const torch::Tensor wide = scores.scalar_type() == torch::kFloat64 ? scores : scores.to(torch::kFloat32);
  const torch::Tensor weights =
      at::softmax(wide.masked_fill(look.logical_not(), -std::numeric_limits<float>::infinity()), -1);
  return torch::matmul(at::dropout(weights, shape.dropout, shape.dropout > 0).to(v.scalar_type()), v);
}

class CausalDecoding : public DecodingState {
 public:
  CausalDecoding(CausalModel& model, const Batch& prompt) : model_(model), caches_(model.layer_count()) {
    const torch::NoGradGuard no_grad;
    const torch::Tensor& ids = prompt.input_ids;
    const torch::Tensor mask = prompt.attention_mask.defined() ? prompt.attention_mask : torch::ones_like(ids);
    check(mask.ne(0).any(1).all().item<bool>(), "a prompt without any token cannot be continued");
    const torch::Tensor last =
        ((mask != 0).to(torch::kInt64) * torch::arange(1, ids.size(1) + 1, ids.options())).argmax(1);
    seen_ = mask != 0;
    positions_ = prompt.position_ids.defined() ? prompt.position_ids : token_positions(mask);
    const int64_t stretch = std::max<int64_t>(1, model.prompt_cells() / ids.size(0));
    logits_ = model_.logits_of(ids.size(1) <= stretch ? read_whole(prompt, last) : read_by(stretch, ids, last));
    positions_ = positions_.gather(1, last.unsqueeze(1)).squeeze(1) + 1;
  }

  torch::Tensor logits() const override { return logits_; }

  void advance(const torch::Tensor& ids) override {
    const torch::NoGradGuard no_grad;
    seen_ = torch::cat({seen_, torch::ones({seen_.size(0), 1}, seen_.options())}, 1);
    const auto pass = std::make_shared<const CausalPass>(seen_, positions_.unsqueeze(1));
    logits_ = model_.logits_of(model_.run(ids, pass, &caches_));
    positions_ = positions_ + 1;
  }

  void reorder(const torch::Tensor& rows) override {
    const torch::NoGradGuard no_grad;
    for (auto& cache : caches_) cache.reorder(rows);
    for (torch::Tensor* x : {&seen_, &positions_, &logits_}) *x = x->index_select(0, rows);
  }

 private:
  /// States [B, D] of the rows' last tokens, which stand in the cells `last` [B].
  torch::Tensor read_whole(const Batch& prompt, const torch::Tensor& last) {
    const auto pass = std::make_shared<const CausalPass>(prompt);
    const torch::Tensor hidden =
        pass->packing().unpack(model_.run(pass->packing().pack(prompt.input_ids), pass, &caches_));
    return hidden.index({torch::arange(last.size(0), last.options()), last});
  }
  /// The same, so many cells of every row at a time.
  torch::Tensor read_by(int64_t stretch, const torch::Tensor& ids, const torch::Tensor& last) {
    torch::Tensor out;
    for (int64_t first = 0; first < ids.size(1); first += stretch) {
      const int64_t count = std::min(stretch, ids.size(1) - first);
      const auto pass =
          std::make_shared<const CausalPass>(seen_.narrow(1, 0, first + count), positions_.narrow(1, first, count));
      const torch::Tensor hidden =
          pass->packing().unpack(model_.run(pass->packing().pack(ids.narrow(1, first, count)), pass, &caches_));
      const torch::Tensor here = last - first, row = torch::arange(last.size(0), last.options()),
                          states = hidden.index({row, here.clamp(0, count - 1)});
      // A row whose last token stood before has its state; one whose last token is to come gets another.
      out = out.defined() ? torch::where(here.unsqueeze(1) >= 0, states, out) : states;
    }
    return out;
  }

  CausalModel& model_;
  std::vector<KeyValues> caches_;
  torch::Tensor seen_;       ///< [B, S] bool
  torch::Tensor positions_;  ///< [B] of the next token
  torch::Tensor logits_;     ///< [B, V]
};

}  // namespace

void KeyValues::append(const torch::Tensor& more_keys, const torch::Tensor& more_values) {
  keys = keys.defined() ? torch::cat({keys, more_keys}, 2) : more_keys;
  values = values.defined() ? torch::cat({values, more_values}, 2) : more_values;
}

void KeyValues::reorder(const torch::Tensor& rows) {
  if (!keys.defined()) return;
  keys = keys.index_select(0, rows);
  values = values.index_select(0, rows);
}

CausalPass::CausalPass(const Batch& batch)
    : tokens_(batch.input_ids.size(1)),
      cells_(tokens_),
      packing_(batch.attention_mask, batch.input_ids.size(0), tokens_, batch.input_ids.device()) {
  const torch::Tensor mask = batch.attention_mask.defined() ? batch.attention_mask : torch::ones_like(batch.input_ids);
  positions_ = packing_.pack(batch.position_ids.defined() ? batch.position_ids : token_positions(mask));
  // Padding behind the tokens is in their future, where no token looks.
  if (packing_.attention_mask().defined() && pads_before_tokens(mask)) seen_ = mask != 0;
}

CausalPass::CausalPass(torch::Tensor seen, const torch::Tensor& positions)
    : tokens_(positions.size(1)),
      cells_(seen.size(1)),
      packing_({}, seen.size(0), tokens_, seen.device()),
      positions_(packing_.pack(positions)) {
  if (!seen.all().item<bool>()) seen_ = std::move(seen);
}

torch::Tensor CausalPass::mask(int64_t window) const {
  const bool hides_far = window > 0 && window < cells_;
  const bool behind = tokens_ > 1 && tokens_ < cells_;  // LibTorch's own causal order begins at the first cell
  if (!seen_.defined() && !hides_far && !behind) return {};
  const auto found = masks_.find(hides_far ? window : 0);
  if (found != masks_.end()) return found->second;
  const auto options = positions_.options();
  const torch::Tensor distance =
      torch::arange(cells_ - tokens_, cells_, options).unsqueeze(1) - torch::arange(cells_, options).unsqueeze(0);
  torch::Tensor look = distance >= 0;
  if (hides_far) look = look & (distance < window);
  look = look.unsqueeze(0).unsqueeze(0);
  // A cell looks at itself whatever it is: padding without any visible key would be NaN.
  if (seen_.defined()) look = look & (seen_.unsqueeze(1).unsqueeze(1) | (distance == 0));
  return masks_[hides_far ? window : 0] = look;
}

torch::Tensor CausalPass::causal_mask(int64_t cells) const {
  const auto options = positions_.options();
  const torch::Tensor row = torch::arange(cells - tokens_, cells, options).unsqueeze(1),
                      column = torch::arange(cells, options).unsqueeze(0);
  return (column <= row).unsqueeze(0).unsqueeze(0);
}

const RotaryAngles& CausalPass::angles(const torch::Tensor& frequencies) const {
  RotaryAngles& angles = angles_[frequencies.const_data_ptr()];
  if (!angles.cosines.defined()) angles = rotary_angles(positions_, frequencies);
  return angles;
}

torch::Tensor CausalPass::attend(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                 const AttentionShape& shape, KeyValues* cache,
                                 const torch::Tensor& frequencies) const {
  const RotaryAngles turn = frequencies.defined() ? angles(frequencies) : RotaryAngles{};
  if (!cache && shape.cap == 0 && can_attend_packed(q, k, v)) {
    return sequence_attention(q, k, v,
                              {.heads = shape.heads,
                               .kv_heads = shape.kv_heads,
                               .scale = shape.scale,
                               .causal = true,
                               .window = shape.window,
                               .dropout = shape.dropout},
                              packing_.offsets(), turn);
  }
  const auto split = [&](const torch::Tensor& x, int64_t heads) {  // [N, H*d] -> [B, H, T, d]
    return packing_.unpack(x).view({packing_.batch(), tokens_, heads, -1}).transpose(1, 2);
  };
  const torch::Tensor queries = split(rotated(q, shape.heads, turn), shape.heads);
  KeyValues here{split(rotated(k, shape.kv_heads, turn), shape.kv_heads), split(v, shape.kv_heads)};
  if (cache) {
    cache->append(here.keys, here.values);
    here = *cache;
  }
  const int64_t times = shape.heads / shape.kv_heads;
  const torch::Tensor look = mask(shape.window);
  if (shape.cap > 0) {
    const torch::Tensor visible = look.defined() ? look : causal_mask(here.keys.size(2));
    return packing_.pack(
        capped_attention(queries, repeat_heads(here.keys, times), repeat_heads(here.values, times), visible, shape)
            .transpose(1, 2)
            .flatten(2));
  }
  const torch::Tensor out =
      at::scaled_dot_product_attention(queries, repeat_heads(here.keys, times), repeat_heads(here.values, times),
                                       look.defined() ? std::optional(look) : std::nullopt, shape.dropout,
                                       /*is_causal=*/!look.defined() && tokens_ > 1, shape.scale);
  return packing_.pack(out.transpose(1, 2).flatten(2));
}

ModelOutput CausalModel::forward(const Batch& batch) {
  const auto pass = std::make_shared<const CausalPass>(batch);
  const torch::Tensor hidden = run(pass->packing().pack(batch.input_ids), pass, nullptr);
  if (head_kind_ == HeadKind::none) return {.hidden = pass->packing().unpack(hidden), .logits = {}};
  if (head_kind_ == HeadKind::tokens)
    return {.hidden = {}, .logits = pass->packing().unpack(classifier_->forward(hidden))};
  if (classifier_)
    return {.hidden = {}, .logits = classifier_->forward(last_states(batch, pass->packing().unpack(hidden)))};
  return {.hidden = {}, .logits = pass->packing().unpack(logits_of(hidden))};
}

torch::Tensor CausalModel::last_states(const Batch& batch, const torch::Tensor& states) const {
  torch::Tensor counts =
      batch.attention_mask.defined() ? batch.attention_mask.ne(0) : torch::ones_like(batch.input_ids).to(torch::kBool);
  if (padding_ >= 0) counts = counts.logical_and(batch.input_ids.ne(padding_));
  return last_chosen(states, counts);
}

torch::Tensor CausalModel::token_losses(const Batch& batch) {
  AdapterSlot& output = lm_head_ ? static_cast<AdapterSlot&>(*lm_head_) : *words_;
  if (logits_cap_ > 0 || !output.can_give_loss()) return {};
  check_labels_fit(batch.labels, batch.input_ids);
  const auto pass = std::make_shared<const CausalPass>(batch);
  // Rows behind the last sequence stand for no token.
  const int64_t tokens = pass->packing().offsets().back();
  return output.token_losses(run(pass->packing().pack(batch.input_ids), pass, nullptr).narrow(0, 0, tokens),
                             pass->packing().pack(batch.labels).narrow(0, 0, tokens));
}

torch::Tensor CausalModel::logits_of(const torch::Tensor& hidden) {
  const torch::Tensor logits = lm_head_ ? lm_head_(hidden) : words_->project(hidden);
  return logits_cap_ > 0 ? logits_cap_ * torch::tanh(logits / logits_cap_) : logits;
}

torch::Tensor CausalModel::run(const torch::Tensor& ids, const std::shared_ptr<const CausalPass>& pass,
                               std::vector<KeyValues>* caches) {
  torch::Tensor x = embed(ids, *pass);
  for (size_t i = 0; i < layers_.size(); ++i) {
    const auto& layer = layers_[i];
    if (checkpointing_ && !caches)
      x = recomputed(*layer, {x}, [layer, pass](const std::vector<torch::Tensor>& in) {
        return layer->forward(in[0], *pass, nullptr);
      });
    else x = layer->forward(x, *pass, caches ? &caches->at(i) : nullptr);
  }
  return normalise(x);
}

std::vector<AdapterSite> CausalModel::sites() {
  std::vector<AdapterSite> out;
  out.push_back(words_->word_site(lm_head_ || head_kind_ != HeadKind::as_files ? 1 : 2));
  add_embedding_sites(out);
  for (const auto& layer : layers_) layer->add_sites(out);
  if (lm_head_) out.push_back(lm_head_->site("lm_head"));
  if (classifier_) classifier_->add_sites(out);
  return out;
}

std::unique_ptr<DecodingState> CausalModel::begin_decoding(const Batch& prompt) {
  return std::make_unique<CausalDecoding>(*this, prompt);
}

ClassHeadForm score_form() { return {.last = "score", .last_bias = {false}}; }

void CausalModel::take_head(const ModelFiles& files, WeightMap& above, WeightMap& weights, const std::string& table,
                            int64_t vocabulary, int64_t width, const ModelOptions& options) {
  head_kind_ = options.head;
  if (head_kind_ == HeadKind::as_files && !files.holds_code() && !above.has("lm_head.weight")) {
    const bool of_tokens = has_token_head(files.config()) && !token_head_.last.empty();
    if (holds_class_head(files, of_tokens ? token_head_ : score_form(), above.prefix()))
      head_kind_ = of_tokens ? HeadKind::tokens : HeadKind::classes;
  }
  if (head_kind_ == HeadKind::classes || head_kind_ == HeadKind::tokens)
    take_classifier(files, above, weights, width, options);
  else if (head_kind_ == HeadKind::as_files && !above.tied("lm_head.weight", table))
    lm_head_ = register_module("lm_head", above.projection("lm_head", vocabulary, width, DeclaredBias{false}));
}

void CausalModel::take_classifier(const ModelFiles& files, WeightMap& above, WeightMap& weights, int64_t width,
                                  const ModelOptions& options) {
  const bool of_tokens = head_kind_ == HeadKind::tokens;
  padding_ = files.config().value("pad_token_id", int64_t{-1});
  classifier_ = register_module("classifier", std::make_shared<ClassificationHead>(
                                                  above, weights, of_tokens ? token_head_ : score_form(), width,
                                                  of_tokens ? token_dropout(files.config(), options) : 0.0, options));
}

void CausalModel::add_layer(std::shared_ptr<CausalLayer> layer) {
  layers_.push_back(register_module("layer" + std::to_string(layers_.size()), std::move(layer)));
}

torch::Tensor token_positions(const torch::Tensor& mask) { return (mask.to(torch::kInt64).cumsum(1) - 1).clamp_min(0); }

std::string prefix_above(const std::string& prefix) {
  const size_t dot = prefix.size() < 2 ? std::string::npos : prefix.rfind('.', prefix.size() - 2);
  return dot == std::string::npos ? "" : prefix.substr(0, dot + 1);
}

}  // namespace deeplora
