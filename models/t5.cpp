// T5 (Raffel et al. 2020, arXiv 1910.10683), T5 v1.1 and mT5: relative position biases, RMSNorm, plain or gated
// feed-forward.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "models/activation.h"
#include "models/checkpointing.h"
#include "models/class_head.h"
#include "models/dropout.h"
#include "models/encoder_decoder.h"
#include "models/norms.h"
#include "models/registration.h"
#include "models/relative_positions.h"
#include "models/settings.h"

namespace deeplora {
namespace {

constexpr const char* kWordTable = "shared.weight";
constexpr const char* kUnusedBias =
    "decoder.block.0.layer.1.EncDecAttention.relative_attention_bias.weight";  // of the first checkpoints; nothing
                                                                               // reads it
// Added to the score of a key that must not be seen; exp() of it is 0, and a row without any visible key stays finite.

struct T5Config : T5Settings {
  int64_t encoder_layers = 0, decoder_layers = 0, width = 0, head_width = 0, mlp_width = 0, vocabulary = 0;
};

class T5Attention : public torch::nn::Module {
 public:
  T5Attention(WeightMap& weights, const std::string& at, const T5Config& c) : heads_(c.heads), dropout_(c.dropout) {
    const int64_t inner = c.heads * c.head_width;
    query_ = register_module("query", weights.projection(at + "q", inner, c.width, DeclaredBias{false}));
    key_ = register_module("key", weights.projection(at + "k", inner, c.width, DeclaredBias{false}));
    value_ = register_module("value", weights.projection(at + "v", inner, c.width, DeclaredBias{false}));
    output_ = register_module("output", weights.projection(at + "o", c.width, inner, DeclaredBias{false}));
  }

  /// Keys and values [B, H, S, d] of packed x [N, D].
  KeyValues keys_values(const torch::Tensor& x, const Packing& packing) {
    return {split(key_(x), packing), split(value_(x), packing)};
  }
  /// x [N, D]; mask: bool (true: look) or scores to add, [B or 1, H or 1, T, S], may be undefined -> [N, D]. Scores are
  /// not scaled.
  torch::Tensor forward(const torch::Tensor& x, const Packing& packing, const KeyValues& seen,
                        const torch::Tensor& mask) {
    const auto given = mask.defined() ? std::optional(mask) : std::nullopt;
    const torch::Tensor mixed =
        at::scaled_dot_product_attention(split(query_(x), packing), seen.keys, seen.values, given,
                                         is_training() ? dropout_ : 0.0, /*is_causal=*/false, /*scale=*/1.0);
    return output_(packing.pack(mixed.transpose(1, 2).flatten(2)));
  }

  void add_sites(std::vector<AdapterSite>& sites) {
    sites.push_back(query_->site("query"));
    sites.push_back(key_->site("key"));
    sites.push_back(value_->site("value"));
    sites.push_back(output_->site("attention_output"));
  }

 private:
  torch::Tensor split(const torch::Tensor& x, const Packing& packing) const {
    return packing.unpack(x).view({packing.batch(), packing.tokens(), heads_, -1}).transpose(1, 2);
  }

  int64_t heads_;
  double dropout_;
  Projection query_{nullptr}, key_{nullptr}, value_{nullptr}, output_{nullptr};
};

class T5FeedForward : public torch::nn::Module {
 public:
  T5FeedForward(WeightMap& weights, const std::string& at, const T5Config& c)
      : activation_(c.activation), dropout_(c.dropout) {
    if (c.gated)
      gate_ = register_module("gate", weights.projection(at + "wi_0", c.mlp_width, c.width, DeclaredBias{false}));
    in_ = register_module(
        "in", weights.projection(at + (c.gated ? "wi_1" : "wi"), c.mlp_width, c.width, DeclaredBias{false}));
    out_ = register_module("out", weights.projection(at + "wo", c.width, c.mlp_width, DeclaredBias{false}));
    if (c.gated) gate_in_ = weights.joined({gate_, in_});
  }
  torch::Tensor forward(const torch::Tensor& x) {
    torch::Tensor inner = gate_ ? activate_gate(gate_in_.as_one(x), activation_) : activate(in_(x), activation_);
    if (is_training()) inner = seeded_dropout(inner, dropout_);
    return out_(inner);
  }
  void add_sites(std::vector<AdapterSite>& sites) {
    if (gate_) sites.push_back(gate_->site("mlp_gate"));
    sites.push_back(in_->site("mlp_in"));
    sites.push_back(out_->site("mlp_out"));
  }

 private:
  std::string activation_;
  double dropout_;
  Projection gate_{nullptr}, in_{nullptr}, out_{nullptr};
  JoinedProjections gate_in_;
};

/// An encoder or decoder block: x + Attention(norm(x)), the decoder's cross-attention likewise, x +
/// FeedForward(norm(x)).
class T5Layer : public torch::nn::Module {
 public:
  T5Layer(WeightMap& weights, const std::string& at, const T5Config& c, bool decoder) : dropout_(c.dropout) {
    own_norm_ = register_module("own_norm", FrozenRmsNorm(weights, at + "layer.0.layer_norm", c.width, c.norm_eps));
    own_ = register_module("own", std::make_shared<T5Attention>(weights, at + "layer.0.SelfAttention.", c));
    if (decoder) {
      source_norm_ =
          register_module("source_norm", FrozenRmsNorm(weights, at + "layer.1.layer_norm", c.width, c.norm_eps));
      source_ = register_module("source", std::make_shared<T5Attention>(weights, at + "layer.1.EncDecAttention.", c));
    }
    const std::string last = at + (decoder ? "layer.2." : "layer.1.");
    mlp_norm_ = register_module("mlp_norm", FrozenRmsNorm(weights, last + "layer_norm", c.width, c.norm_eps));
    mlp_ = register_module("mlp", std::make_shared<T5FeedForward>(weights, last + "DenseReluDense.", c));
  }

  /// x [N, D], bias [B or 1, H, T, S] -> [N, D]. Decoder: `source` [N', D] are the encoder's states, packed by
  /// `source_packing`.
  torch::Tensor forward(torch::Tensor x, const Packing& packing, const torch::Tensor& bias, const torch::Tensor& source,
                        const Packing* source_packing, DecoderCache* cache) {
    const torch::Tensor normed = own_norm_(x);
    const KeyValues own = DecoderCache::with_own(cache, own_->keys_values(normed, packing));
    const double dropout = is_training() ? dropout_ : 0.0;
    x = dropout_add(own_->forward(normed, packing, own, bias), x, dropout);
    if (source_) {
      const KeyValues there =
          DecoderCache::of_source(cache, [&] { return source_->keys_values(source, *source_packing); });
      x = dropout_add(source_->forward(source_norm_(x), packing, there, source_packing->attention_mask()), x, dropout);
    }
    return dropout_add(mlp_->forward(mlp_norm_(x)), x, dropout);
  }

  /// In the archive's order; `position_bias` follows the attention that holds it.
  void add_sites(std::vector<AdapterSite>& sites, EmbeddingTable position_bias) {
    own_->add_sites(sites);
    if (!position_bias.is_empty()) sites.push_back(position_bias->site("embedding", SiteKind::embedding));
    if (source_) source_->add_sites(sites);
    mlp_->add_sites(sites);
  }

 private:
  double dropout_;
  FrozenRmsNorm own_norm_{nullptr}, source_norm_{nullptr}, mlp_norm_{nullptr};
  std::shared_ptr<T5Attention> own_, source_;
  std::shared_ptr<T5FeedForward> mlp_;
};

/// Encoder or decoder: its layers, the position biases that they share, the last norm.
class T5Stack : public SequenceStack {
 public:
  T5Stack(WeightMap& weights, const std::string& at, const T5Config& c, bool decoder) : config_(c), decoder_(decoder) {
    const int64_t count = decoder ? c.decoder_layers : c.encoder_layers;
    position_bias_ = register_module(
        "position_bias",
        weights.embedding(at + "block.0.layer.0.SelfAttention.relative_attention_bias", c.buckets, c.heads));
    for (int64_t i = 0; i < count; ++i)
      layers_.push_back(register_module("layer" + std::to_string(i),
                                        std::make_shared<T5Layer>(weights, cat(at, "block.", i, "."), c, decoder)));
    norm_ = register_module("norm", FrozenRmsNorm(weights, at + "final_layer_norm", c.width, c.norm_eps));
  }

  torch::Tensor forward(torch::Tensor x, const std::shared_ptr<const Packing>& packing, int64_t before,
                        const torch::Tensor& source, const std::shared_ptr<const Packing>& source_packing,
                        std::vector<DecoderCache>* caches, bool checkpointing) override {
    const torch::Tensor bias = scores(*packing, before);
    x = dropped(x);
    for (size_t i = 0; i < layers_.size(); ++i) {
      const auto& layer = layers_[i];
      if (checkpointing && !caches) {
        std::vector<torch::Tensor> inputs{x, bias};
        if (source.defined()) inputs.push_back(source);
        x = recomputed(*layer, inputs, [layer, packing, source_packing](const std::vector<torch::Tensor>& in) {
          return layer->forward(in[0], *packing, in[1], in.size() > 2 ? in[2] : torch::Tensor(), source_packing.get(),
                                nullptr);
        });
      } else {
        x = layer->forward(x, *packing, bias, source, source_packing.get(), caches ? &caches->at(i) : nullptr);
      }
    }
    return dropped(norm_(x));
  }

  void add_sites(std::vector<AdapterSite>& sites) override {
    for (size_t i = 0; i < layers_.size(); ++i)
      layers_[i]->add_sites(sites, i == 0 ? position_bias_ : EmbeddingTable(nullptr));
  }
  size_t layer_count() const override { return layers_.size(); }

 private:
  /// Position biases and what may not be seen, to be added to the scores: [B or 1, H, T, S].
  torch::Tensor scores(const Packing& packing, int64_t before) {
    const auto options = torch::TensorOptions(torch::kInt64).device(position_bias_->weight().device());
    const int64_t cells = before + packing.tokens();
    const torch::Tensor distance =
        torch::arange(cells, options).unsqueeze(0) - torch::arange(before, cells, options).unsqueeze(1);
    torch::Tensor bias = position_bias_(relative_buckets(distance, !decoder_, config_.buckets, config_.max_distance))
                             .permute({2, 0, 1})
                             .unsqueeze(0);
    if (decoder_) bias = bias.masked_fill(distance > 0, kHiddenScore);
    return packing.without_padding(bias);
  }
  torch::Tensor dropped(const torch::Tensor& x) const { return is_training() ? seeded_dropout(x, config_.dropout) : x; }

  const T5Config& config_;
  bool decoder_;
  EmbeddingTable position_bias_{nullptr};
  std::vector<std::shared_ptr<T5Layer>> layers_;
  FrozenRmsNorm norm_{nullptr};
};

class T5Model : public EncoderDecoder {
 public:
  T5Model(const ModelFiles& archive, T5Config config, const std::string& prefix, const ModelOptions& options)
      : EncoderDecoder("t5"), config_(std::move(config)) {
    WeightMap weights(archive, prefix), above(archive, prefix_above(prefix));
    const T5Config& c = config_;
    weights.expect_size("vocab_size", c.vocabulary);
    weights.expect_size("d_model", c.width);
    weights.expect_size("num_layers", c.encoder_layers);
    weights.expect_size("num_decoder_layers", c.decoder_layers);
    weights.expect_size("d_ff", c.mlp_width);
    words_ = register_module("words", weights.embedding("shared", c.vocabulary, c.width));
    set_stacks(std::make_shared<T5Stack>(weights, "encoder.", c, false),
               std::make_shared<T5Stack>(weights, "decoder.", c, true));
    if (options.head == HeadKind::classes || (options.head == HeadKind::as_files && !archive.holds_code() &&
                                              holds_class_head(archive, end_state_form(), above.prefix())))
      set_classifier(std::make_shared<ClassificationHead>(above, weights, end_state_form(), c.width,
                                                          c.classifier_dropout, options),
                     c.end);
    else if (!weights.tied("lm_head.weight", kWordTable))
      set_output_layer(weights.projection("lm_head", c.vocabulary, c.width, DeclaredBias{false}));
    for (const char* name : {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"})
      weights.expect_copy(name, kWordTable);
    weights.finish("t5", {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.weight",
                          "classification_head.", kUnusedBias});
    above.finish("t5", {""});
    base_parameters_ = weights.taken();
    base_parameters_.insert(base_parameters_.end(), above.taken().begin(), above.taken().end());
  }

 protected:
  torch::Tensor before_output(const torch::Tensor& x) override {
    return config_.scale_output ? x / std::sqrt(static_cast<double>(config_.width)) : x;
  }

  torch::Tensor first_token(const torch::Tensor& ids) const override {
    return torch::full({ids.size(0), 1}, config_.decoder_start, ids.options());
  }

 private:
  T5Config config_;
};

/// Sizes that the weights show are taken from the weights.
T5Config read_config(const ModelFiles& archive, const std::string& prefix, const ModelOptions& options) {
  T5Config c{T5Settings::read(archive.config())};
  const auto size = [&](const std::string& name, int64_t side) {
    return archive.has(prefix + name) ? archive.tensor(prefix + name).size(side) : 0;
  };
  c.vocabulary = size(kWordTable, 0);
  c.width = size(kWordTable, 1);
  while (archive.has(cat(prefix, "encoder.block.", c.encoder_layers, ".layer.0.SelfAttention.q.weight")))
    ++c.encoder_layers;
  while (archive.has(cat(prefix, "decoder.block.", c.decoder_layers, ".layer.0.SelfAttention.q.weight")))
    ++c.decoder_layers;
  c.mlp_width = size("encoder.block.0.layer.1.DenseReluDense.wo.weight", 1);
  const int64_t inner = size("encoder.block.0.layer.0.SelfAttention.q.weight", 0);
  check(c.heads > 0 && inner % c.heads == 0, "model ", archive.file().string(),
        ": its config.json gives no usable num_heads (", c.heads, ", inner width ", inner,
        "); export it with tools/export_torchscript.py");
  c.head_width = inner / c.heads;
  if (options.dropout) c.dropout = c.classifier_dropout = *options.dropout;
  check(options.head != HeadKind::none, "model ", archive.file().string(),
        ": an encoder with a decoder gives no hidden states that a linear head could pool; ",
        "set head.type: huggingface");
  return c;
}

}  // namespace

void register_t5_family(ModelFamilies& families) {
  ModelFamily family;
  family.recognises = [](const ModelFiles& archive) {
    const std::string type = model_type_of(archive.config());
    return (type == "t5" || type == "mt5") && WeightMap::prefix_of(archive, kWordTable) &&
           WeightMap::prefix_of(archive, "decoder.block.0.layer.1.EncDecAttention.q.weight");
  };
  family.build = [](const ModelFiles& archive, const ModelOptions& options) -> std::shared_ptr<LanguageModel> {
    const std::string prefix = *WeightMap::prefix_of(archive, kWordTable);
    return std::make_shared<T5Model>(archive, read_config(archive, prefix, options), prefix, options);
  };
  family.class_head = [](const ModelFiles& files, int64_t outputs) {
    const std::string prefix = *WeightMap::prefix_of(files, kWordTable);
    const int64_t width = files.tensor(prefix + kWordTable).size(1);
    const double spread = files.config().value("initializer_factor", 1.0) / std::sqrt(static_cast<double>(width));
    return describe_class_head(end_state_form(), files, model_type_of(files.config()) == "mt5" ? "MT5" : "T5",
                               "transformer.", prefix, width, outputs, ClassHeadStart{spread, spread});
  };
  families.add("t5", std::move(family));
}

}  // namespace deeplora
