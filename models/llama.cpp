// Llama and the decoders that differ from it by configuration only: SmolLM, Mistral (sliding window), Qwen2 (biases).
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "models/activation.h"
#include "models/causal_model.h"
#include "models/norms.h"
#include "models/registration.h"

namespace deeplora {
namespace {

constexpr const char* kWordTable = "embed_tokens.weight";
const std::vector<std::string> kModelTypes{"llama", "mistral", "qwen2"};

struct LlamaConfig {
  std::string family = "llama";
  int64_t layers = 0, width = 0, heads = 0, kv_heads = 0, head_width = 0, mlp_width = 0, vocabulary = 0;
  std::vector<int64_t> windows;  ///< of each layer; 0: none
  double norm_eps = 1e-6;
  std::string activation = "silu";
  double attention_dropout = 0;
  torch::Tensor frequencies;  ///< [d / 2] radians per position
};

/// Rotary positions (Su et al. 2021, arXiv 2104.09864): x [N, H*d] turned by the tokens' angles.
torch::Tensor rotate(const torch::Tensor& x, int64_t heads, const CausalPass& pass, const torch::Tensor& frequencies) {
  const auto& [cos, sin] = pass.rotation(frequencies);
  const torch::Tensor split = x.view({x.size(0), heads, -1});
  const auto halves = split.chunk(2, -1);
  return (split * cos + torch::cat({-halves[1], halves[0]}, -1) * sin).to(x.scalar_type()).flatten(1);
}

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
    const torch::Tensor queries = rotate(qkv[0], shape.heads, pass, config_.frequencies);
    const torch::Tensor keys = rotate(qkv[1], shape.kv_heads, pass, config_.frequencies);
    const torch::Tensor mixed = pass.attend(queries, keys, qkv[2], shape, cache);
    const torch::Tensor attended = x + output_(mixed);
    const auto gate_up = gate_up_.forward(mlp_norm_(attended));
    return attended + mlp_out_(activate(gate_up[0], config_.activation) * gate_up[1]);
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

/// Slow rotations are stretched by `factor`, fast ones kept, those between interpolated (Llama 3.1).
torch::Tensor llama3_frequencies(const torch::Tensor& plain, const nlohmann::json& rope, int64_t trained_length) {
  const double factor = rope.at("factor"), low = rope.at("low_freq_factor"), high = rope.at("high_freq_factor");
  const double length = static_cast<double>(trained_length);
  const torch::Tensor wavelength = 2 * M_PI / plain;
  const torch::Tensor slow = torch::where(wavelength > length / low, plain / factor, plain);
  const torch::Tensor share = (length / wavelength - low) / (high - low);
  const torch::Tensor between = (1 - share) * slow / factor + share * slow;
  return torch::where((wavelength >= length / high) & (wavelength <= length / low), between, slow);
}

/// [d / 2]. Configurations of transformers 5 have `rope_parameters`, older ones `rope_theta` and `rope_scaling`.
torch::Tensor rotary_frequencies(const TorchScriptArchive& archive, int64_t head_width) {
  const auto& json = archive.config();
  nlohmann::json rope = nlohmann::json::object();
  for (const char* key : {"rope_scaling", "rope_parameters"})
    if (json.contains(key) && json[key].is_object()) rope = json[key];
  const double theta = rope.value("rope_theta", json.value("rope_theta", 10000.0));
  const std::string type = rope.value("rope_type", rope.value("type", std::string("default")));
  const double part = rope.value("partial_rotary_factor", json.value("partial_rotary_factor", 1.0));
  const std::string where = cat("model ", archive.file().string(), ": ");
  check(part == 1.0, where, "rotary positions on a part of each head (partial_rotary_factor ", part, ") have no native family");
  const torch::Tensor plain = 1.0 / torch::pow(theta, torch::arange(0, head_width, 2, torch::kFloat32) / static_cast<double>(head_width));
  try {
    if (type == "default") return plain;
    if (type == "linear") return plain / rope.at("factor").get<double>();
    if (type == "llama3") {
      const int64_t length = rope.value("original_max_position_embeddings", json.value("max_position_embeddings", int64_t{8192}));
      return llama3_frequencies(plain, rope, length);
    }
  } catch (const nlohmann::json::exception& e) {
    fail(where, "its config.json's rope scaling '", type, "' is incomplete: ", e.what());
  }
  fail(where, "rope scaling '", type, "' has no native family; known: default, linear, llama3; use model.backend: graph");
}

/// Mistral: one window everywhere; Qwen2: use_sliding_window, from max_window_layers on; layer_types where given.
std::vector<int64_t> sliding_windows(const nlohmann::json& json, const std::string& type, int64_t layers) {
  std::vector<int64_t> out(static_cast<size_t>(layers), 0);
  const bool window = json.contains("sliding_window") && json["sliding_window"].is_number_integer();
  const bool used = type == "mistral" || (type == "qwen2" && json.value("use_sliding_window", false));
  if (!window || !used) return out;
  const bool listed = json.contains("layer_types") && json["layer_types"].is_array();
  const int64_t first = type == "qwen2" ? json.value("max_window_layers", int64_t{28}) : 0;
  for (size_t i = 0; i < out.size(); ++i) {
    const bool slides = listed && i < json["layer_types"].size() ? json["layer_types"][i] == "sliding_attention" : static_cast<int64_t>(i) >= first;
    if (slides) out[i] = json["sliding_window"].get<int64_t>();
  }
  return out;
}

/// Sizes that the weights show are taken from the weights.
LlamaConfig read_config(const TorchScriptArchive& archive, const std::string& prefix, const ModelOptions& options) {
  const auto& json = archive.config();
  LlamaConfig c;
  const torch::Tensor words = archive.tensor(prefix + kWordTable);
  c.vocabulary = words.size(0);
  c.width = words.size(1);
  while (archive.has(cat(prefix, "layers.", c.layers, ".self_attn.q_proj.weight"))) ++c.layers;
  if (archive.has(prefix + "layers.0.mlp.up_proj.weight")) c.mlp_width = archive.tensor(prefix + "layers.0.mlp.up_proj.weight").size(0);
  const auto whole = [&json](const char* key, int64_t otherwise) {
    return json.contains(key) && json[key].is_number_integer() ? json[key].get<int64_t>() : otherwise;
  };
  c.heads = whole("num_attention_heads", 0);
  check(c.heads > 0, "model ", archive.file().string(), ": its config.json gives no num_attention_heads; export it with tools/export_torchscript.py");
  c.kv_heads = whole("num_key_value_heads", c.heads);
  c.head_width = whole("head_dim", c.width / c.heads);
  check(c.kv_heads > 0 && c.heads % c.kv_heads == 0 && c.head_width > 0 && c.head_width % 2 == 0, "model ", archive.file().string(),
        ": its config.json's heads do not fit: num_attention_heads ", c.heads, ", num_key_value_heads ", c.kv_heads, ", head_dim ", c.head_width);
  c.norm_eps = json.value("rms_norm_eps", 1e-6);
  c.activation = json.value("hidden_act", std::string("silu"));
  check_activation(archive, c.activation);
  c.attention_dropout = options.dropout.value_or(json.value("attention_dropout", 0.0));
  c.windows = sliding_windows(json, json.value("model_type", std::string()), c.layers);
  c.frequencies = rotary_frequencies(archive, c.head_width);
  return c;
}

}  // namespace

void register_llama_family(ModelFamilies& families) {
  ModelFamily family;
  family.recognises = [](const TorchScriptArchive& archive) {
    const std::string type = archive.config().value("model_type", std::string());
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
