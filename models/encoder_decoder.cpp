#include "models/encoder_decoder.h"

#include <torch/torch.h>

#include "lm/token_labels.h"

namespace deeplora {
namespace {

class SourceDecoding : public DecodingState {
 public:
  SourceDecoding(EncoderDecoder& model, const Batch& prompt) : model_(model), caches_(model.decoder_layers()) {
    const torch::NoGradGuard no_grad;
    const torch::Tensor& start = prompt.decoder_input_ids;
    check(start.defined() && start.dim() == 2 && start.size(1) >= 1,
          "decoding needs the decoder's first token in decoder_input_ids [B, 1]");
    std::tie(source_, source_packing_) = model_.encode(prompt);
    for (int64_t t = 0; t < start.size(1); ++t) SourceDecoding::advance(start.select(1, t));
  }

  torch::Tensor logits() const override { return logits_; }

  void advance(const torch::Tensor& ids) override {
    const torch::NoGradGuard no_grad;
    logits_ = model_.step(ids, before_++, source_, source_packing_, caches_);
  }

  void reorder(const torch::Tensor& rows) override {
    const torch::NoGradGuard no_grad;
    for (auto& cache : caches_) {
      cache.own.reorder(rows);
      cache.source.reorder(rows);
    }
    source_packing_ = std::make_shared<const Packing>(source_packing_->rows(rows));
    logits_ = logits_.index_select(0, rows);
  }

 private:
  EncoderDecoder& model_;
  std::vector<DecoderCache> caches_;
  torch::Tensor source_;  ///< read by the first step only, which keeps its keys and values
  std::shared_ptr<const Packing> source_packing_;
  int64_t before_ = 0;
  torch::Tensor logits_;  ///< [B, V]
};

}  // namespace

KeyValues DecoderCache::with_own(DecoderCache* cache, KeyValues more) {
  if (!cache) return more;
  cache->own.append(more.keys, more.values);
  return cache->own;
}

void EncoderDecoder::set_stacks(std::shared_ptr<SequenceStack> encoder, std::shared_ptr<SequenceStack> decoder) {
  encoder_ = register_module("encoder", std::move(encoder));
  decoder_ = register_module("decoder", std::move(decoder));
}

ModelOutput EncoderDecoder::forward(const Batch& batch) {
  if (classifier_) {
    const torch::Tensor states = end_states(read_itself(batch), batch.input_ids, batch.attention_mask, end_);
    return {.hidden = {}, .logits = classifier_->forward(states)};
  }
  const auto [states, packing] = decode(batch);
  return {.hidden = {}, .logits = packing->unpack(logits_of(states))};
}

torch::Tensor EncoderDecoder::token_losses(const Batch& batch) {
  AdapterSlot& output = lm_head_ ? static_cast<AdapterSlot&>(*lm_head_) : *words_;
  if (logits_bias().defined() || !output.can_give_loss()) return {};
  const auto [states, packing] = decode(batch);
  check_labels_fit(batch.labels, batch.decoder_input_ids);
  const int64_t tokens = batch.labels.numel();  // rows behind them stand for no token
  return output.token_losses(before_output(states.narrow(0, 0, tokens)), batch.labels.flatten());
}

std::vector<AdapterSite> EncoderDecoder::sites() {
  std::vector<AdapterSite> out{words_->word_site(lm_head_ || classifier_ ? 2 : 3)};
  encoder_->add_sites(out);
  decoder_->add_sites(out);
  if (lm_head_) out.push_back(lm_head_->site("lm_head"));
  if (classifier_) classifier_->add_sites(out);
  return out;
}

std::unique_ptr<DecodingState> EncoderDecoder::begin_decoding(const Batch& prompt) {
  return std::make_unique<SourceDecoding>(*this, prompt);
}

std::pair<torch::Tensor, std::shared_ptr<const Packing>> EncoderDecoder::encode(const Batch& batch) {
  const torch::Tensor& ids = batch.input_ids;
  const auto packing = std::make_shared<const Packing>(batch.attention_mask, ids.size(0), ids.size(1), ids.device());
  return {encoder_->forward(embed(packing->pack(ids)), packing, 0, {}, nullptr, nullptr, checkpointing_), packing};
}

std::pair<torch::Tensor, std::shared_ptr<const Packing>> EncoderDecoder::decode(const Batch& batch) {
  check(batch.decoder_input_ids.defined(),
        "a sequence-to-sequence model needs decoder_input_ids, which this task does not give");
  const auto [source, source_packing] = encode(batch);
  const torch::Tensor& ids = batch.decoder_input_ids;
  const auto packing = std::make_shared<const Packing>(torch::ones_like(ids), ids.size(0), ids.size(1), ids.device());
  return {decoder_->forward(embed(packing->pack(ids)), packing, 0, source, source_packing, nullptr, checkpointing_),
          packing};
}

torch::Tensor EncoderDecoder::read_itself(const Batch& batch) {
  const torch::Tensor& ids = batch.input_ids;
  Batch shifted = batch;
  shifted.decoder_input_ids = torch::cat({first_token(ids), ids.slice(1, 0, ids.size(1) - 1)}, 1);
  const auto [states, packing] = decode(shifted);
  return packing->unpack(states);
}

torch::Tensor EncoderDecoder::step(const torch::Tensor& ids, int64_t before, const torch::Tensor& source,
                                   const std::shared_ptr<const Packing>& source_packing,
                                   std::vector<DecoderCache>& caches) {
  const auto packing = std::make_shared<const Packing>(torch::Tensor(), ids.size(0), 1, ids.device());
  return logits_of(decoder_->forward(embed(ids), packing, before, source, source_packing, &caches, false));
}

torch::Tensor EncoderDecoder::logits_of(const torch::Tensor& x) {
  const torch::Tensor read = before_output(x), logits = lm_head_ ? lm_head_(read) : words_->project(read),
                      bias = logits_bias();
  return bias.defined() ? logits + bias : logits;
}

}  // namespace deeplora
