// What config.json says of a model family: every value by its type and within the range that the computation needs. Free of LibTorch.
#pragma once

#include <optional>
#include <string>
#include <vector>

#include "core/json_file.h"

namespace deeplora {

/// BERT, RoBERTa, DistilBERT, ELECTRA, ALBERT and MPNet, under one set of names.
struct EncoderSettings {
  int64_t heads = 0;           ///< 0: not given
  int64_t shared_layers = 0;   ///< how often ALBERT's one layer runs; 0: every layer has weights of its own
  int64_t buckets = 32;        ///< of MPNet's relative positions
  int64_t padding = 0;         ///< id of the padding token
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

  /// `layers`: "full_attention" or "sliding_attention" where a model has positions of two kinds, else empty.
  static RotarySettings read(const JsonFile& json, const std::string& layers = "");
};

/// Llama, Mistral, Qwen2, Qwen3, Phi-3, Gemma, Gemma 2 and Gemma 3 (text).
struct LlamaSettings {
  int64_t heads = 0, kv_heads = 0;
  int64_t head_width = 0;  ///< 0: width / heads
  double norm_eps = 1e-6, attention_dropout = 0;
  std::string activation = "silu";
  std::vector<int64_t> windows;  ///< of each layer; 0: none
  RotarySettings rotary;
  std::optional<RotarySettings> local_rotary;  ///< of the layers with a window, where it is another (Gemma 3)
  bool gemma = false;              ///< norms multiply by 1 + weight, embeddings by sqrt(D)
  double query_width = 0;          ///< scores are divided by its root; 0: the head's width
  double scores_cap = 0;           ///< scores s become cap tanh(s / cap); 0: none
  double logits_cap = 0;           ///< likewise
  double residual_dropout = 0;

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

/// BART, mBART, Marian, Pegasus.
struct BartSettings {
  int64_t encoder_heads = 0, decoder_heads = 0;  ///< 0: not given
  int64_t positions = 1024;                      ///< rows of sinusoidal tables
  int64_t padding = 1;                           ///< id of the padding token
  int64_t first_position = 0;                    ///< rows before the first position's
  bool norm_first = false, sinusoidal = false;
  double scale = 1;  ///< of the embeddings: 1, or anything else for sqrt(D)
  double dropout = 0.1, attention_dropout = 0, activation_dropout = 0;
  double layer_drop = 0;  ///< chance that training leaves a layer out, the larger of both stacks'
  std::string activation = "gelu";

  static BartSettings read(const JsonFile& json, const std::string& family);
};

/// "model_type"; "" when config.json is silent.
std::string model_type_of(const JsonFile& config);

}  // namespace deeplora
