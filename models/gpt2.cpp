// GPT-2: learned positions, fused query/key/value, weights stored [in, out] (Conv1D), output layer tied to the word
// table.
#include <torch/torch.h>

#include "models/causal_model.h"
#include "models/dropout.h"
#include "models/norms.h"
#include "models/registration.h"
#include "models/settings.h"

namespace deeplora {
namespace {

constexpr const char* kWordTable = "wte.weight";

struct Gpt2Config : Gpt2Settings {
  int64_t layers = 0, width = 0, mlp_width = 0, vocabulary = 0, positions = 0;
};

class Gpt2Layer : public CausalLayer {
 public:
  Gpt2Layer(WeightMap& weights, const Gpt2Config& c, int64_t index) : config_(c) {
    const std::string at = cat("h.", index, ".");
    attention_norm_ = register_module("attention_norm", FrozenLayerNorm(weights, at + "ln_1", c.width, c.norm_eps));
    query_key_value_ =
        register_module("query_key_value", weights.transposed_projection(at + "attn.c_attn", 3 * c.width, c.width));
    output_ = register_module("output", weights.transposed_projection(at + "attn.c_proj", c.width, c.width));
    mlp_norm_ = register_module("mlp_norm", FrozenLayerNorm(weights, at + "ln_2", c.width, c.norm_eps));
    mlp_in_ = register_module("mlp_in", weights.transposed_projection(at + "mlp.c_fc", c.mlp_width, c.width));
    mlp_out_ = register_module("mlp_out", weights.transposed_projection(at + "mlp.c_proj", c.width, c.mlp_width));
    shape_.heads = shape_.kv_heads = c.heads;
    if (c.scale_scores) shape_.scale = 1.0 / std::sqrt(static_cast<double>(c.width / c.heads));
    if (c.scale_by_layer) shape_.scale /= static_cast<double>(index + 1);
  }

  torch::Tensor forward(const torch::Tensor& x, const CausalPass& pass, KeyValues* cache) override {
    const bool training = is_training();
    AttentionShape shape = shape_;
    shape.dropout = training ? config_.attention_dropout : 0.0;
    const auto qkv = query_key_value_(attention_norm_(x)).chunk(3, -1);
    const torch::Tensor mixed = pass.attend(qkv[0], qkv[1], qkv[2], shape, cache);
    const double dropout = training ? config_.residual_dropout : 0.0;
    const torch::Tensor attended = dropout_add(output_(mixed), x, dropout);
    const torch::Tensor inner = mlp_in_(mlp_norm_(attended));
    return dropout_add(mlp_out_->of_activated(inner, config_.activation), attended, dropout);
  }

  void add_sites(std::vector<AdapterSite>& sites) override {
    sites.push_back(query_key_value_->site("query_key_value"));
    sites.push_back(output_->site("attention_output"));
    sites.push_back(mlp_in_->site("mlp_in"));
    sites.push_back(mlp_out_->site("mlp_out"));
  }

 private:
  const Gpt2Config& config_;
  AttentionShape shape_;
  FrozenLayerNorm attention_norm_{nullptr}, mlp_norm_{nullptr};
  Projection query_key_value_{nullptr}, output_{nullptr}, mlp_in_{nullptr}, mlp_out_{nullptr};
};

class Gpt2Model : public CausalModel {
 public:
  Gpt2Model(const ModelFiles& archive, Gpt2Config config, const std::string& prefix, const ModelOptions& options)
      : CausalModel("gpt2"), config_(std::move(config)) {
    WeightMap weights(archive, prefix);
    const std::string outside = prefix_above(prefix);
    WeightMap above(archive, outside);
    const Gpt2Config& c = config_;
    weights.expect_size("vocab_size", c.vocabulary);
    weights.expect_size("n_embd", c.width);
    weights.expect_size("n_layer", c.layers);
    weights.expect_size("n_positions", c.positions);
    words_ = register_module("words", weights.embedding("wte", c.vocabulary, c.width));
    positions_ = register_module("positions", weights.embedding("wpe", c.positions, c.width));
    for (int64_t i = 0; i < c.layers; ++i) add_layer(std::make_shared<Gpt2Layer>(weights, c, i));
    norm_ = register_module("norm", FrozenLayerNorm(weights, "ln_f", c.width, c.norm_eps));
    token_head_ = token_form();
    take_head(archive, above, weights, prefix.substr(outside.size()) + kWordTable, c.vocabulary, c.width, options);
    weights.finish("gpt2", {"lm_head.", "score.", "classifier.", "*.attn.bias", "*.attn.masked_bias"});
    above.finish("gpt2", {""});
    base_parameters_ = weights.taken();
    base_parameters_.insert(base_parameters_.end(), above.taken().begin(), above.taken().end());
  }

 protected:
  torch::Tensor embed(const torch::Tensor& ids, const CausalPass& pass) override {
    const int64_t last = pass.positions().max().item<int64_t>();
    check(last < config_.positions, "a text of ", last + 1, " tokens is longer than the model's ", config_.positions,
          " positions; lower data.max_length, or the number of tokens to generate");
    const torch::Tensor x = words_(ids) + positions_(pass.positions());
    return is_training() ? seeded_dropout(x, config_.embedding_dropout) : x;
  }
  torch::Tensor normalise(const torch::Tensor& x) override { return norm_(x); }
  void add_embedding_sites(std::vector<AdapterSite>& sites) override {
    sites.push_back(positions_->site("embedding", SiteKind::embedding));
  }

 private:
  Gpt2Config config_;
  EmbeddingTable positions_{nullptr};
  FrozenLayerNorm norm_{nullptr};
};

/// Sizes that the weights show are taken from the weights.
Gpt2Config read_config(const ModelFiles& archive, const std::string& prefix, const ModelOptions& options) {
  Gpt2Config c{Gpt2Settings::read(archive.config())};
  const torch::Tensor words = archive.tensor(prefix + kWordTable);
  c.vocabulary = words.size(0);
  c.width = words.size(1);
  c.positions = archive.tensor(prefix + "wpe.weight").size(0);
  while (archive.has(cat(prefix, "h.", c.layers, ".attn.c_attn.weight"))) ++c.layers;
  if (archive.has(prefix + "h.0.mlp.c_fc.weight")) c.mlp_width = archive.tensor(prefix + "h.0.mlp.c_fc.weight").size(1);
  check(c.heads > 0 && c.width % c.heads == 0, "model ", archive.file().string(),
        ": its config.json gives no usable n_head (", c.heads, ", width ", c.width,
        "); export it with tools/export_torchscript.py");
  if (options.dropout) c.embedding_dropout = c.residual_dropout = c.attention_dropout = *options.dropout;
  return c;
}

}  // namespace

void register_gpt2_family(ModelFamilies& families) {
  ModelFamily family;
  family.recognises = [](const ModelFiles& archive) {
    return model_type_of(archive.config()) == "gpt2" && WeightMap::prefix_of(archive, kWordTable) &&
           WeightMap::prefix_of(archive, "wpe.weight");
  };
  family.build = [](const ModelFiles& archive, const ModelOptions& options) -> std::shared_ptr<LanguageModel> {
    const std::string prefix = *WeightMap::prefix_of(archive, kWordTable);
    return std::make_shared<Gpt2Model>(archive, read_config(archive, prefix, options), prefix, options);
  };
  const auto described = [](const ClassHeadForm& form, const ModelFiles& files, int64_t outputs) {
    const std::string prefix = *WeightMap::prefix_of(files, kWordTable);
    return describe_class_head(form, files, "GPT2", "transformer.", prefix, files.tensor(prefix + kWordTable).size(1),
                               outputs);
  };
  family.class_head = [described](const ModelFiles& files, int64_t outputs) {
    return described(score_form(), files, outputs);
  };
  family.token_head = [described](const ModelFiles& files, int64_t outputs) {
    return described(token_form(), files, outputs);
  };
  families.add("gpt2", std::move(family));
}

}  // namespace deeplora
