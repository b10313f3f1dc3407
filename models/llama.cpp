// Llama and the decoders of its shape: SmolLM, Mistral (sliding window), Qwen2 (biases), Qwen3 (norms of queries and
// keys), Phi-3 (fused weights), Gemma (norms of 1 + weight), Gemma 2 (norms behind each part too, bounded scores),
// Gemma 3 (two kinds of positions).
#include <torch/torch.h>

#include <algorithm>
#include <cmath>
#include <map>

#include "models/activation.h"
#include "models/causal_model.h"
#include "models/dropout.h"
#include "models/norms.h"
#include "models/registration.h"
#include "models/rotary.h"
#include "models/settings.h"

namespace deeplora {
namespace {

constexpr const char* kWordTable = "embed_tokens.weight";
/// By model_type, the name in transformers' classes.
const std::map<std::string, std::string> kModelTypes{
    {"llama", "Llama"}, {"mistral", "Mistral"}, {"qwen2", "Qwen2"},   {"qwen3", "Qwen3"},
    {"phi3", "Phi3"},   {"gemma", "Gemma"},     {"gemma2", "Gemma2"}, {"gemma3_text", "Gemma3Text"}};

/// The head for tokens: a linear layer on every state; transformers has none for Gemma 3.
ClassHeadForm score_of_tokens(const JsonFile& config) {
  if (model_type_of(config) == "gemma3_text") return {};
  ClassHeadForm out = token_form("score");
  out.last_bias = {config.value("token_classification_bias", true)};
  return out;
}

struct LlamaConfig : LlamaSettings {
  std::string family = "llama";
  int64_t layers = 0, width = 0, mlp_width = 0, vocabulary = 0;
  torch::Tensor frequencies = {},
                local_frequencies = {};  ///< [d / 2] radians per position; local ones of layers with a window

  double norm_offset() const { return gemma ? 1.0 : 0.0; }
  const torch::Tensor& frequencies_of(int64_t layer) const {
    return local_frequencies.defined() && windows.at(static_cast<size_t>(layer)) > 0 ? local_frequencies : frequencies;
  }
};

/// Queries, keys and values of x, turned and attended: [N, D] -> [N, D].
class LlamaAttention : public torch::nn::Module {
 public:
  LlamaAttention(WeightMap& weights, const std::string& at, const LlamaConfig& c, int64_t index)
      : config_(c), frequencies_(c.frequencies_of(index)) {
    const int64_t q = c.heads * c.head_width, kv = c.kv_heads * c.head_width;
    const DeclaredBias biased{c.query_bias, "attention_bias"};
    if (weights.has(at + "qkv_proj.weight")) {
      fused_ = register_module("query_key_value", weights.projection(at + "qkv_proj", q + 2 * kv, c.width, biased));
    } else {
      query_ = register_module("query", weights.projection(at + "q_proj", q, c.width, biased));
      key_ = register_module("key", weights.projection(at + "k_proj", kv, c.width, biased));
      value_ = register_module("value", weights.projection(at + "v_proj", kv, c.width, biased));
      query_key_value_ = weights.joined({query_, key_, value_});
    }
    output_ = register_module(
        "output", weights.projection(at + "o_proj", c.width, q, DeclaredBias{c.output_bias, "attention_bias"}));
    if (weights.has(at + "q_norm.weight")) {
      query_norm_ = register_module("query_norm",
                                    FrozenRmsNorm(weights, at + "q_norm", c.head_width, c.norm_eps, c.norm_offset()));
      key_norm_ =
          register_module("key_norm", FrozenRmsNorm(weights, at + "k_norm", c.head_width, c.norm_eps, c.norm_offset()));
    }
    shape_ = {.heads = c.heads,
              .kv_heads = c.kv_heads,
              .window = c.windows.at(static_cast<size_t>(index)),
              .scale = 1.0 / std::sqrt(c.query_width > 0 ? c.query_width : static_cast<double>(c.head_width)),
              .cap = c.scores_cap};
  }

  torch::Tensor forward(const torch::Tensor& x, const CausalPass& pass, KeyValues* cache) {
    AttentionShape shape = shape_;
    shape.dropout = is_training() ? config_.attention_dropout : 0.0;
    auto qkv = fused_ ? split(fused_(x)) : query_key_value_.forward(x);
    if (query_norm_) {
      qkv[0] = by_head(qkv[0], query_norm_);
      qkv[1] = by_head(qkv[1], key_norm_);
    }
    return output_(pass.attend(qkv[0], qkv[1], qkv[2], shape, cache, frequencies_));
  }

  void add_sites(std::vector<AdapterSite>& sites) {
    if (fused_) {
      sites.push_back(fused_->site("query_key_value"));
    } else {
      sites.push_back(query_->site("query"));
      sites.push_back(key_->site("key"));
      sites.push_back(value_->site("value"));
    }
    sites.push_back(output_->site("attention_output"));
  }

 private:
  std::vector<torch::Tensor> split(const torch::Tensor& x) const {
    const int64_t q = config_.heads * config_.head_width, kv = config_.kv_heads * config_.head_width;
    return x.split_with_sizes({q, kv, kv}, -1);
  }
  torch::Tensor by_head(const torch::Tensor& x, const FrozenRmsNorm& norm) const {
    return norm->forward(x.reshape({-1, config_.head_width})).view(x.sizes());
  }

  const LlamaConfig& config_;
  const torch::Tensor& frequencies_;
  AttentionShape shape_;
  Projection query_{nullptr}, key_{nullptr}, value_{nullptr}, fused_{nullptr}, output_{nullptr};
  FrozenRmsNorm query_norm_{nullptr}, key_norm_{nullptr};  ///< over the values of each head
  JoinedProjections query_key_value_;
};

/// down(activate(gate x) * up x): [N, D] -> [N, D].
class LlamaFeedForward : public torch::nn::Module {
 public:
  LlamaFeedForward(WeightMap& weights, const std::string& at, const LlamaConfig& c) : config_(c) {
    const DeclaredBias biased{c.mlp_bias, "mlp_bias"};
    if (weights.has(at + "gate_up_proj.weight")) {
      fused_ = register_module("gate_up", weights.projection(at + "gate_up_proj", 2 * c.mlp_width, c.width, biased));
    } else {
      gate_ = register_module("gate", weights.projection(at + "gate_proj", c.mlp_width, c.width, biased));
      in_ = register_module("in", weights.projection(at + "up_proj", c.mlp_width, c.width, biased));
      gate_up_ = weights.joined({gate_, in_});
    }
    out_ = register_module("out", weights.projection(at + "down_proj", c.width, c.mlp_width, biased));
  }

  torch::Tensor forward(const torch::Tensor& x) {
    return out_->of_gated(fused_ ? fused_(x) : gate_up_.as_one(x), config_.activation);
  }

  void add_sites(std::vector<AdapterSite>& sites) {
    if (fused_) {
      sites.push_back(fused_->site("mlp_in"));
    } else {
      sites.push_back(gate_->site("mlp_gate"));
      sites.push_back(in_->site("mlp_in"));
    }
    sites.push_back(out_->site("mlp_out"));
  }

 private:
  const LlamaConfig& config_;
  Projection gate_{nullptr}, in_{nullptr}, fused_{nullptr}, out_{nullptr};
  JoinedProjections gate_up_;
};

class LlamaLayer : public CausalLayer {
 public:
  LlamaLayer(WeightMap& weights, const LlamaConfig& c, int64_t index) : config_(c) {
    const std::string at = cat("layers.", index, ".");
    const auto norm = [&](const std::string& name) {
      return register_module(name, FrozenRmsNorm(weights, at + name, c.width, c.norm_eps, c.norm_offset()));
    };
    attention_norm_ = norm("input_layernorm");
    attention_ = register_module("attention", std::make_shared<LlamaAttention>(weights, at + "self_attn.", c, index));
    // Gemma 2 and 3 have a norm behind each part as well; what Llama calls "post attention" stands before the next one.
    if (weights.has(at + "pre_feedforward_layernorm.weight")) {
      behind_attention_ = norm("post_attention_layernorm");
      mlp_norm_ = norm("pre_feedforward_layernorm");
      behind_mlp_ = norm("post_feedforward_layernorm");
    } else {
      mlp_norm_ = norm("post_attention_layernorm");
    }
    mlp_ = register_module("mlp", std::make_shared<LlamaFeedForward>(weights, at + "mlp.", c));
  }

  torch::Tensor forward(const torch::Tensor& x, const CausalPass& pass, KeyValues* cache) override {
    const torch::Tensor attended = sum(x, attention_->forward(attention_norm_(x), pass, cache), behind_attention_);
    return sum(attended, mlp_->forward(mlp_norm_(attended)), behind_mlp_);
  }

  void add_sites(std::vector<AdapterSite>& sites) override {
    attention_->add_sites(sites);
    mlp_->add_sites(sites);
  }

 private:
  torch::Tensor sum(const torch::Tensor& x, const torch::Tensor& change, const FrozenRmsNorm& behind) const {
    const double dropout = is_training() ? config_.residual_dropout : 0.0;
    const torch::Tensor normed = behind.is_empty() ? change : behind->forward(change);
    return dropout > 0 ? dropout_add(normed, x, dropout) : x + normed;
  }

  const LlamaConfig& config_;
  std::shared_ptr<LlamaAttention> attention_;
  std::shared_ptr<LlamaFeedForward> mlp_;
  FrozenRmsNorm attention_norm_{nullptr}, mlp_norm_{nullptr}, behind_attention_{nullptr}, behind_mlp_{nullptr};
};

class LlamaModel : public CausalModel {
 public:
  LlamaModel(const ModelFiles& archive, LlamaConfig config, const std::string& prefix, const ModelOptions& options)
      : CausalModel(config.family), config_(std::move(config)) {
    WeightMap weights(archive, prefix);
    const std::string outside = prefix_above(prefix);
    WeightMap above(archive, outside);
    const LlamaConfig& c = config_;
    weights.expect_size("vocab_size", c.vocabulary);
    weights.expect_size("hidden_size", c.width);
    weights.expect_size("num_hidden_layers", c.layers);
    weights.expect_size("intermediate_size", c.mlp_width);
    words_ = register_module("words", weights.embedding("embed_tokens", c.vocabulary, c.width,
                                                        archive.config().value("pad_token_id", int64_t{-1})));
    for (int64_t i = 0; i < c.layers; ++i) add_layer(std::make_shared<LlamaLayer>(weights, c, i));
    norm_ = register_module("norm", FrozenRmsNorm(weights, "norm", c.width, c.norm_eps, c.norm_offset()));
    logits_cap_ = c.logits_cap;
    token_head_ = score_of_tokens(archive.config());
    take_head(archive, above, weights, prefix.substr(outside.size()) + kWordTable, c.vocabulary, c.width, options);
    weights.finish(c.family,
                   {"lm_head.", "score.", "rotary_emb.", "*.rotary_emb.inv_freq", "embed_tokens.embed_scale"});
    above.finish(c.family, {""});
    base_parameters_ = weights.taken();
    base_parameters_.insert(base_parameters_.end(), above.taken().begin(), above.taken().end());
  }

 protected:
  torch::Tensor embed(const torch::Tensor& ids, const CausalPass&) override {
    return config_.gemma ? words_(ids) * std::sqrt(static_cast<double>(config_.width)) : words_(ids);
  }
  torch::Tensor normalise(const torch::Tensor& x) override { return norm_(x); }

 private:
  LlamaConfig config_;
  FrozenRmsNorm norm_{nullptr};
};

/// Sizes that the weights show are taken from the weights.
LlamaConfig read_config(const ModelFiles& archive, const std::string& prefix, const ModelOptions& options) {
  const auto rows = [&](const std::string& name) {
    return archive.has(prefix + name) ? archive.tensor(prefix + name).size(0) : 0;
  };
  int64_t layers = 0;
  while (archive.has(cat(prefix, "layers.", layers, ".self_attn.o_proj.weight"))) ++layers;
  LlamaConfig c{LlamaSettings::read(archive.config(), layers)};
  c.layers = layers;
  const torch::Tensor words = archive.tensor(prefix + kWordTable);
  c.vocabulary = words.size(0);
  c.width = words.size(1);
  c.mlp_width = rows("layers.0.mlp.gate_up_proj.weight") / 2;
  if (c.mlp_width == 0) c.mlp_width = rows("layers.0.mlp.up_proj.weight");
  if (c.head_width == 0) c.head_width = c.width / c.heads;
  const int64_t fused = rows("layers.0.self_attn.qkv_proj.weight"), queries = rows("layers.0.self_attn.q_proj.weight");
  const int64_t found = fused > 0 ? fused - 2 * c.kv_heads * c.head_width : queries;
  check(c.heads % c.kv_heads == 0 && c.head_width % 2 == 0 && c.heads * c.head_width == found, "model ",
        archive.file().string(), ": its config.json's heads do not fit: num_attention_heads ", c.heads,
        ", num_key_value_heads ", c.kv_heads, ", head_dim ", c.head_width, ", where ",
        fused > 0 ? "qkv_proj leaves" : "q_proj has", " ", found, " rows for queries");
  if (options.dropout) c.attention_dropout = c.residual_dropout = *options.dropout;
  c.frequencies = rotary_frequencies(c.rotary, c.head_width);
  if (c.local_rotary) c.local_frequencies = rotary_frequencies(*c.local_rotary, c.head_width);
  return c;
}

}  // namespace

void register_llama_family(ModelFamilies& families) {
  ModelFamily family;
  family.recognises = [](const ModelFiles& archive) {
    const std::string type = model_type_of(archive.config());
    return kModelTypes.contains(type) && WeightMap::prefix_of(archive, kWordTable) &&
           WeightMap::prefix_of(archive, "layers.0.self_attn.o_proj.weight");
  };
  family.build = [](const ModelFiles& archive, const ModelOptions& options) -> std::shared_ptr<LanguageModel> {
    const std::string prefix = *WeightMap::prefix_of(archive, kWordTable);
    return std::make_shared<LlamaModel>(archive, read_config(archive, prefix, options), prefix, options);
  };
  const auto described = [](const ClassHeadForm& form, const ModelFiles& files, int64_t outputs) {
    const std::string prefix = *WeightMap::prefix_of(files, kWordTable);
    return describe_class_head(form, files, kModelTypes.at(model_type_of(files.config())), "model.", prefix,
                               files.tensor(prefix + kWordTable).size(1), outputs);
  };
  family.class_head = [described](const ModelFiles& files, int64_t outputs) {
    return described(score_form(), files, outputs);
  };
  family.token_head = [described](const ModelFiles& files, int64_t outputs) {
    const ClassHeadForm form = score_of_tokens(files.config());
    return form.last.empty() ? ClassHead() : described(form, files, outputs);
  };
  families.add("llama", std::move(family));
}

}  // namespace deeplora
