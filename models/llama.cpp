// Llama and the decoders that differ from it by configuration only: SmolLM, Mistral (sliding window), Qwen2 (biases).
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "models/activation.h"
#include "models/causal_model.h"
#include "models/norms.h"
#include "models/registration.h"
#include "models/settings.h"

namespace deeplora {
namespace {

constexpr const char* kWordTable = "embed_tokens.weight";
const std::vector<std::string> kModelTypes{"llama", "mistral", "qwen2"};

struct LlamaConfig : LlamaSettings {
  std::string family = "llama";
  int64_t layers = 0, width = 0, mlp_width = 0, vocabulary = 0;
  torch::Tensor frequencies = {};  ///< [d / 2] radians per position
};

class LlamaLayer : public CausalLayer {
 public:
  LlamaLayer(WeightMap& weights, const LlamaConfig& c, int64_t index) : config_(c) {
    const std::string at = cat("layers.", index, ".");
    const int64_t q = c.heads * c.head_width, kv = c.kv_heads * c.head_width;
    attention_norm_ = register_module("attention_norm", FrozenRmsNorm(weights, at + "input_layernorm", c.width, c.norm_eps));
    query_ = register_module("query", weights.projection(at + "self_attn.q_proj", q, c.width));
    key_ = register_module("key", weights.projection(at + "self_attn.k_proj", kv, c.width));
    value_ = register_module("value", weights.projection(at + "self_attn.v_proj", kv, c.width));
    output_ = register_module("output", weights.projection(at + "self_attn.o_proj", c.width, q));
    mlp_norm_ = register_module("mlp_norm", FrozenRmsNorm(weights, at + "post_attention_layernorm", c.width, c.norm_eps));
    mlp_gate_ = register_module("mlp_gate", weights.projection(at + "mlp.gate_proj", c.mlp_width, c.width));
    mlp_in_ = register_module("mlp_in", weights.projection(at + "mlp.up_proj", c.mlp_width, c.width));
    mlp_out_ = register_module("mlp_out", weights.projection(at + "mlp.down_proj", c.width, c.mlp_width));
    query_key_value_ = weights.joined({query_, key_, value_});
    gate_up_ = weights.joined({mlp_gate_, mlp_in_});
    shape_ = {.heads = c.heads,
              .kv_heads = c.kv_heads,
              .window = c.windows.at(static_cast<size_t>(index)),
              .scale = 1.0 / std::sqrt(static_cast<double>(c.head_width))};
  }

  torch::Tensor forward(const torch::Tensor& x, const CausalPass& pass, KeyValues* cache) override {
    AttentionShape shape = shape_;
    shape.dropout = is_training() ? config_.attention_dropout : 0.0;
    const torch::Tensor normed = attention_norm_(x);
    const auto qkv = query_key_value_.forward(normed);
    const torch::Tensor mixed = pass.attend(qkv[0], qkv[1], qkv[2], shape, cache, config_.frequencies);
    const torch::Tensor attended = x + output_(mixed);
    return attended + mlp_out_->of_gated(gate_up_.as_one(mlp_norm_(attended)), config_.activation);
  }

  void add_sites(std::vector<AdapterSite>& sites) override {
    sites.push_back(query_->site("query"));
    sites.push_back(key_->site("key"));
    sites.push_back(value_->site("value"));
    sites.push_back(output_->site("attention_output"));
    sites.push_back(mlp_gate_->site("mlp_gate"));
    sites.push_back(mlp_in_->site("mlp_in"));
    sites.push_back(mlp_out_->site("mlp_out"));
  }

 private:
  const LlamaConfig& config_;
  AttentionShape shape_;
  FrozenRmsNorm attention_norm_{nullptr}, mlp_norm_{nullptr};
  Projection query_{nullptr}, key_{nullptr}, value_{nullptr}, output_{nullptr}, mlp_gate_{nullptr}, mlp_in_{nullptr}, mlp_out_{nullptr};
  JoinedProjections query_key_value_, gate_up_;
};

class LlamaModel : public CausalModel {
 public:
  LlamaModel(const TorchScriptArchive& archive, LlamaConfig config, const std::string& prefix)
      : CausalModel(config.family), config_(std::move(config)) {
    WeightMap weights(archive, prefix);
    const std::string outside = prefix_above(prefix);
    WeightMap above(archive, outside);
    const LlamaConfig& c = config_;
    words_ = register_module("words", weights.embedding("embed_tokens", c.vocabulary, c.width));
    for (int64_t i = 0; i < c.layers; ++i) add_layer(std::make_shared<LlamaLayer>(weights, c, i));
    norm_ = register_module("norm", FrozenRmsNorm(weights, "norm", c.width, c.norm_eps));
    take_output_layer(above, prefix.substr(outside.size()) + kWordTable, c.vocabulary, c.width);
    weights.finish(c.family, {"lm_head.", "rotary_emb.", "*.rotary_emb.inv_freq"});
    above.finish(c.family, {""});
    base_parameters_ = weights.taken();
    base_parameters_.insert(base_parameters_.end(), above.taken().begin(), above.taken().end());
  }

 protected:
  torch::Tensor embed(const torch::Tensor& ids, const CausalPass&) override { return words_(ids); }
  torch::Tensor normalise(const torch::Tensor& x) override { return norm_(x); }

 private:
  LlamaConfig config_;
  FrozenRmsNorm norm_{nullptr};
};

/// Slow rotations are stretched by the factor, fast ones kept, those between interpolated (Llama 3.1).
torch::Tensor llama3_frequencies(const torch::Tensor& plain, const RotarySettings& rotary) {
  const double length = static_cast<double>(rotary.trained_length), longest = length / rotary.low, shortest = length / rotary.high;
  const torch::Tensor wavelength = 2 * M_PI / plain;
  const torch::Tensor slow = torch::where(wavelength > longest, plain / rotary.factor, plain);
  const torch::Tensor share = (length / wavelength - rotary.low) / (rotary.high - rotary.low);
  const torch::Tensor between = (1 - share) * slow / rotary.factor + share * slow;
  return torch::where((wavelength >= shortest) & (wavelength <= longest), between, slow);
}

/// [d / 2]
torch::Tensor rotary_frequencies(const RotarySettings& rotary, int64_t head_width) {
  const torch::Tensor plain = 1.0 / torch::pow(rotary.theta, torch::arange(0, head_width, 2, torch::kFloat32) / static_cast<double>(head_width));
  if (rotary.type == "linear") return plain / rotary.factor;
  return rotary.type == "llama3" ? llama3_frequencies(plain, rotary) : plain;
}

/// Sizes that the weights show are taken from the weights.
LlamaConfig read_config(const TorchScriptArchive& archive, const std::string& prefix, const ModelOptions& options) {
  int64_t layers = 0;
  while (archive.has(cat(prefix, "layers.", layers, ".self_attn.q_proj.weight"))) ++layers;
  LlamaConfig c{LlamaSettings::read(archive.config(), layers)};
  c.layers = layers;
  const torch::Tensor words = archive.tensor(prefix + kWordTable), queries = archive.tensor(prefix + "layers.0.self_attn.q_proj.weight");
  c.vocabulary = words.size(0);
  c.width = words.size(1);
  if (archive.has(prefix + "layers.0.mlp.up_proj.weight")) c.mlp_width = archive.tensor(prefix + "layers.0.mlp.up_proj.weight").size(0);
  if (c.head_width == 0) c.head_width = c.width / c.heads;
  check(c.heads % c.kv_heads == 0 && c.head_width % 2 == 0 && c.heads * c.head_width == queries.size(0), "model ", archive.file().string(),
        ": its config.json's heads do not fit: num_attention_heads ", c.heads, ", num_key_value_heads ", c.kv_heads, ", head_dim ", c.head_width,
        ", where q_proj has ", queries.size(0), " rows");
  if (options.dropout) c.attention_dropout = *options.dropout;
  c.frequencies = rotary_frequencies(c.rotary, c.head_width);
  return c;
}

}  // namespace

void register_llama_family(ModelFamilies& families) {
  ModelFamily family;
  family.recognises = [](const TorchScriptArchive& archive) {
    const std::string type = model_type_of(archive.config());
    return std::find(kModelTypes.begin(), kModelTypes.end(), type) != kModelTypes.end() && WeightMap::prefix_of(archive, kWordTable) &&
           WeightMap::prefix_of(archive, "layers.0.self_attn.q_proj.weight");
  };
  family.build = [](const TorchScriptArchive& archive, const ModelOptions& options) -> std::shared_ptr<LanguageModel> {
    const std::string prefix = *WeightMap::prefix_of(archive, kWordTable);
    return std::make_shared<LlamaModel>(archive, read_config(archive, prefix, options), prefix);
  };
  families.add("llama", std::move(family));
}

}  // namespace deeplora
