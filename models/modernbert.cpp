// ModernBERT (Warner et al. 2024, arXiv 2412.13663): norms before each part, rotary positions, layers that see a window
// between layers that see everything, gated feed-forward, fused query, key and value.
#include <torch/torch.h>

#include <array>
#include <cmath>

#include "models/activation.h"
#include "models/dropout.h"
#include "models/norms.h"
#include "models/packed_encoder.h"
#include "models/registration.h"
#include "models/rotary.h"
#include "models/settings.h"

namespace deeplora {
namespace {

constexpr const char* kModernBertTable = "embeddings.tok_embeddings";

struct ModernBertConfig : ModernBertSettings {
  int64_t layers = 0, width = 0, mlp_width = 0, vocabulary = 0;
  std::array<torch::Tensor, 2> frequencies = {};  ///< [d / 2] radians per position, of layers without and with a window
};

struct ModernBertPass : EncoderPass {
  std::array<RotaryAngles, 2> angles = {};  ///< of the tokens, without and with a window
  bool no_gaps = true;
  torch::Tensor window_scores =
      {};  ///< [1 or B, 1, T, T] to be added to the scores of layers with a window, where something needs it
};

class ModernBertLayer : public torch::nn::Module {
 public:
  using Pass = ModernBertPass;

  ModernBertLayer(WeightMap& weights, const ModernBertConfig& c, int64_t index)
      : config_(c), slides_(c.slides.at(static_cast<size_t>(index))), name_(cat("layer ", index)) {
    const std::string at = cat("layers.", index, ".");
    const auto norm = [&](const std::string& name) {
      return register_module(name, FrozenLayerNorm(weights, at + name, c.width, c.norm_eps, c.norm_bias));
    };
    const DeclaredBias attention{c.attention_bias, "attention_bias"}, mlp{c.mlp_bias, "mlp_bias"};
    if (index > 0) attention_norm_ = norm("attn_norm");  // the first layer reads what a norm gave
    query_key_value_ =
        register_module("query_key_value", weights.projection(at + "attn.Wqkv", 3 * c.width, c.width, attention));
    output_ = register_module("output", weights.projection(at + "attn.Wo", c.width, c.width, attention));
    mlp_norm_ = norm("mlp_norm");
    mlp_in_ = register_module("mlp_in", weights.projection(at + "mlp.Wi", 2 * c.mlp_width, c.width, mlp));
    mlp_out_ = register_module("mlp_out", weights.projection(at + "mlp.Wo", c.width, c.mlp_width, mlp));
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& in, const Pass& pass) {
    const torch::Tensor& x = in[0];
    const torch::Tensor normed_x = normed(x);
    if (attention_norm_) pass.note(name_ + ", before attention", normed_x);
    const auto qkv = query_key_value_(normed_x).chunk(3, -1);
    const torch::Tensor before = attended(mix(qkv[0], qkv[1], qkv[2], pass, false), x),
                        normed_before = mlp_norm_(before);
    pass.note(name_ + ", before feed-forward", normed_before);
    return before + feed_forward(normed_before);
  }

  torch::Tensor first_tokens(const std::vector<torch::Tensor>& in, const Pass& pass) {
    const auto qkv = query_key_value_(normed(in[0])).chunk(3, -1);
    const torch::Tensor mixed = mix(pass.packing.first_tokens(qkv[0]), qkv[1], qkv[2], pass, true);
    const torch::Tensor before = attended(mixed, pass.packing.first_tokens(in[0]));
    return before + feed_forward(mlp_norm_(before));
  }

  void add_sites(std::vector<AdapterSite>& sites) {
    sites.push_back(query_key_value_->site("query_key_value"));
    sites.push_back(output_->site("attention_output"));
    sites.push_back(mlp_in_->site("mlp_in"));
    sites.push_back(mlp_out_->site("mlp_out"));
  }

 private:
  torch::Tensor normed(const torch::Tensor& x) { return attention_norm_ ? attention_norm_(x) : x; }
  double here(double dropout) const { return is_training() ? dropout : 0.0; }

  /// Softmax attention of packed q [N, D] (or [B, D] of first tokens) over k and v [N, D].
  torch::Tensor mix(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, const Pass& pass,
                    bool first_only) const {
    const RotaryAngles& angles = pass.angles[slides_ ? 1 : 0];
    const double dropout = here(config_.attention_dropout);
    const int64_t heads = config_.heads, window = slides_ ? config_.window : 0;
    const SequenceAttentionShape shape{
        .heads = heads, .kv_heads = heads, .first_only = first_only, .window = window, .dropout = dropout};
    const bool packed = can_attend_packed(q, k, v) && (window == 0 || pass.no_gaps);
    if (packed && !first_only) return sequence_attention(q, k, v, shape, pass.packing.offsets(), angles);
    const RotaryAngles of_queries =
        first_only ? RotaryAngles{pass.packing.first_tokens(angles.cosines), pass.packing.first_tokens(angles.sines)}
                   : angles;
    const torch::Tensor queries = rotated(q, heads, of_queries), keys = rotated(k, heads, angles);
    if (packed) return sequence_attention(queries, keys, v, shape, pass.packing.offsets());
    if (window > 0)
      return biased_attention(queries, keys, v, heads, pass.packing, pass.window_scores, dropout, first_only);
    return packed_attention(queries, keys, v, heads, pass.packing, dropout, first_only);
  }

  torch::Tensor attended(const torch::Tensor& mixed, const torch::Tensor& x) {
    return dropout_add(output_(mixed), x, here(config_.attention_dropout));
  }

  torch::Tensor feed_forward(const torch::Tensor& x) {
    const torch::Tensor inner = mlp_in_(x);
    const double dropout = here(config_.mlp_dropout);
    if (dropout == 0) return mlp_out_->of_gated(inner, config_.activation);
    return mlp_out_(seeded_dropout(activate_gate(inner, config_.activation), dropout));
  }

  const ModernBertConfig& config_;
  bool slides_;
  std::string name_;
  FrozenLayerNorm attention_norm_{nullptr}, mlp_norm_{nullptr};
  Projection query_key_value_{nullptr}, output_{nullptr}, mlp_in_{nullptr}, mlp_out_{nullptr};
};

ClassHeadForm modernbert_head_form(const ModelFiles& files, bool of_tokens) {
  return {.first = "head.dense",
          .last = "classifier",
          .norm = "head.norm",
          .norm_bias = files.config().value("norm_bias", false),
          .first_dropout = 0,
          .first_bias = {files.config().value("classifier_bias", false), "classifier_bias"},
          .of_tokens = of_tokens};
}

EncoderHead modernbert_head(const ModelFiles& files, WeightMap& weights, ClassHeadForm form, const ModernBertConfig& c,
                            const ModernBertHeadSettings& settings, const ModelOptions& options) {
  form.activation = settings.activation;
  form.norm_eps = c.norm_eps;
  return encoder_head(files, weights, form, "modernbert", c.width, options.dropout.value_or(settings.dropout), options);
}

class ModernBertModel : public PackedEncoder<ModernBertLayer> {
 public:
  ModernBertModel(const ModelFiles& files, ModernBertConfig config, const std::string& prefix,
                  const ModelOptions& options)
      : PackedEncoder("modernbert"), config_(std::move(config)) {
    WeightMap weights(files, prefix);
    const ModernBertConfig& c = config_;
    weights.expect_size("vocab_size", c.vocabulary);
    weights.expect_size("hidden_size", c.width);
    weights.expect_size("num_hidden_layers", c.layers);
    weights.expect_size("intermediate_size", c.mlp_width);
    words_ = register_module("words", weights.embedding(kModernBertTable, c.vocabulary, c.width, c.padding));
    first_norm_ =
        register_module("first_norm", FrozenLayerNorm(weights, "embeddings.norm", c.width, c.norm_eps, c.norm_bias));
    for (int64_t i = 0; i < c.layers; ++i) add_layer(std::make_shared<ModernBertLayer>(weights, c, i));
    last_norm_ = register_module("last_norm", FrozenLayerNorm(weights, "final_norm", c.width, c.norm_eps, c.norm_bias));
    EncoderHead found;
    ModernBertHeadSettings settings;
    for (const bool of_tokens : {false, true}) {
      const ClassHeadForm form = modernbert_head_form(files, of_tokens);
      if (!takes_class_head(files, form, prefix, options)) continue;
      settings = ModernBertHeadSettings::read(files.config());
      found = modernbert_head(files, weights, form, c, settings, options);
    }
    weights.finish("modernbert", {"head.", "decoder.", "classifier.", "rotary_emb."});
    base_parameters_ = weights.taken();
    take_head(found, settings.mean ? Pooling::mean : Pooling::cls);
  }

 protected:
  std::shared_ptr<ModernBertPass> begin(const Batch& batch) override {
    const torch::Tensor& ids = batch.input_ids;
    auto pass = std::make_shared<ModernBertPass>(
        ModernBertPass{{Packing(batch.attention_mask, ids.size(0), ids.size(1), ids.device())}});
    const torch::Tensor cell = torch::arange(ids.size(1), ids.options());
    const torch::Tensor positions =
        pass->packing.pack(batch.position_ids.defined() ? batch.position_ids : cell.expand_as(ids));
    for (const size_t i : {0UL, 1UL}) pass->angles[i] = rotary_angles(positions, config_.frequencies[i]);
    pass->no_gaps = pass->packing.has_no_gaps();
    const torch::Tensor& table = words_->weight();
    const torch::Tensor weight = is_half(table) ? table.new_empty({1}, torch::kFloat32) : table;
    if (pass->no_gaps && can_attend_packed(weight, weight, weight)) return pass;
    const torch::Tensor hidden = (cell.unsqueeze(1) - cell).abs() >= config_.window;
    const torch::Tensor window = torch::zeros(hidden.sizes(), weight.options()).masked_fill(hidden, kHiddenScore);
    pass->window_scores = pass->packing.without_padding(window.unsqueeze(0).unsqueeze(0));
    return pass;
  }

  torch::Tensor embed(const Batch& batch, const ModernBertPass& pass) override {
    const torch::Tensor x = first_norm_(words_(pass.packing.pack(batch.input_ids)));
    pass.note("the embeddings", x);
    return is_training() ? seeded_dropout(x, config_.embedding_dropout) : x;
  }
  torch::Tensor finish(const torch::Tensor& x, const ModernBertPass& pass) override {
    const torch::Tensor out = last_norm_(x);
    pass.note("the last state", out);
    return out;
  }
  void add_embedding_sites(std::vector<AdapterSite>& sites) override { sites.push_back(words_->word_site()); }

 private:
  ModernBertConfig config_;
  EmbeddingTable words_{nullptr};
  FrozenLayerNorm first_norm_{nullptr}, last_norm_{nullptr};
};

/// Sizes that the weights show are taken from the weights.
ModernBertConfig read_modernbert(const ModelFiles& files, const std::string& prefix, const ModelOptions& options) {
  int64_t layers = 0;
  while (files.has(cat(prefix, "layers.", layers, ".attn.Wqkv.weight"))) ++layers;
  ModernBertConfig c{ModernBertSettings::read(files.config(), layers)};
  const torch::Tensor words = files.tensor(prefix + kModernBertTable + ".weight");
  c.layers = layers;
  c.vocabulary = words.size(0);
  c.width = words.size(1);
  const std::string mlp = prefix + "layers.0.mlp.Wo.weight";
  if (files.has(mlp)) c.mlp_width = files.tensor(mlp).size(1);
  check(c.width % c.heads == 0 && c.width / c.heads % 2 == 0, "model ", files.file().string(),
        ": its config.json's num_attention_heads ", c.heads,
        " does not fit: expected heads of an even width, found a width of ", c.width);
  if (options.dropout) c.embedding_dropout = c.attention_dropout = c.mlp_dropout = *options.dropout;
  c.frequencies = {rotary_frequencies(c.rotary, c.width / c.heads),
                   rotary_frequencies(c.local_rotary, c.width / c.heads)};
  return c;
}

}  // namespace

void register_modernbert_family(ModelFamilies& families) {
  ModelFamily family;
  family.recognises = [](const ModelFiles& files) {
    return model_type_of(files.config()) == "modernbert" &&
           WeightMap::prefix_of(files, std::string(kModernBertTable) + ".weight").has_value();
  };
  family.build = [](const ModelFiles& files, const ModelOptions& options) -> std::shared_ptr<LanguageModel> {
    const std::string prefix = *WeightMap::prefix_of(files, std::string(kModernBertTable) + ".weight");
    return std::make_shared<ModernBertModel>(files, read_modernbert(files, prefix, options), prefix, options);
  };
  const auto described = [](bool of_tokens, const ModelFiles& files, int64_t outputs) {
    const std::string prefix = *WeightMap::prefix_of(files, std::string(kModernBertTable) + ".weight");
    const auto settings = ModernBertHeadSettings::read(files.config());
    const ModernBertConfig c = read_modernbert(files, prefix, {});
    const ClassHeadStart start{.first = settings.spread / std::sqrt(2.0 * static_cast<double>(c.layers)),
                               .last = 1 / std::sqrt(static_cast<double>(c.width)),
                               .cut = settings.cut};
    return describe_class_head(modernbert_head_form(files, of_tokens), files, "ModernBert", "model.", prefix, c.width,
                               outputs, start);
  };
  family.class_head = [described](const ModelFiles& files, int64_t outputs) {
    return described(false, files, outputs);
  };
  family.token_head = [described](const ModelFiles& files, int64_t outputs) { return described(true, files, outputs); };
  families.add("modernbert", std::move(family));
}

}  // namespace deeplora
