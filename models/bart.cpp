// BART (Lewis et al. 2020, arXiv 1910.13461) and the translators and summarisers of its shape: mBART, Marian, Pegasus.
// They differ in where the norms stand, in learned or sinusoidal positions, and in a norm behind the embeddings.
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
#include "models/settings.h"

namespace deeplora {
namespace {

constexpr const char* kSharedTable = "shared.weight";

struct BartConfig : BartSettings {
  std::string family;
  int64_t encoder_layers = 0, decoder_layers = 0, width = 0, encoder_mlp = 0, decoder_mlp = 0, vocabulary = 0;
};

/// Sines in the first half of the width, cosines in the second, [rows, D], as Marian and Pegasus make them.
torch::Tensor sinusoidal_positions(int64_t rows, int64_t width) {
  const auto options = torch::TensorOptions(torch::kFloat64);
  const torch::Tensor column = torch::arange(width, options).div(2, "floor");
  const torch::Tensor angle = torch::arange(rows, options).unsqueeze(1) /
                              torch::pow(10000.0, 2 * column / static_cast<double>(width)).unsqueeze(0);
  const torch::Tensor sines = angle.slice(1, 0, width, 2).sin(), cosines = angle.slice(1, 1, width, 2).cos();
  return torch::cat({sines, cosines}, 1).to(torch::kFloat32);
}

class BartAttention : public torch::nn::Module {
 public:
  BartAttention(WeightMap& weights, const std::string& at, int64_t width, int64_t heads, double dropout)
      : heads_(heads), dropout_(dropout) {
    query_ = register_module("query", weights.projection(at + "q_proj", width, width, DeclaredBias{true}));
    key_ = register_module("key", weights.projection(at + "k_proj", width, width, DeclaredBias{true}));
    value_ = register_module("value", weights.projection(at + "v_proj", width, width, DeclaredBias{true}));
    output_ = register_module("output", weights.projection(at + "out_proj", width, width, DeclaredBias{true}));
    query_key_value_ = weights.joined({query_, key_, value_});
  }

  /// Every token looks at every other of its row: packed x [N, D] -> [N, D].
  torch::Tensor both_ways(const torch::Tensor& x, const Packing& packing) {
    const auto qkv = query_key_value_.forward(x);
    return output_(packed_attention(qkv[0], qkv[1], qkv[2], heads_, packing, here()));
  }

  /// Keys and values [B, H, S, d] of packed x [N, D].
  KeyValues keys_values(const torch::Tensor& x, const Packing& packing) {
    return {split(key_(x), packing), split(value_(x), packing)};
  }

  /// x [N, D] looks at `seen`; mask bool [B or 1, 1, T or 1, S] (true: look) or undefined -> [N, D].
  torch::Tensor at(const torch::Tensor& x, const Packing& packing, const KeyValues& seen, const torch::Tensor& mask,
                   bool causal) {
    const torch::Tensor mixed =
        at::scaled_dot_product_attention(split(query_(x), packing), seen.keys, seen.values,
                                         mask.defined() ? std::optional(mask) : std::nullopt, here(), causal);
    return output_(packing.pack(mixed.transpose(1, 2).flatten(2)));
  }

  void add_sites(std::vector<AdapterSite>& sites) {
    sites.push_back(key_->site("key"));
    sites.push_back(value_->site("value"));
    sites.push_back(query_->site("query"));
    sites.push_back(output_->site("attention_output"));
  }

 private:
  double here() const { return is_training() ? dropout_ : 0.0; }
  torch::Tensor split(const torch::Tensor& x, const Packing& packing) const {
    return packing.unpack(x).view({packing.batch(), packing.tokens(), heads_, -1}).transpose(1, 2);
  }

  int64_t heads_;
  double dropout_;
  Projection query_{nullptr}, key_{nullptr}, value_{nullptr}, output_{nullptr};
  JoinedProjections query_key_value_;
};

/// A block's x + dropout(change), with its norm before the change (mBART, Pegasus) or behind the sum (BART, Marian).
class BartLayer : public torch::nn::Module {
 public:
  BartLayer(WeightMap& weights, const std::string& at, const BartConfig& c, bool decoder) : config_(c) {
    const int64_t heads = decoder ? c.decoder_heads : c.encoder_heads, mlp = decoder ? c.decoder_mlp : c.encoder_mlp;
    const auto attention = [&](const std::string& name) {
      return register_module(
          name, std::make_shared<BartAttention>(weights, cat(at, name, "."), c.width, heads, c.attention_dropout));
    };
    own_ = attention("self_attn");
    own_norm_ = register_module("own_norm", FrozenLayerNorm(weights, at + "self_attn_layer_norm", c.width, kEps));
    if (decoder) {
      source_ = attention("encoder_attn");
      source_norm_ =
          register_module("source_norm", FrozenLayerNorm(weights, at + "encoder_attn_layer_norm", c.width, kEps));
    }
    in_ = register_module("in", weights.projection(at + "fc1", mlp, c.width, DeclaredBias{true}));
    out_ = register_module("out", weights.projection(at + "fc2", c.width, mlp, DeclaredBias{true}));
    mlp_norm_ = register_module("mlp_norm", FrozenLayerNorm(weights, at + "final_layer_norm", c.width, kEps));
  }

  /// An encoder's layer: x [N, D] -> [N, D].
  torch::Tensor encode(const torch::Tensor& x, const Packing& packing) {
    const torch::Tensor attended =
        block(x, own_norm_, [&](const torch::Tensor& in) { return own_->both_ways(in, packing); });
    return block(attended, mlp_norm_, [this](const torch::Tensor& in) { return feed_forward(in); });
  }

  /// A decoder's layer: x [N, D]; `source` [N', D] are the encoder's states, packed by `source_packing`.
  torch::Tensor decode(torch::Tensor x, const Packing& packing, const torch::Tensor& source,
                       const Packing& source_packing, DecoderCache* cache) {
    x = block(x, own_norm_, [&](const torch::Tensor& in) {
      const KeyValues own = DecoderCache::with_own(cache, own_->keys_values(in, packing));
      return own_->at(in, packing, own, {}, /*causal=*/packing.tokens() > 1);
    });
    x = block(x, source_norm_, [&](const torch::Tensor& in) {
      const KeyValues there =
          DecoderCache::of_source(cache, [&] { return source_->keys_values(source, source_packing); });
      return source_->at(in, packing, there, source_packing.attention_mask(), /*causal=*/false);
    });
    return block(x, mlp_norm_, [this](const torch::Tensor& in) { return feed_forward(in); });
  }

  void add_sites(std::vector<AdapterSite>& sites) {
    own_->add_sites(sites);
    if (source_) source_->add_sites(sites);
    sites.push_back(in_->site("mlp_in"));
    sites.push_back(out_->site("mlp_out"));
  }

  static constexpr double kEps = 1e-5;  // of nn.LayerNorm: no configuration names another

 private:
  template <class Change>
  torch::Tensor block(const torch::Tensor& x, const FrozenLayerNorm& norm, const Change& change) {
    const double dropout = is_training() ? config_.dropout : 0.0;
    if (config_.norm_first) return dropout_add(change(norm->forward(x)), x, dropout);
    return norm->of_sum(change(x), x, dropout);
  }

  torch::Tensor feed_forward(const torch::Tensor& x) {
    torch::Tensor inner = in_(x);
    if (!is_training() || config_.activation_dropout == 0) return out_->of_activated(inner, config_.activation);
    return out_(seeded_dropout(activate(inner, config_.activation), config_.activation_dropout));
  }

  const BartConfig& config_;
  std::shared_ptr<BartAttention> own_, source_;
  FrozenLayerNorm own_norm_{nullptr}, source_norm_{nullptr}, mlp_norm_{nullptr};
  Projection in_{nullptr}, out_{nullptr};
};

/// Encoder or decoder: positions, the norms around its layers, and these.
class BartStack : public SequenceStack {
 public:
  BartStack(WeightMap& weights, const std::string& at, const BartConfig& c, bool decoder)
      : config_(c), decoder_(decoder) {
    take_positions(weights, at + "embed_positions");
    if (weights.has(at + "layernorm_embedding.weight"))
      first_norm_ =
          register_module("first_norm", FrozenLayerNorm(weights, at + "layernorm_embedding", c.width, BartLayer::kEps));
    for (int64_t i = 0; i < (decoder ? c.decoder_layers : c.encoder_layers); ++i)
      layers_.push_back(register_module("layer" + std::to_string(i),
                                        std::make_shared<BartLayer>(weights, cat(at, "layers.", i, "."), c, decoder)));
    if (weights.has(at + "layer_norm.weight"))
      last_norm_ = register_module("last_norm", FrozenLayerNorm(weights, at + "layer_norm", c.width, BartLayer::kEps));
  }

  torch::Tensor forward(torch::Tensor x, const std::shared_ptr<const Packing>& packing, int64_t before,
                        const torch::Tensor& source, const std::shared_ptr<const Packing>& source_packing,
                        std::vector<DecoderCache>* caches, bool checkpointing) override {
    x = x + positions(*packing, before, x.device());
    if (first_norm_) x = first_norm_(x);
    if (is_training()) x = seeded_dropout(x, config_.dropout);
    for (size_t i = 0; i < layers_.size(); ++i) {
      const auto& layer = layers_[i];
      const auto run = [layer, packing, source_packing,
                        cache = caches ? &caches->at(i) : nullptr](const std::vector<torch::Tensor>& in) {
        return in.size() > 1 ? layer->decode(in[0], *packing, in[1], *source_packing, cache)
                             : layer->encode(in[0], *packing);
      };
      const std::vector<torch::Tensor> inputs = decoder_ ? std::vector{x, source} : std::vector{x};
      x = checkpointing && !caches ? recomputed(*layer, inputs, run) : run(inputs);
    }
    return last_norm_ ? last_norm_(x) : x;
  }

  void add_sites(std::vector<AdapterSite>& sites) override {
    if (!table_.is_empty()) sites.push_back(table_->site("embedding", SiteKind::embedding));
    for (const auto& layer : layers_) layer->add_sites(sites);
  }
  size_t layer_count() const override { return layers_.size(); }

 private:
  void take_positions(WeightMap& weights, const std::string& name) {
    // A file may leave a sinusoidal table out: it is a formula.
    if (!config_.sinusoidal || weights.has(name + ".weight")) {
      table_ = register_module("positions", weights.embedding(name, -1, config_.width));
      rows_ = table_->weight().size(0) - config_.first_position;
      return;
    }
    rows_ = config_.positions;
    fixed_ = register_buffer("fixed_positions", sinusoidal_positions(rows_, config_.width));
  }

  /// [N, D]: cells are counted, whatever they hold.
  torch::Tensor positions(const Packing& packing, int64_t before, torch::Device device) {
    const int64_t end = before + packing.tokens();
    check(end <= rows_, "a text of ", end, " tokens is longer than the model's ", rows_,
          " positions; lower data.max_length", decoder_ ? ", or the number of tokens to generate" : "");
    const auto options = torch::TensorOptions(torch::kInt64).device(device);
    const torch::Tensor cells =
        (torch::arange(before, end, options) + config_.first_position).expand({packing.batch(), packing.tokens()});
    const torch::Tensor ids = packing.pack(cells);
    return table_.is_empty() ? at::embedding(fixed_, ids) : table_(ids);
  }

  const BartConfig& config_;
  bool decoder_;
  EmbeddingTable table_{nullptr};  ///< of positions; those of sinusoids are never trained themselves
  torch::Tensor fixed_;            ///< [positions, D] where the file holds no table
  int64_t rows_ = 0;               ///< longest text
  FrozenLayerNorm first_norm_{nullptr}, last_norm_{nullptr};
  std::vector<std::shared_ptr<BartLayer>> layers_;
};

class BartModel : public EncoderDecoder {
 public:
  BartModel(const ModelFiles& files, BartConfig config, const std::string& prefix, const ModelOptions& options)
      : EncoderDecoder(config.family), config_(std::move(config)) {
    WeightMap weights(files, prefix);
    const std::string outside = prefix_above(prefix);
    WeightMap above(files, outside);
    const BartConfig& c = config_;
    weights.expect_size("vocab_size", c.vocabulary);
    weights.expect_size("d_model", c.width);
    weights.expect_size("encoder_layers", c.encoder_layers);
    weights.expect_size("decoder_layers", c.decoder_layers);
    weights.expect_size("encoder_ffn_dim", c.encoder_mlp);
    weights.expect_size("decoder_ffn_dim", c.decoder_mlp);
    words_ = register_module("words", weights.embedding("shared", c.vocabulary, c.width, c.padding));
    set_stacks(std::make_shared<BartStack>(weights, "encoder.", c, false),
               std::make_shared<BartStack>(weights, "decoder.", c, true));
    if (options.head == HeadKind::classes ||
        (options.head == HeadKind::as_files && holds_class_head(files, end_state_form(), outside)))
      set_classifier(std::make_shared<ClassificationHead>(above, weights, end_state_form(), c.width,
                                                          c.classifier_dropout, options),
                     c.end);
    else if (!above.tied("lm_head.weight", prefix.substr(outside.size()) + kSharedTable))
      set_output_layer(above.projection("lm_head", c.vocabulary, c.width, DeclaredBias{false}));
    if (!classifies()) take_logits_bias(above);
    for (const char* name : {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight"})
      weights.expect_copy(name, kSharedTable);
    weights.finish(c.family,
                   {"encoder.embed_tokens.weight", "decoder.embed_tokens.weight", "lm_head.", "final_logits_bias",
                    "encoder.embed_positions.", "decoder.embed_positions.", "classification_head."});
    above.finish(c.family, {""});
    for (const WeightMap* map : {&weights, &above})
      for (const auto& tensor : map->taken())
        if (!tensor.name.ends_with("final_logits_bias") &&
            !(c.sinusoidal && tensor.name.ends_with("embed_positions.weight")))
          base_parameters_.push_back(tensor);
  }

 protected:
  torch::Tensor embed(const torch::Tensor& ids) override {
    return config_.scale == 1.0 ? words_(ids) : words_(ids) * config_.scale;
  }
  torch::Tensor logits_bias() const override { return has_logits_bias_ ? logits_bias_ : torch::Tensor(); }

  /// mBART's texts begin, for its decoder, with the token that they end with.
  torch::Tensor first_token(const torch::Tensor& ids) const override {
    if (config_.family == "mbart") return ids.gather(1, (ids.ne(config_.padding).sum(1, true) - 1).clamp_min(0));
    return torch::full({ids.size(0), 1}, config_.decoder_start, ids.options());
  }

 private:
  void take_logits_bias(WeightMap& above) {
    if (!above.has("final_logits_bias")) return;
    logits_bias_ = register_buffer("logits_bias", above.take("final_logits_bias", {1, config_.vocabulary}).clone());
    has_logits_bias_ = logits_bias_.ne(0).any().item<bool>();
  }

  BartConfig config_;
  torch::Tensor logits_bias_;  ///< [1, V]
  bool has_logits_bias_ = false;
};

/// Sizes that the weights show are taken from the weights.
BartConfig read_config(const ModelFiles& files, const std::string& family, const std::string& prefix,
                       const ModelOptions& options) {
  BartConfig c{BartSettings::read(files.config(), family), family};
  const auto size = [&](const std::string& name, int64_t side) {
    return files.has(prefix + name) ? files.tensor(prefix + name).size(side) : 0;
  };
  c.vocabulary = size(kSharedTable, 0);
  c.width = size(kSharedTable, 1);
  while (files.has(cat(prefix, "encoder.layers.", c.encoder_layers, ".self_attn.q_proj.weight"))) ++c.encoder_layers;
  while (files.has(cat(prefix, "decoder.layers.", c.decoder_layers, ".self_attn.q_proj.weight"))) ++c.decoder_layers;
  c.encoder_mlp = size("encoder.layers.0.fc1.weight", 0);
  c.decoder_mlp = size("decoder.layers.0.fc1.weight", 0);
  check(c.encoder_heads > 0 && c.decoder_heads > 0 && c.width % c.encoder_heads == 0 && c.width % c.decoder_heads == 0,
        "model ", files.file().string(), ": its config.json gives no usable encoder_attention_heads (", c.encoder_heads,
        ") and decoder_attention_heads (", c.decoder_heads, ") for width ", c.width);
  if (c.scale != 1.0) c.scale = std::sqrt(static_cast<double>(c.width));
  check(c.layer_drop == 0 || options.dropout, "model ", files.file().string(),
        ": its config.json drops whole layers in training (encoder_layerdrop or ", "decoder_layerdrop ", c.layer_drop,
        "), which the native family does not; set model.dropout to train without");
  if (options.dropout) c.dropout = c.attention_dropout = c.activation_dropout = c.classifier_dropout = *options.dropout;
  check(options.head != HeadKind::none, "model ", files.file().string(),
        ": an encoder with a decoder gives no hidden states that a linear head could pool; ",
        family == "bart" || family == "mbart" ? "set head.type: huggingface"
                                              : "this family has no head for classifying texts");
  return c;
}

}  // namespace

void register_bart_families(ModelFamilies& families) {
  for (const char* name : {"bart", "mbart", "marian", "pegasus"}) {
    ModelFamily family;
    family.recognises = [type = std::string(name)](const ModelFiles& files) {
      const auto prefix = WeightMap::prefix_of(files, kSharedTable);
      return model_type_of(files.config()) == type && prefix &&
             files.has(*prefix + "decoder.layers.0.encoder_attn.q_proj.weight") &&
             !(files.holds_code() && files.has(prefix_above(*prefix) + "classification_head.dense.weight"));
    };
    family.build = [type = std::string(name)](const ModelFiles& files,
                                              const ModelOptions& options) -> std::shared_ptr<LanguageModel> {
      const std::string prefix = *WeightMap::prefix_of(files, kSharedTable);
      return std::make_shared<BartModel>(files, read_config(files, type, prefix, options), prefix, options);
    };
    if (const std::string kind = name; kind == "bart" || kind == "mbart")
      family.class_head = [kind](const ModelFiles& files, int64_t outputs) {
        const std::string prefix = *WeightMap::prefix_of(files, kSharedTable);
        return describe_class_head(end_state_form(), files, kind == "bart" ? "Bart" : "MBart", "model.", prefix,
                                   files.tensor(prefix + kSharedTable).size(1), outputs);
      };
    families.add(name, std::move(family));
  }
}

}  // namespace deeplora
