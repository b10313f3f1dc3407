// What sequence-to-sequence models share: the source encoded once, the decoder's caches, the output layer, decoding. A
// family gives its two stacks.
#pragma once

#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "models/causal_model.h"
#include "models/class_head.h"

namespace deeplora {

/// Keys and values of one decoder layer: its own tokens', and the source's, computed once.
struct DecoderCache {
  KeyValues own, source;

  /// Those of all own tokens so far, `more` being the last.
  static KeyValues with_own(DecoderCache* cache, KeyValues more);
  /// Those of the source, by compute() unless they are kept.
  template <class Compute>
  static KeyValues of_source(DecoderCache* cache, const Compute& compute) {
    if (cache && cache->source.keys.defined()) return cache->source;
    KeyValues out = compute();
    if (cache) cache->source = out;
    return out;
  }
};

/// An encoder's or a decoder's layers and what stands around them.
class SequenceStack : public torch::nn::Module {
 public:
  /// Embedded tokens x [N, D], T of them a row behind `before` others -> states [N, D]. A decoder looks at `source`
  /// [N', D], the encoder's states packed by `source_packing`, and keeps keys and values in `caches`, one a layer,
  /// where they are given.
  virtual torch::Tensor forward(torch::Tensor x, const std::shared_ptr<const Packing>& packing, int64_t before,
                                const torch::Tensor& source, const std::shared_ptr<const Packing>& source_packing,
                                std::vector<DecoderCache>* caches, bool checkpointing) = 0;
  virtual void add_sites(std::vector<AdapterSite>& sites) = 0;
  virtual size_t layer_count() const = 0;
};

class EncoderDecoder : public LanguageModel {
 public:
  /// Logits [B, T', V] of decoder_input_ids [B, T']; of a classifier [B, C].
  ModelOutput forward(const Batch& batch) override;
  torch::Tensor token_losses(const Batch& batch) override;
  std::vector<AdapterSite> sites() override;
  std::vector<NamedTensor> base_parameters() override { return base_parameters_; }
  std::string family() const override { return family_; }
  void set_gradient_checkpointing(bool on) override { checkpointing_ = on; }
  std::unique_ptr<DecodingState> begin_decoding(const Batch& prompt) override;

  /// The encoder's states, packed [N, D], and how.
  std::pair<torch::Tensor, std::shared_ptr<const Packing>> encode(const Batch& batch);
  /// One token a row, ids [B], behind `before` others -> logits [B, V].
  torch::Tensor step(const torch::Tensor& ids, int64_t before, const torch::Tensor& source,
                     const std::shared_ptr<const Packing>& source_packing, std::vector<DecoderCache>& caches);
  size_t decoder_layers() const { return decoder_->layer_count(); }

 protected:
  explicit EncoderDecoder(std::string family) : family_(std::move(family)) {}
  /// What the first layers read, ids [N] -> [N, D].
  virtual torch::Tensor embed(const torch::Tensor& ids) { return words_(ids); }
  /// What the output layer reads, of the decoder's states [N, D].
  virtual torch::Tensor before_output(const torch::Tensor& x) { return x; }
  /// Added to the logits [V]; undefined: nothing is.
  virtual torch::Tensor logits_bias() const { return {}; }
  /// The decoder's first token [B, 1] where it reads the text itself, ids [B, T].
  virtual torch::Tensor first_token(const torch::Tensor& ids) const = 0;
  void set_stacks(std::shared_ptr<SequenceStack> encoder, std::shared_ptr<SequenceStack> decoder);
  /// An output layer of its own; without one the word table is it.
  void set_output_layer(Projection lm_head) { lm_head_ = register_module("lm_head", std::move(lm_head)); }

  /// A classifier of texts in place of the output layer, on the decoder's state at the last `end` of the text.
  void set_classifier(std::shared_ptr<ClassificationHead> classifier, int64_t end) {
    classifier_ = register_module("classifier", std::move(classifier));
    end_ = end;
  }
  bool classifies() const { return classifier_ != nullptr; }

  EmbeddingTable words_{nullptr};
  std::vector<NamedTensor> base_parameters_;

 private:
  /// The decoder's states of decoder_input_ids [B, T'], every cell one row [N, D], and how they are packed.
  std::pair<torch::Tensor, std::shared_ptr<const Packing>> decode(const Batch& batch);
  /// The decoder's states [B, T, D] when it reads the text itself, one token behind.
  torch::Tensor read_itself(const Batch& batch);
  torch::Tensor logits_of(const torch::Tensor& x);

  std::string family_;
  std::shared_ptr<SequenceStack> encoder_, decoder_;
  Projection lm_head_{nullptr};  ///< empty: tied to words_
  std::shared_ptr<ClassificationHead> classifier_;
  int64_t end_ = -1;
  bool checkpointing_ = false;
};

}  // namespace deeplora
