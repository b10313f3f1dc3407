#include "models/settings.h"

#include <algorithm>
#include <map>

namespace deeplora {
namespace {

/// Larger than any model's numbers; products of a few such sizes still fit.
constexpr int64_t kLargest = int64_t{1} << 30;

int64_t whole(const JsonFile& json, const std::string& key, int64_t fallback, int64_t lowest) {
  const int64_t value = json.value(key, fallback);
  check(!json.has(key) || (value >= lowest && value <= kLargest), json.name, ": ", key,
        ": expected a whole number from ", lowest, " to ", kLargest, ", found ", value);
  return value;
}

/// A token's id; the fallback where there are several.
int64_t one_id(const JsonFile& json, const std::string& key, int64_t fallback) {
  return json.has(key) && json.root[key].is_array() ? fallback : whole(json, key, fallback, 0);
}

double above_zero(const JsonFile& json, const std::string& key, double fallback) {
  const double value = json.value(key, fallback);
  check(value > 0, json.name, ": ", key, ": expected a number above 0, found ", value);
  return value;
}

/// What a norm adds to the variance.
double epsilon(const JsonFile& json, const std::string& key, double fallback) {
  const double value = json.value(key, fallback);
  check(value >= 0, json.name, ": ", key, ": expected a number from 0, found ", value);
  return value;
}

double share(const JsonFile& json, const std::string& key, double fallback) {
  const double value = json.value(key, fallback);
  check(value >= 0 && value <= 1, json.name, ": ", key, ": expected a number from 0 to 1, found ", value);
  return value;
}

void check_activation(const JsonFile& json, const std::string& key, const std::string& name) {
  static const std::vector<std::string> kKnown{
      "gelu", "gelu_new", "gelu_pytorch_tanh", "gelu_fast", "quick_gelu", "relu", "silu", "swish", "tanh"};
  check(std::find(kKnown.begin(), kKnown.end(), name) != kKnown.end(), json.name, ": ", key, ": activation '", name,
        "' is not known; known: ", join(kKnown, ", ", kKnown.size()));
}

std::string activation(const JsonFile& json, const std::string& key, const std::string& fallback) {
  std::string name = json.value(key, fallback);
  check_activation(json, key, name);
  return name;
}

/// Whether layer `i` has a window where `layer_types` is silent. Mistral and Phi-3: all; Qwen2 and Qwen3: from
/// max_window_layers on; Gemma 2: every other; Gemma 3: all but every sixth.
bool slides_by_default(const JsonFile& json, const std::string& type, int64_t i) {
  if (type == "gemma2") return i % 2 == 0;
  if (type == "gemma3_text") return (i + 1) % whole(json, "sliding_window_pattern", 6, 1) != 0;
  return type == "qwen2" || type == "qwen3" ? i >= whole(json, "max_window_layers", 28, 0) : true;
}

/// "layer_types": one of two for each layer; empty where config.json is silent.
std::vector<std::string> layer_types(const JsonFile& json, int64_t layers) {
  auto out = json.value("layer_types", std::vector<std::string>());
  check(out.empty() || static_cast<int64_t>(out.size()) >= layers, json.name, ": layer_types: expected ", layers,
        " names, found ", out.size());
  for (const std::string& type : out)
    check(type == "full_attention" || type == "sliding_attention", json.name, ": layer_types: '", type,
          "' has no native family; known: full_attention, sliding_attention; use model.backend: graph");
  return out;
}

std::vector<int64_t> sliding_windows(const JsonFile& json, int64_t layers) {
  const std::string type = model_type_of(json);
  std::vector<int64_t> out(static_cast<size_t>(layers), 0);
  const bool optional = type == "qwen2" || type == "qwen3",
             by_layer = optional || type == "gemma2" || type == "gemma3_text";
  const bool used = type == "mistral" || type == "phi3" || by_layer;
  if (!used || (optional && !json.value("use_sliding_window", false))) return out;
  // Phi-3 has a window only where config.json names one, the others unless it says null.
  if (!json.has("sliding_window") && (type == "phi3" || json.root.contains("sliding_window"))) return out;
  const int64_t window = whole(json, "sliding_window", 4096, 1);
  const auto types = by_layer ? layer_types(json, layers) : std::vector<std::string>();
  for (size_t i = 0; i < out.size(); ++i) {
    const bool slides =
        !types.empty() ? types[i] == "sliding_attention" : slides_by_default(json, type, static_cast<int64_t>(i));
    if (slides) out[i] = window;
  }
  return out;
}

}  // namespace

std::string model_type_of(const JsonFile& config) { return config.value("model_type", std::string()); }

namespace {

void read_albert(const JsonFile& json, EncoderSettings& out) {
  for (const char* key : {"num_hidden_groups", "inner_group_num"})
    check(whole(json, key, 1, 1) == 1, json.name, ": ", key,
          ": an ALBERT with more than one group of layers has no native family; use model.backend: graph");
  out.shared_layers = whole(json, "num_hidden_layers", 12, 1);
  out.activation = activation(json, "hidden_act", "gelu_new");
  out.hidden_dropout = share(json, "hidden_dropout_prob", 0);
  out.attention_dropout = share(json, "attention_probs_dropout_prob", 0);
  out.classifier_dropout = share(json, "classifier_dropout_prob", 0.1);
}

}  // namespace

EncoderSettings EncoderSettings::read(const JsonFile& json, const std::string& family) {
  const bool distil = family == "distilbert";
  EncoderSettings out;
  for (const char* key : {"is_decoder", "add_cross_attention"})
    check(!json.value(key, false), json.name, ": ", key,
          ": an encoder that is a decoder has no native family; use model.backend: graph");
  const std::string positions = json.value("position_embedding_type", std::string("absolute"));
  check(positions == "absolute", json.name, ": position_embedding_type: '", positions,
        "' has no native family; use model.backend: graph");
  out.heads = whole(json, distil ? "n_heads" : "num_attention_heads", 0, 1);
  out.norm_eps = distil ? 1e-12 : epsilon(json, "layer_norm_eps", 1e-12);
  out.activation = deeplora::activation(json, distil ? "activation" : "hidden_act", "gelu");
  out.hidden_dropout = share(json, distil ? "dropout" : "hidden_dropout_prob", 0.1);
  out.attention_dropout = share(json, distil ? "attention_dropout" : "attention_probs_dropout_prob", 0.1);
  out.classifier_dropout =
      share(json, distil ? "seq_classif_dropout" : "classifier_dropout", distil ? 0.2 : out.hidden_dropout);
  out.padding = whole(json, "pad_token_id", family == "roberta" || family == "mpnet" ? 1 : 0, 0);
  if (family == "roberta") out.first_position = whole(json, "pad_token_id", 1, 0) + 1;
  if (family == "mpnet") out.first_position = 2;  // whatever the padding token is
  // transformers computes 32 buckets, whatever the number of the table's rows is.
  if (family == "mpnet") out.bucket_rows = whole(json, "relative_attention_num_buckets", 32, 32);
  if (family == "albert") read_albert(json, out);
  return out;
}

Gpt2Settings Gpt2Settings::read(const JsonFile& json) {
  Gpt2Settings out;
  out.heads = whole(json, "n_head", 0, 1);
  check(!json.value("add_cross_attention", false), json.name, ": a GPT-2 with cross-attention has no native family");
  out.norm_eps = epsilon(json, "layer_norm_epsilon", 1e-5);
  out.activation = deeplora::activation(json, "activation_function", "gelu_new");
  out.scale_scores = json.value("scale_attn_weights", true);
  out.scale_by_layer = json.value("scale_attn_by_inverse_layer_idx", false);
  out.embedding_dropout = share(json, "embd_pdrop", 0.1);
  out.residual_dropout = share(json, "resid_pdrop", 0.1);
  out.attention_dropout = share(json, "attn_pdrop", 0.1);
  return out;
}

namespace {

/// max_position_embeddings where config.json is silent.
int64_t longest_by_default(const std::string& type) {
  static const std::map<std::string, int64_t> kLengths{{"llama", 2048},  {"mistral", 131072}, {"qwen2", 32768},
                                                       {"qwen3", 32768}, {"phi3", 4096},      {"gemma3_text", 131072}};
  const auto found = kLengths.find(type);
  return found == kLengths.end() ? 8192 : found->second;
}

}  // namespace

RotarySettings RotarySettings::read(const JsonFile& json) {
  const JsonFile older = json.section("rope_scaling");
  return read_section(json, older.root.empty() ? json.section("rope_parameters") : older,
                      above_zero(json, "rope_theta", 10000));
}

RotarySettings RotarySettings::read_kind(const JsonFile& json, const std::string& layers, const std::string& theta_key,
                                         double theta, bool scaled) {
  const JsonFile today = json.section("rope_parameters"), older = json.section("rope_scaling");
  check(today.root.empty() || today.has("full_attention") || today.has("sliding_attention"), json.name,
        ": rope_parameters: expected full_attention and sliding_attention, as this kind of model has them");
  check(today.root.empty() || older.root.empty(), json.name,
        ": gives both rope_parameters and rope_scaling; leave one out");
  theta = above_zero(json, theta_key, theta);
  if (!older.root.empty()) return read_section(json, scaled ? older : JsonFile{older.name}, theta);
  return read_section(json, today.section(layers), theta);
}

RotarySettings RotarySettings::read_section(const JsonFile& json, const JsonFile& rope, double theta) {
  RotarySettings out;
  out.theta = above_zero(rope, "rope_theta", theta);
  out.type = rope.value("rope_type", rope.value("type", out.type));
  const double part = rope.value("partial_rotary_factor", json.value("partial_rotary_factor", 1.0));
  check(part == 1.0, json.name, ": rotary positions on a part of each head (partial_rotary_factor ", part,
        ") have no native family");
  check(out.type == "default" || out.type == "linear" || out.type == "llama3", json.name, ": rope scaling '", out.type,
        "' has no native family; known: default, linear, llama3; use model.backend: graph");
  if (out.type == "default") return out;
  const auto required = [&rope](const char* key) { return above_zero(rope, key, rope.at<double>(key)); };
  out.factor = required("factor");
  if (out.type == "linear") return out;
  out.low = required("low_freq_factor");
  out.high = required("high_freq_factor");
  check(out.high > out.low, rope.name, ": high_freq_factor: expected more than low_freq_factor (", out.low, "), found ",
        out.high);
  out.trained_length = whole(rope, "original_max_position_embeddings",
                             whole(json, "max_position_embeddings", longest_by_default(model_type_of(json)), 1), 1);
  check(whole(json, "original_max_position_embeddings", out.trained_length, 1) == out.trained_length, json.name,
        ": original_max_position_embeddings: expected ", out.trained_length, " as beside the rope scaling");
  return out;
}

namespace {

void read_gemma(const JsonFile& json, const std::string& type, LlamaSettings& out) {
  out.gemma = true;
  check(!json.value("use_bidirectional_attention", false), json.name,
        ": a Gemma that looks both ways (use_bidirectional_attention) has no native family");
  if (!json.has("head_dim")) out.head_width = 256;
  out.activation = activation(json, type == "gemma" ? "hidden_act" : "hidden_activation", "gelu_pytorch_tanh");
  // The first releases say "gelu" and mean its approximation by tanh, which transformers takes.
  if (type == "gemma" && out.activation == "gelu") out.activation = "gelu_pytorch_tanh";
  if (type == "gemma") return;
  out.query_width = above_zero(json, "query_pre_attn_scalar", 256);
  const auto cap = [&json](const char* key, double fallback) {
    if (json.root.contains(key) && json.root[key].is_null()) return 0.0;
    return json.has(key) ? above_zero(json, key, fallback) : fallback;
  };
  // Gemma 3 has the key too, and does not read it.
  if (type == "gemma2") out.scores_cap = cap("attn_logit_softcapping", 50);
  out.logits_cap = cap("final_logit_softcapping", type == "gemma2" ? 30 : 0);
}

}  // namespace

LlamaSettings LlamaSettings::read(const JsonFile& json, int64_t layers) {
  LlamaSettings out;
  out.heads = whole(json, "num_attention_heads", 0, 1);
  check(out.heads > 0, json.name, ": gives no num_attention_heads; export it with tools/export_torchscript.py");
  out.kv_heads = whole(json, "num_key_value_heads", out.heads, 1);
  out.head_width = whole(json, "head_dim", 0, 1);
  const std::string type = model_type_of(json);
  out.norm_eps = epsilon(json, "rms_norm_eps", type == "phi3" ? 1e-5 : 1e-6);
  out.attention_dropout = share(json, "attention_dropout", 0.0);
  out.windows = sliding_windows(json, layers);
  out.output_bias = type != "mistral" && type != "qwen2" && type != "phi3" && json.value("attention_bias", false);
  out.query_bias = out.output_bias || type == "qwen2";
  out.mlp_bias = (type == "llama" || type.empty()) && json.value("mlp_bias", false);
  if (type == "gemma3_text") {
    out.rotary = RotarySettings::read_kind(json, "full_attention", "rope_theta", 1e6, /*scaled=*/true);
    out.local_rotary =
        RotarySettings::read_kind(json, "sliding_attention", "rope_local_base_freq", 10000, /*scaled=*/false);
  } else {
    out.rotary = RotarySettings::read(json);
  }
  if (type == "phi3") {
    out.residual_dropout = share(json, "resid_pdrop", 0.0);
    check(share(json, "embd_pdrop", 0.0) == 0, json.name,
          ": dropout of the embeddings (embd_pdrop) has no native form here; use model.backend: graph");
  }
  if (type.starts_with("gemma")) read_gemma(json, type, out);
  else out.activation = deeplora::activation(json, "hidden_act", "silu");
  return out;
}

BartSettings BartSettings::read(const JsonFile& json, const std::string& family) {
  BartSettings out;
  out.encoder_heads = whole(json, "encoder_attention_heads", 0, 1);
  out.decoder_heads = whole(json, "decoder_attention_heads", 0, 1);
  out.positions = whole(json, "max_position_embeddings", 1024, 1);
  out.padding = whole(json, "pad_token_id", family == "pegasus" ? 0 : family == "marian" ? 58100 : 1, 0);
  out.sinusoidal = family == "marian" || family == "pegasus";
  out.first_position = out.sinusoidal ? 0 : 2;
  out.norm_first = family == "mbart" || family == "pegasus";
  out.scale = json.value("scale_embedding", false) ? 0 : 1;
  out.dropout = share(json, "dropout", 0.1);
  out.attention_dropout = share(json, "attention_dropout", 0);
  out.activation_dropout = share(json, "activation_dropout", 0);
  out.classifier_dropout = share(json, "classifier_dropout", 0);
  out.end = one_id(json, "eos_token_id", out.end);
  out.decoder_start = whole(json, "decoder_start_token_id", out.end, 0);
  out.layer_drop = std::max(share(json, "encoder_layerdrop", 0), share(json, "decoder_layerdrop", 0));
  out.activation = deeplora::activation(json, "activation_function", "gelu");
  return out;
}

ModernBertSettings ModernBertSettings::read(const JsonFile& json, int64_t layers) {
  ModernBertSettings out;
  out.heads = whole(json, "num_attention_heads", 12, 1);
  out.padding = whole(json, "pad_token_id", 50283, 0);
  out.window = whole(json, "local_attention", 128, 0) / 2 + 1;
  out.norm_eps = epsilon(json, "norm_eps", 1e-5);
  out.norm_bias = json.value("norm_bias", false);
  out.attention_bias = json.value("attention_bias", false);
  out.mlp_bias = json.value("mlp_bias", false);
  out.activation = deeplora::activation(json, "hidden_activation", "gelu");
  out.embedding_dropout = share(json, "embedding_dropout", 0);
  out.attention_dropout = share(json, "attention_dropout", 0);
  out.mlp_dropout = share(json, "mlp_dropout", 0);
  const auto types = layer_types(json, layers);
  const int64_t every = whole(json, "global_attn_every_n_layers", 3, 1);
  for (int64_t i = 0; i < layers; ++i)
    out.slides.push_back(types.empty() ? i % every != 0 : types[static_cast<size_t>(i)] == "sliding_attention");
  out.rotary = RotarySettings::read_kind(json, "full_attention", "global_rope_theta", 160000, /*scaled=*/true);
  out.local_rotary = RotarySettings::read_kind(json, "sliding_attention", "local_rope_theta", 10000, /*scaled=*/true);
  return out;
}

namespace {

/// "p2c|c2p" or a list.
std::vector<std::string> names_of(const JsonFile& json, const std::string& key) {
  if (!json.has(key)) return {};
  if (!json.root.at(key).is_string()) return json.value(key, std::vector<std::string>());
  std::vector<std::string> out{""};
  for (const char c : json.value(key, std::string())) {
    if (c == '|') out.emplace_back();
    else if (c != ' ') out.back() += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
  }
  return out;
}

bool contains(const std::vector<std::string>& names, const std::string& name) {
  return std::find(names.begin(), names.end(), name) != names.end();
}

void read_relative_positions(const JsonFile& json, DebertaSettings& out) {
  const auto whole_or_none = [&json](const char* key) {
    return json.has(key) && json.value(key, int64_t{0}) > 0 ? whole(json, key, 0, 1) : 0;
  };
  out.farthest = whole_or_none("max_relative_positions");
  if (out.farthest == 0) out.farthest = whole(json, "max_position_embeddings", 512, 1);
  out.buckets = whole_or_none("position_buckets");
  check(out.buckets != 1, json.name, ": position_buckets: expected 2 or more, found 1");
  check(out.buckets == 0 || out.farthest - 1 > out.buckets / 2, json.name,
        ": max_relative_positions: expected more than half of position_buckets (", out.buckets, ") and 1, found ",
        out.farthest);
  out.shared_projections = json.value("share_att_key", false);
}

}  // namespace

DebertaSettings DebertaSettings::read(const JsonFile& json) {
  DebertaSettings out;
  out.heads = whole(json, "num_attention_heads", 24, 1);
  out.padding = whole(json, "pad_token_id", 0, 0);
  out.segments = whole(json, "type_vocab_size", 0, 0);
  out.absolute = json.value("position_biased_input", true);
  out.norm_eps = epsilon(json, "layer_norm_eps", 1e-7);
  out.activation = deeplora::activation(json, "hidden_act", "gelu");
  out.hidden_dropout = share(json, "hidden_dropout_prob", 0.1);
  out.attention_dropout = share(json, "attention_probs_dropout_prob", 0.1);
  // The scale of the scores counts both kinds even where there are no relative positions.
  const auto kinds = names_of(json, "pos_att_type");
  out.content_to_position = contains(kinds, "c2p");
  out.position_to_content = contains(kinds, "p2c");
  out.relative = json.value("relative_attention", false);
  out.norm_positions = contains(names_of(json, "norm_rel_ebd"), "layer_norm");
  if (out.relative) read_relative_positions(json, out);
  if (json.has("conv_kernel_size")) out.kernel = whole(json, "conv_kernel_size", 0, 0);
  check(out.kernel == 0 || out.kernel % 2 == 1, json.name, ": conv_kernel_size: expected an odd number, found ",
        out.kernel);
  out.conv_groups = whole(json, "conv_groups", 1, 1);
  out.conv_activation = deeplora::activation(json, "conv_act", "tanh");
  return out;
}

DebertaHeadSettings DebertaHeadSettings::read(const JsonFile& json, int64_t width) {
  DebertaHeadSettings out;
  out.activation = deeplora::activation(json, "pooler_hidden_act", "gelu");
  out.first_dropout = share(json, "pooler_dropout", 0);
  out.last_dropout = share(json, "cls_dropout", share(json, "hidden_dropout_prob", 0.1));
  const int64_t pooler = whole(json, "pooler_hidden_size", width, 1);
  check(pooler == width, json.name, ": pooler_hidden_size: expected the model's width ", width, ", found ", pooler);
  return out;
}

ModernBertHeadSettings ModernBertHeadSettings::read(const JsonFile& json) {
  ModernBertHeadSettings out;
  out.activation = deeplora::activation(json, "classifier_activation", "gelu");
  const std::string pooling = json.value("classifier_pooling", std::string("cls"));
  check(pooling == "cls" || pooling == "mean", json.name, ": classifier_pooling: expected cls or mean, found '",
        pooling, "'");
  out.mean = pooling == "mean";
  out.dropout = share(json, "classifier_dropout", 0);
  out.spread = epsilon(json, "initializer_range", 0.02);
  // Silent means 2, null means 3.
  out.cut = epsilon(json, "initializer_cutoff_factor", json.root.contains("initializer_cutoff_factor") ? 3 : 2);
  return out;
}

T5Settings T5Settings::read(const JsonFile& json) {
  T5Settings out;
  out.heads = whole(json, "num_heads", 0, 1);
  // Fewer than four would leave no bucket for exact distances; a distance beyond them, none for the logarithm.
  out.buckets = whole(json, "relative_attention_num_buckets", 32, 4);
  out.max_distance = whole(json, "relative_attention_max_distance", 128, 1);
  check(out.max_distance > out.buckets / 2, json.name,
        ": relative_attention_max_distance: expected more than half of relative_attention_num_buckets (", out.buckets,
        "), found ", out.max_distance);
  // "gated-gelu" -> {true, "gelu_new"}, as transformers reads it.
  const std::string kind =
      json.value("feed_forward_proj", std::string(model_type_of(json) == "mt5" ? "gated-gelu" : "relu"));
  out.gated = kind.starts_with("gated-");
  out.activation = kind == "gated-gelu" ? "gelu_new" : out.gated ? kind.substr(6) : kind;
  check_activation(json, "feed_forward_proj", out.activation);
  out.norm_eps = epsilon(json, "layer_norm_epsilon", 1e-6);
  out.dropout = share(json, "dropout_rate", 0.1);
  out.classifier_dropout = share(json, "classifier_dropout", 0);
  out.end = one_id(json, "eos_token_id", out.end);
  out.decoder_start = whole(json, "decoder_start_token_id", whole(json, "pad_token_id", 0, 0), 0);
  // Newer configurations say it outright; in older ones only models with tied tables scale. mT5 never does.
  out.scale_output =
      model_type_of(json) == "t5" && json.value("scale_decoder_outputs", json.value("tie_word_embeddings", true));
  return out;
}

}  // namespace deeplora
