// What config.json says of a model family: every value by its type and within the range that the computation needs.
// Free of LibTorch.
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
  int64_t bucket_rows = 32;    ///< of MPNet's table of relative positions
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

/// Rotary positions. Configurations of transformers 5 have `rope_parameters`, older ones `rope_theta` and
/// `rope_scaling`.
struct RotarySettings {
  std::string type = "default";  ///< default, linear, llama3
  double theta = 10000, factor = 1;
  double low = 1, high = 4;  ///< llama3: wavelengths between trained_length / these are interpolated
  int64_t trained_length = 8192;

  static RotarySettings read(const JsonFile& json);
  /// Of a model with positions of two kinds, `layers` being "full_attention" or "sliding_attention". Where
  /// `rope_parameters` is silent the base stands under `theta_key`, or is `theta`. `scaled`: an older `rope_scaling` is
  /// meant for these layers.
  static RotarySettings read_kind(const JsonFile& json, const std::string& layers, const std::string& theta_key,
                                  double theta, bool scaled);

 private:
  /// `rope`: the section that holds them, maybe empty; `theta`: the base where it is silent.
  static RotarySettings read_section(const JsonFile& json, const JsonFile& rope, double theta);
};

/// Llama, Mistral, Qwen2, Qwen3, Phi-3, Gemma, Gemma 2 and Gemma 3 (text).
struct LlamaSettings {
  int64_t heads = 0, kv_heads = 0;
  int64_t head_width = 0;  ///< 0: width / heads
  double norm_eps = 1e-6, attention_dropout = 0;
  std::string activation = "silu";
  bool query_bias = false, output_bias = false,
       mlp_bias = false;         ///< of queries, keys and values; of the attention's output; of the feed-forward
  std::vector<int64_t> windows;  ///< of each layer; 0: none
  RotarySettings rotary;
  std::optional<RotarySettings> local_rotary;  ///< of the layers with a window, where it is another (Gemma 3)
  bool gemma = false;                          ///< norms multiply by 1 + weight, embeddings by sqrt(D)
  double query_width = 0;                      ///< scores are divided by its root; 0: the head's width
  double scores_cap = 0;                       ///< scores s become cap tanh(s / cap); 0: none
  double logits_cap = 0;                       ///< likewise
  double residual_dropout = 0;

  static LlamaSettings read(const JsonFile& json, int64_t layers);
};

/// ModernBERT.
struct ModernBertSettings {
  int64_t heads = 0;
  int64_t padding = 50283;              ///< id of the padding token
  int64_t window = 0;                   ///< a token of a sliding layer sees those fewer than this many cells away
  std::vector<bool> slides;             ///< whether each layer has the window
  RotarySettings rotary, local_rotary;  ///< of the layers without and with a window
  double norm_eps = 1e-5;
  bool norm_bias = false, attention_bias = false, mlp_bias = false;
  std::string activation = "gelu";
  double embedding_dropout = 0, attention_dropout = 0, mlp_dropout = 0;

  static ModernBertSettings read(const JsonFile& json, int64_t layers);
};

/// DeBERTa v2 and v3.
struct DebertaSettings {
  int64_t heads = 0;
  int64_t padding = 0;     ///< id of the padding token
  bool relative = false;   ///< whether there is a table of relative positions
  int64_t buckets = 0;     ///< of relative positions; 0: every distance has its own row
  int64_t farthest = 512;  ///< distance from which on positions are alike
  bool content_to_position = false, position_to_content = false;
  bool shared_projections = false;                    ///< positions go through the projections of the content
  bool norm_positions = false;                        ///< the table of relative positions is normalised
  bool absolute = true;                               ///< words have absolute positions too
  int64_t segments = 0, kernel = 0, conv_groups = 1;  ///< kernel 0: no convolution behind the first layer
  double norm_eps = 1e-7;
  std::string activation = "gelu", conv_activation = "tanh";
  double hidden_dropout = 0.1, attention_dropout = 0.1;

  /// Rows of the table of relative positions on either side.
  int64_t span() const { return buckets > 0 ? buckets : farthest; }
  static DebertaSettings read(const JsonFile& json);
};

/// The heads for classifying texts of DeBERTa and of ModernBERT: a layer, an activation, a layer.
struct DebertaHeadSettings {
  std::string activation = "gelu";
  double first_dropout = 0, last_dropout = 0.1;  ///< in front of the layers

  /// `width`: of the model. Throws Error for a pooler of another width.
  static DebertaHeadSettings read(const JsonFile& json, int64_t width);
};
struct ModernBertHeadSettings {
  std::string activation = "gelu";
  bool mean = false;  ///< on the mean of the states, not on the first token's
  double dropout = 0;
  double spread = 0.02, cut = 2;  ///< of what is started; see ClassHeadStart

  static ModernBertHeadSettings read(const JsonFile& json);
};

struct T5Settings {
  int64_t heads = 0;  ///< 0: not given
  int64_t buckets = 32, max_distance = 128;
  bool gated = false, scale_output = true;
  int64_t end = 1, decoder_start = 0;  ///< ids of the token that ends a text, and of the first that the decoder reads
  double norm_eps = 1e-6, dropout = 0.1, classifier_dropout = 0;
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
  double scale = 1;                    ///< of the embeddings: 1, or anything else for sqrt(D)
  int64_t end = 2, decoder_start = 2;  ///< ids of the token that ends a text, and of the first that a decoder reads
  double dropout = 0.1, attention_dropout = 0, activation_dropout = 0, classifier_dropout = 0;
  double layer_drop = 0;  ///< chance that training leaves a layer out, the larger of both stacks'
  std::string activation = "gelu";

  static BartSettings read(const JsonFile& json, const std::string& family);
};

/// "model_type"; "" when config.json is silent.
std::string model_type_of(const JsonFile& config);

}  // namespace deeplora
