// What causal language models share: packed batches, masks, the key/value cache, checkpointing. A family adds its
// layers.
#pragma once

#include <map>
#include <memory>

#include "model_files/model_files.h"
#include "models/attention.h"
#include "models/class_head.h"
#include "models/packing.h"
#include "models/projection.h"
#include "models/weight_map.h"

namespace deeplora {

/// Keys and values of one layer for all cells read so far: [B, G, S, d], G key/value heads. Undefined before the first.
struct KeyValues {
  torch::Tensor keys, values;
  void append(const torch::Tensor& more_keys, const torch::Tensor& more_values);
  void reorder(const torch::Tensor& rows);
};

/// How a layer attends.
struct AttentionShape {
  int64_t heads = 1, kv_heads = 1;
  int64_t window = 0;  ///< keys `window` or more cells back are hidden; 0: none is
  double scale = 1;    ///< of the scores
  double cap = 0;      ///< scores s become cap tanh(s / cap); 0: they stay
  double dropout = 0;  ///< of the attention probabilities, here and now
};

/// The tokens of one pass [N] out of a batch [B, T], their positions, and which cells [B, S] they may look at. Shared
/// by all layers. Padding may stand on either side; a token's position counts tokens, not cells.
class CausalPass {
 public:
  /// A batch read from its first token on: S = T.
  explicit CausalPass(const Batch& batch);
  /// T more cells for every row. seen [B, S] bool: cells that hold tokens, the new last ones included; positions [B, T]
  /// of these.
  CausalPass(torch::Tensor seen, const torch::Tensor& positions);

  const Packing& packing() const { return packing_; }
  const torch::Tensor& positions() const { return positions_; }  ///< [N] int64

  /// Softmax attention of q [N, H*d] over k, v [N, G*d], behind those in the cache when one is given -> [N, H*d]. With
  /// frequencies [d / 2], in radians per position, alike in every head, q and k have rotary positions.
  torch::Tensor attend(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                       const AttentionShape& shape, KeyValues* cache, const torch::Tensor& frequencies = {}) const;

 private:
  /// bool [B or 1, 1, T, S], true: look; undefined where the plain causal order says it all. Made once per window.
  torch::Tensor mask(int64_t window) const;
  /// bool [1, 1, T, cells]: the plain causal order, T tokens at the end of so many cells.
  torch::Tensor causal_mask(int64_t cells) const;
  /// Of the tokens; made once for each table of frequencies, which must outlive this object.
  const RotaryAngles& angles(const torch::Tensor& frequencies) const;

  int64_t tokens_, cells_;
  Packing packing_;
  torch::Tensor positions_;
  torch::Tensor seen_;  ///< [B, S] bool, undefined when every cell counts, or when causal order hides all padding
  mutable std::map<int64_t, torch::Tensor> masks_;
  mutable std::map<const void*, RotaryAngles> angles_;  ///< by the frequencies' memory
};

class CausalLayer : public torch::nn::Module {
 public:
  /// x [N, D] -> [N, D]
  virtual torch::Tensor forward(const torch::Tensor& x, const CausalPass& pass, KeyValues* cache) = 0;
  virtual void add_sites(std::vector<AdapterSite>& sites) = 0;
};

class CausalModel : public LanguageModel {
 public:
  /// Logits [B, T, V], zero at padding; by what stands on the model hidden states [B, T, D] or logits [B, C] instead.
  ModelOutput forward(const Batch& batch) override;
  torch::Tensor token_losses(const Batch& batch) override;
  std::vector<AdapterSite> sites() override;
  std::vector<NamedTensor> base_parameters() override { return base_parameters_; }
  std::string family() const override { return family_; }
  std::unique_ptr<DecodingState> begin_decoding(const Batch& prompt) override;
  void set_gradient_checkpointing(bool on) override { checkpointing_ = on; }

  /// Hidden states [N, D] of packed ids [N] before the output layer; `caches` one per layer or null.
  torch::Tensor run(const torch::Tensor& ids, const std::shared_ptr<const CausalPass>& pass,
                    std::vector<KeyValues>* caches);
  /// [..., D] -> logits [..., V]
  torch::Tensor logits_of(const torch::Tensor& hidden);
  size_t layer_count() const { return layers_.size(); }
  /// How many cells of prompts, all rows together, are read at once: what a longer prompt takes beside its keys and
  /// values does not grow with it.
  void read_prompts_by(int64_t cells) { prompt_cells_ = cells; }
  int64_t prompt_cells() const { return prompt_cells_; }

 protected:
  CausalModel(std::string family) : family_(std::move(family)) {}
  /// [N] -> [N, D]
  virtual torch::Tensor embed(const torch::Tensor& ids, const CausalPass& pass) = 0;
  virtual torch::Tensor normalise(const torch::Tensor& x) = 0;
  /// Embeddings beside the word table.
  virtual void add_embedding_sites(std::vector<AdapterSite>&) {}

  /// Takes what stands on the decoder: the output layer ("lm_head" beside it, or the word table itself where the two
  /// are one), a classifier, or nothing.
  void take_head(const ModelFiles& files, WeightMap& above, WeightMap& weights, const std::string& table,
                 int64_t vocabulary, int64_t width, const ModelOptions& options);
  void add_layer(std::shared_ptr<CausalLayer> layer);

  EmbeddingTable words_{nullptr};
  std::vector<NamedTensor> base_parameters_;
  double logits_cap_ = 0;          ///< logits z become cap tanh(z / cap); 0: they stay
  ClassHeadForm token_head_ = {};  ///< the family's own for tokens; without a last layer: it has none

 private:
  std::string family_;
  void take_classifier(const ModelFiles& files, WeightMap& above, WeightMap& weights, int64_t width,
                       const ModelOptions& options);
  /// Of the classifier of texts: the last token that is not padding, which transformers tells by its id [B, D].
  torch::Tensor last_states(const Batch& batch, const torch::Tensor& states) const;
  HeadKind head_kind_ = HeadKind::as_files;  ///< as_files: of a language model
  std::shared_ptr<ClassificationHead> classifier_;
  int64_t padding_ = -1;         ///< config.json's pad_token_id
  Projection lm_head_{nullptr};  ///< empty: tied to words_
  std::vector<std::shared_ptr<CausalLayer>> layers_;
  bool checkpointing_ = false;
  int64_t prompt_cells_ = 4096;
};

/// The classifier of decoders: a linear layer on the last token.
ClassHeadForm score_form();

/// Position ids of tokens in cells of mask [B, T]: counted without the padding, 0 at padding on the left.
torch::Tensor token_positions(const torch::Tensor& mask);

/// "model.model." -> "model.": what stands beside the decoder.
std::string prefix_above(const std::string& prefix);

}  // namespace deeplora
