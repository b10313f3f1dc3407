// DeBERTa v2 and v3 (He et al. 2021, arXiv 2006.03654 and 2111.09543): scores are the sum of content to content,
// content to position and position to content, positions being those of keys relative to queries.
#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "models/activation.h"
#include "models/dropout.h"
#include "models/norms.h"
#include "models/packed_encoder.h"
#include "models/registration.h"
#include "models/relative_positions.h"
#include "models/settings.h"

namespace deeplora {
namespace {

constexpr const char* kDebertaTable = "embeddings.word_embeddings";
// Added to the score of a key that must not be seen; exp() of it is 0, and a row without any visible key stays finite.

struct DebertaConfig : DebertaSettings {
  int64_t layers = 0, width = 0, embedding_width = 0, mlp_width = 0, vocabulary = 0;

  /// What scores are divided by, rounded as the reference does.
  double scale() const {
    const int64_t kinds = 1 + (content_to_position ? 1 : 0) + (position_to_content ? 1 : 0);
    return std::sqrt(static_cast<float>(width / heads * kinds));
  }
  bool uses_positions() const { return relative && (content_to_position || position_to_content); }
};

/// `shared` holds the rows of the table of relative positions that this batch's distances have [R, D], if any.
struct DebertaPass : EncoderPass {
  torch::Tensor rows =
      {};  ///< [2 T - 1] int64: which of these rows the distances query - key from T - 1 down to 1 - T have
};

/// [H, T, d] of rows [T, H d]
torch::Tensor by_head(const torch::Tensor& rows, int64_t heads) {
  return rows.view({rows.size(0), heads, -1}).transpose(0, 1);
}

/// x [..., T, 2 T - 1], whose column m belongs to distance m - T + 1 from the row -> [..., T, T]: element (i, j) is the
/// one for distance j - i. Nothing is copied: in memory the rows of the result begin one element earlier each.
torch::Tensor by_distance(const torch::Tensor& x) {
  const int64_t tokens = x.size(-2);
  if (tokens == 1) return x;
  return x.flatten(-2)
      .narrow(-1, tokens - 1, tokens * (2 * tokens - 2))
      .unflatten(-1, {tokens, 2 * tokens - 2})
      .narrow(-1, 0, tokens);
}

class DebertaAttention : public torch::nn::Module {
 public:
  DebertaAttention(WeightMap& weights, const std::string& at, const DebertaConfig& c) : config_(c) {
    const auto projection = [&](const std::string& name) {
      return register_module(name, weights.projection(at + name, c.width, c.width, DeclaredBias{true}));
    };
    query_ = projection("query_proj");
    key_ = projection("key_proj");
    value_ = projection("value_proj");
    query_key_value_ = weights.joined({query_, key_, value_});
    if (!c.relative || c.shared_projections) return;
    if (c.content_to_position) position_key_ = projection("pos_key_proj");
    if (c.position_to_content) position_query_ = projection("pos_query_proj");
  }

  /// in = {x [N, D], positions [R, D] if any} -> [N, D]; with `first_only` of the first tokens, [B, D].
  torch::Tensor forward(const std::vector<torch::Tensor>& in, const DebertaPass& pass, bool first_only) {
    const Packing& packing = pass.packing;
    torch::Tensor q, k, v;
    if (first_only) {
      const auto kv = query_key_value_.without_first(in[0]);
      q = query_(packing.first_tokens(in[0])).view({packing.batch(), 1, config_.heads, -1}).permute({2, 0, 1, 3});
      k = split(kv[0], packing);
      v = split(kv[1], packing);
    } else {
      const auto qkv = query_key_value_.forward(in[0]);
      q = split(qkv[0], packing);
      k = split(qkv[1], packing);
      v = split(qkv[2], packing);
    }
    q = q / config_.scale();
    torch::Tensor scores = at::matmul(q, k.transpose(-1, -2));
    if (in.size() > 1) scores = scores + position_scores(q, k, in[1], pass, first_only);
    if (packing.attention_mask().defined())
      scores = scores.masked_fill(packing.attention_mask().squeeze(1).logical_not().unsqueeze(0), kHiddenScore);
    const torch::Tensor weights = dropped(at::softmax(scores, -1), config_.attention_dropout);
    const torch::Tensor out = at::matmul(weights.to(v.scalar_type()), v).permute({1, 2, 0, 3}).flatten(2);  // [B, T, D]
    return first_only ? out.squeeze(1) : packing.pack(out);
  }

  void add_sites(std::vector<AdapterSite>& sites) {
    const bool shared = config_.uses_positions() && config_.shared_projections;
    sites.push_back(query_->site("query", SiteKind::linear, shared && config_.position_to_content ? 2 : 1));
    sites.push_back(key_->site("key", SiteKind::linear, shared && config_.content_to_position ? 2 : 1));
    sites.push_back(value_->site("value"));
    if (position_key_) sites.push_back(position_key_->site("key"));
    if (position_query_) sites.push_back(position_query_->site("query"));
  }

 private:
  torch::Tensor dropped(const torch::Tensor& x, double p) const {
    return is_training() && p > 0 ? seeded_dropout(x, p) : x;
  }

  /// [N, D] -> [H, B, T, d]
  torch::Tensor split(const torch::Tensor& x, const Packing& packing) const {
    return packing.unpack(x)
        .view({packing.batch(), packing.tokens(), config_.heads, -1})
        .permute({2, 0, 1, 3})
        .contiguous();
  }

  /// What positions add to the scores [H, B, Q, T]: q [H, B, Q, d], scaled, k [H, B, T, d].
  torch::Tensor position_scores(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& table,
                                const DebertaPass& pass, bool first_only) {
    const torch::Tensor positions = dropped(table, config_.hidden_dropout);
    torch::Tensor out;
    if (config_.content_to_position) {
      Projection& project = config_.shared_projections ? key_ : position_key_;
      out = content_to_position(q, by_head(project->forward(positions).index_select(0, pass.rows), config_.heads),
                                first_only);
    }
    if (config_.position_to_content) {
      Projection& project = config_.shared_projections ? query_ : position_query_;
      const torch::Tensor scaled = project->forward(positions) / config_.scale();
      const torch::Tensor more =
          position_to_content(k, by_head(scaled.index_select(0, pass.rows), config_.heads), first_only);
      out = out.defined() ? out + more : more;
    }
    return out;
  }

  /// positions [H, 2 T - 1, d] of distances from T - 1 down to 1 - T.
  static torch::Tensor content_to_position(const torch::Tensor& q, const torch::Tensor& positions, bool first_only) {
    const int64_t tokens = (positions.size(1) + 1) / 2;
    // Row 0 has the distances 0, -1, ... to its keys.
    const torch::Tensor looked_at = first_only ? positions.narrow(1, tokens - 1, tokens) : positions;
    const torch::Tensor products =
        at::matmul(q.flatten(1, 2), looked_at.transpose(1, 2)).view({q.size(0), q.size(1), q.size(2), -1});
    return first_only ? products : by_distance(products);
  }
  static torch::Tensor position_to_content(const torch::Tensor& k, const torch::Tensor& positions, bool first_only) {
    const int64_t tokens = k.size(2);
    if (first_only) return (k * positions.narrow(1, tokens - 1, tokens).unsqueeze(1)).sum(-1).unsqueeze(2);
    const torch::Tensor products =
        at::matmul(k.flatten(1, 2), positions.flip(1).transpose(1, 2)).view({k.size(0), k.size(1), tokens, -1});
    return by_distance(products).transpose(-1, -2);
  }

  const DebertaConfig& config_;
  Projection query_{nullptr}, key_{nullptr}, value_{nullptr}, position_key_{nullptr}, position_query_{nullptr};
  JoinedProjections query_key_value_;
};

/// The convolution over neighbouring tokens that the largest models have behind their first layer: LayerNorm(y +
/// act(conv(x))).
class DebertaConvolution : public torch::nn::Module {
 public:
  DebertaConvolution(WeightMap& weights, const std::string& at, const DebertaConfig& c) : config_(c) {
    weight_ =
        register_parameter("weight", weights.take(at + "conv.weight", {c.width, c.width / c.conv_groups, c.kernel}),
                           /*requires_grad=*/false);
    bias_ = register_parameter("bias", weights.take(at + "conv.bias", {c.width}), /*requires_grad=*/false);
    norm_ = register_module("norm", FrozenLayerNorm(weights, at + "LayerNorm", c.width, c.norm_eps));
  }

  /// x [N, D] before the layer, y [N, D] behind it -> [N, D]
  torch::Tensor forward(const torch::Tensor& x, const torch::Tensor& y, const Packing& packing) {
    const torch::Tensor padded = packing.unpack(x).transpose(1, 2);
    const torch::Tensor mixed = at::conv1d(padded, weight_, bias_, /*stride=*/1, /*padding=*/(config_.kernel - 1) / 2,
                                           /*dilation=*/1, config_.conv_groups);
    torch::Tensor packed = packing.pack(mixed.transpose(1, 2));
    if (is_training()) packed = seeded_dropout(packed, config_.hidden_dropout);
    return norm_(y + activate(packed, config_.conv_activation));
  }

 private:
  const DebertaConfig& config_;
  torch::Tensor weight_, bias_;  ///< [D, D / groups, kernel], [D]
  FrozenLayerNorm norm_{nullptr};
};

class DebertaLayer : public torch::nn::Module {
 public:
  using Pass = DebertaPass;

  DebertaLayer(WeightMap& weights, const DebertaConfig& c, int64_t index) : config_(c), name_(cat("layer ", index)) {
    const std::string at = cat("encoder.layer.", index, ".");
    attention_ = register_module("attention", std::make_shared<DebertaAttention>(weights, at + "attention.self.", c));
    output_ = register_module("output",
                              weights.projection(at + "attention.output.dense", c.width, c.width, DeclaredBias{true}));
    attention_norm_ = register_module("attention_norm",
                                      FrozenLayerNorm(weights, at + "attention.output.LayerNorm", c.width, c.norm_eps));
    mlp_in_ = register_module("mlp_in",
                              weights.projection(at + "intermediate.dense", c.mlp_width, c.width, DeclaredBias{true}));
    mlp_out_ =
        register_module("mlp_out", weights.projection(at + "output.dense", c.width, c.mlp_width, DeclaredBias{true}));
    mlp_norm_ = register_module("mlp_norm", FrozenLayerNorm(weights, at + "output.LayerNorm", c.width, c.norm_eps));
    if (index == 0 && c.kernel > 0)
      convolution_ = register_module("convolution", std::make_shared<DebertaConvolution>(weights, "encoder.conv.", c));
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& in, const Pass& pass) {
    const torch::Tensor attended = behind_attention(attention_->forward(in, pass, false), in[0]),
                        out = feed_forward(attended);
    pass.note(name_ + ", attention", attended);
    pass.note(name_ + ", feed-forward", out);
    if (!convolution_) return out;
    const torch::Tensor mixed = convolution_->forward(in[0], out, pass.packing);
    pass.note("the convolution", mixed);
    return mixed;
  }

  torch::Tensor first_tokens(const std::vector<torch::Tensor>& in, const Pass& pass) {
    if (convolution_) return pass.packing.first_tokens(forward(in, pass));  // it reads the neighbours
    return feed_forward(behind_attention(attention_->forward(in, pass, true), pass.packing.first_tokens(in[0])));
  }

  void add_sites(std::vector<AdapterSite>& sites) {
    attention_->add_sites(sites);
    sites.push_back(output_->site("attention_output"));
    sites.push_back(mlp_in_->site("mlp_in"));
    sites.push_back(mlp_out_->site("mlp_out"));
  }

 private:
  double dropout() const { return is_training() ? config_.hidden_dropout : 0.0; }
  torch::Tensor behind_attention(const torch::Tensor& mixed, const torch::Tensor& x) {
    return attention_norm_->of_sum(output_(mixed), x, dropout());
  }
  torch::Tensor feed_forward(const torch::Tensor& x) {
    return mlp_norm_->of_sum(mlp_out_->of_activated(mlp_in_(x), config_.activation), x, dropout());
  }

  const DebertaConfig& config_;
  std::string name_;
  std::shared_ptr<DebertaAttention> attention_;
  std::shared_ptr<DebertaConvolution> convolution_;
  Projection output_{nullptr}, mlp_in_{nullptr}, mlp_out_{nullptr};
  FrozenLayerNorm attention_norm_{nullptr}, mlp_norm_{nullptr};
};

ClassHeadForm deberta_head_form() { return {.first = "pooler.dense", .last = "classifier"}; }

EncoderHead deberta_head(const ModelFiles& files, WeightMap& weights, int64_t width, const ModelOptions& options) {
  const auto settings = DebertaHeadSettings::read(files.config(), width);
  ClassHeadForm form = deberta_head_form();
  form.activation = settings.activation;
  form.first_dropout = options.dropout.value_or(settings.first_dropout);
  return encoder_head(files, weights, form, "deberta-v2", width, options.dropout.value_or(settings.last_dropout),
                      options);
}

class DebertaModel : public PackedEncoder<DebertaLayer> {
 public:
  DebertaModel(const ModelFiles& files, DebertaConfig config, const std::string& prefix, const ModelOptions& options)
      : PackedEncoder("deberta-v2"), config_(std::move(config)) {
    WeightMap weights(files, prefix);
    const DebertaConfig& c = config_;
    weights.expect_size("vocab_size", c.vocabulary);
    weights.expect_size("hidden_size", c.width);
    weights.expect_size("embedding_size", c.embedding_width);
    weights.expect_size("num_hidden_layers", c.layers);
    weights.expect_size("intermediate_size", c.mlp_width);
    words_ = register_module("words", weights.embedding(kDebertaTable, c.vocabulary, c.embedding_width, c.padding));
    if (c.absolute)
      positions_ =
          register_module("positions", weights.embedding("embeddings.position_embeddings", -1, c.embedding_width));
    if (c.segments > 0)
      segments_ = register_module("segments",
                                  weights.embedding("embeddings.token_type_embeddings", c.segments, c.embedding_width));
    if (c.embedding_width != c.width)
      widening_ = register_module(
          "widening", weights.projection("embeddings.embed_proj", c.width, c.embedding_width, DeclaredBias{false}));
    norm_ = register_module("norm", FrozenLayerNorm(weights, "embeddings.LayerNorm", c.width, c.norm_eps));
    if (c.relative)
      distances_ = register_parameter(
          "distances", weights.take("encoder.rel_embeddings.weight", {2 * c.span(), c.width}), /*requires_grad=*/false);
    if (c.norm_positions)
      distance_norm_ =
          register_module("distance_norm", FrozenLayerNorm(weights, "encoder.LayerNorm", c.width, c.norm_eps));
    for (int64_t i = 0; i < c.layers; ++i) add_layer(std::make_shared<DebertaLayer>(weights, c, i));
    EncoderHead found;
    if (takes_class_head(files, deberta_head_form(), prefix, options))
      found = deberta_head(files, weights, c.width, options);
    if (takes_class_head(files, token_form(), prefix, options))
      found = encoder_head(files, weights, token_form(), "deberta-v2", c.width, c.hidden_dropout, options);
    // Published files keep tables and heads of their pre-training.
    weights.finish("deberta-v2", {"pooler.", "classifier.", "cls.", "lm_predictions.", "mask_predictions.",
                                  "embeddings.position_embeddings.", "embeddings.position_ids"});
    base_parameters_ = weights.taken();
    take_head(found, Pooling::cls);
  }

 protected:
  std::shared_ptr<DebertaPass> begin(const Batch& batch) override {
    const torch::Tensor& ids = batch.input_ids;
    const int64_t tokens = ids.size(1);
    if (positions_) {
      const int64_t most = positions_->weight().size(0);
      check(tokens <= most, "a text of ", tokens, " tokens is longer than the model's ", most,
            " positions; lower data.max_length");
    }
    auto pass =
        std::make_shared<DebertaPass>(DebertaPass{{Packing(batch.attention_mask, ids.size(0), tokens, ids.device())}});
    if (!config_.uses_positions()) return pass;
    // Nearer distances have nearer rows, so those of this batch stand side by side: layers project these and no others.
    const torch::Tensor distance = torch::arange(tokens - 1, -tokens, -1, ids.options());
    const torch::Tensor rows =
        (log_buckets(distance, config_.buckets, config_.farthest) + config_.span()).clamp(0, 2 * config_.span() - 1);
    const int64_t last = rows[0].item<int64_t>(), first = rows[-1].item<int64_t>();
    const torch::Tensor used = distances_.narrow(0, first, last - first + 1);
    pass->rows = rows - first;
    pass->shared = {distance_norm_ ? distance_norm_(used) : used};
    return pass;
  }

  torch::Tensor embed(const Batch& batch, const DebertaPass& pass) override {
    const Packing& packing = pass.packing;
    const torch::Tensor ids = packing.pack(batch.input_ids);
    torch::Tensor x = words_(ids);
    if (positions_) {
      const torch::Tensor cells = torch::arange(batch.input_ids.size(1), ids.options()).expand_as(batch.input_ids);
      x = x + positions_(packing.pack(batch.position_ids.defined() ? batch.position_ids : cells));
    }
    if (segments_)
      x = x + segments_(batch.token_type_ids.defined() ? packing.pack(batch.token_type_ids) : torch::zeros_like(ids));
    if (widening_) x = widening_(x);
    x = norm_(x);
    pass.note("the embeddings", x);
    if (pass.trace && distance_norm_) pass.trace->emplace_back("the relative positions", distance_norm_(distances_));
    return is_training() ? seeded_dropout(x, config_.hidden_dropout) : x;
  }

  void add_embedding_sites(std::vector<AdapterSite>& sites) override {
    sites.push_back(words_->word_site());
    if (positions_) sites.push_back(positions_->site("embedding", SiteKind::embedding));
    if (segments_) sites.push_back(segments_->site("embedding", SiteKind::embedding));
    if (widening_) sites.push_back(widening_->site("other"));
  }

 private:
  DebertaConfig config_;
  EmbeddingTable words_{nullptr}, positions_{nullptr}, segments_{nullptr};
  Projection widening_{nullptr};  ///< [embedding width -> D], where the two differ
  FrozenLayerNorm norm_{nullptr}, distance_norm_{nullptr};
  torch::Tensor distances_;  ///< [2 span, D], row span for distance 0
};

/// Sizes that the weights show are taken from the weights.
DebertaConfig read_deberta(const ModelFiles& files, const std::string& prefix, const ModelOptions& options) {
  DebertaConfig c{DebertaSettings::read(files.config())};
  const auto size = [&](const std::string& name, int64_t side) {
    return files.has(prefix + name) ? files.tensor(prefix + name).size(side) : 0;
  };
  while (files.has(cat(prefix, "encoder.layer.", c.layers, ".attention.self.query_proj.weight"))) ++c.layers;
  c.vocabulary = size(cat(kDebertaTable, ".weight"), 0);
  c.embedding_width = size(cat(kDebertaTable, ".weight"), 1);
  c.width = size("embeddings.LayerNorm.weight", 0);
  c.mlp_width = size("encoder.layer.0.intermediate.dense.weight", 0);
  check(c.width % c.heads == 0, "model ", files.file().string(), ": its config.json's num_attention_heads ", c.heads,
        " does not divide its width ", c.width);
  check(c.kernel == 0 || c.width % c.conv_groups == 0, "model ", files.file().string(),
        ": its config.json's conv_groups ", c.conv_groups, " does not divide its width ", c.width);
  if (options.dropout) c.hidden_dropout = c.attention_dropout = *options.dropout;
  return c;
}

}  // namespace

void register_deberta_family(ModelFamilies& families) {
  ModelFamily family;
  family.recognises = [](const ModelFiles& files) {
    return model_type_of(files.config()) == "deberta-v2" &&
           WeightMap::prefix_of(files, std::string(kDebertaTable) + ".weight").has_value();
  };
  family.build = [](const ModelFiles& files, const ModelOptions& options) -> std::shared_ptr<LanguageModel> {
    const std::string prefix = *WeightMap::prefix_of(files, std::string(kDebertaTable) + ".weight");
    return std::make_shared<DebertaModel>(files, read_deberta(files, prefix, options), prefix, options);
  };
  const auto described = [](const ClassHeadForm& form, const ModelFiles& files, int64_t outputs) {
    const std::string prefix = *WeightMap::prefix_of(files, std::string(kDebertaTable) + ".weight");
    const int64_t width = files.tensor(prefix + "embeddings.LayerNorm.weight").size(0);
    return describe_class_head(form, files, "DebertaV2", "deberta.", prefix, width, outputs);
  };
  family.class_head = [described](const ModelFiles& files, int64_t outputs) {
    return described(deberta_head_form(), files, outputs);
  };
  family.token_head = [described](const ModelFiles& files, int64_t outputs) {
    return described(token_form(), files, outputs);
  };
  families.add("deberta-v2", std::move(family));
}

}  // namespace deeplora
