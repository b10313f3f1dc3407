// What config.json says of a model family: every value by its type and within the range that the computation needs. Free of LibTorch.
#pragma once

#include <string>
#include <vector>

#include "core/json_file.h"

namespace deeplora {

/// BERT, RoBERTa and DistilBERT, under one set of names.
struct EncoderSettings {
  int64_t heads = 0;           ///< 0: not given
  int64_t first_position = 0;  ///< RoBERTa starts counting at padding_idx + 1
  double norm_eps = 1e-12;
  std::string activation = "gelu";
  double hidden_dropout = 0.1, attention_dropout = 0.1, classifier_dropout = 0.1;

  static EncoderSettings read(const JsonFile& json, const std::string& family);
};

struct Gpt2Settings {
  int64_t heads = 0;  ///< 0: not given
  double norm_eps = 1e-5;
  std::string activation = "gelu_new";
  bool scale_scores = true, scale_by_layer = false;
  double embedding_dropout = 0.1, residual_dropout = 0.1, attention_dropout = 0.1;

  static Gpt2Settings read(const JsonFile& json);
};

/// Rotary positions. Configurations of transformers 5 have `rope_parameters`, older ones `rope_theta` and `rope_scaling`.
struct RotarySettings {
  std::string type = "default";  ///< default, linear, llama3
  double theta = 10000, factor = 1;
  double low = 1, high = 4;      ///< llama3: wavelengths between trained_length / these are interpolated
  int64_t trained_length = 8192;

  static RotarySettings read(const JsonFile& json);
};

/// Llama, Mistral, Qwen2.
struct LlamaSettings {
  int64_t heads = 0, kv_heads = 0;
  int64_t head_width = 0;  ///< 0: width / heads
  double norm_eps = 1e-6, attention_dropout = 0;
  std::string activation = "silu";
  std::vector<int64_t> windows;  ///< of each layer; 0: none
  RotarySettings rotary;

  static LlamaSettings read(const JsonFile& json, int64_t layers);
};

struct T5Settings {
  int64_t heads = 0;  ///< 0: not given
  int64_t buckets = 32, max_distance = 128;
  bool gated = false, scale_output = true;
  double norm_eps = 1e-6, dropout = 0.1;
  std::string activation = "relu";

  static T5Settings read(const JsonFile& json);
};

/// "model_type"; "" when config.json is silent.
std::string model_type_of(const JsonFile& config);

}  // namespace deeplora
