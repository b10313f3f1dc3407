#include "models/bert.h"

#include <torch/torch.h>

#include <map>

#include "models/class_head.h"
#include "models/dropout.h"
#include "models/norms.h"
#include "models/packed_encoder.h"
#include "models/relative_positions.h"

namespace deeplora {
namespace {

const EncoderNames kBertNames{"encoder.layer.",       "attention.self.query",   "attention.self.key",
                              "attention.self.value", "attention.output.dense", "attention.output.LayerNorm",
                              "intermediate.dense",   "output.dense",           "output.LayerNorm"};
const EncoderNames kDistilNames{"transformer.layer.", "attention.q_lin",   "attention.k_lin",
                                "attention.v_lin",    "attention.out_lin", "sa_layer_norm",
                                "ffn.lin1",           "ffn.lin2",          "output_layer_norm"};
const EncoderNames kElectraNames = [] {
  EncoderNames names = kBertNames;
  names.widening = "embeddings_project";
  return names;
}();
const EncoderNames kAlbertNames{"encoder.albert_layer_groups.0.albert_layers.0.",
                                "attention.query",
                                "attention.key",
                                "attention.value",
                                "attention.dense",
                                "attention.LayerNorm",
                                "ffn",
                                "ffn_output",
                                "full_layer_layer_norm",
                                "encoder.embedding_hidden_mapping_in"};
const EncoderNames kMpnetNames{"encoder.layer.",
                               "attention.attn.q",
                               "attention.attn.k",
                               "attention.attn.v",
                               "attention.attn.o",
                               "attention.LayerNorm",
                               "intermediate.dense",
                               "output.dense",
                               "output.LayerNorm",
                               "",
                               "encoder.relative_attention_bias"};
constexpr int64_t kBuckets = 32, kFarthest = 128;  // of MPNet's relative positions; no configuration names others
constexpr const char* kWordTable = "embeddings.word_embeddings";

class EncoderLayer : public torch::nn::Module {
 public:
  using Pass = EncoderPass;

  EncoderLayer(WeightMap& weights, const EncoderConfig& c, int64_t index) : config_(c) {
    const EncoderNames& n = c.names;
    const std::string at = c.shared_layers > 0 ? n.layers : n.layers + std::to_string(index) + ".";
    const DeclaredBias biased{true};
    query_ = register_module("query", weights.projection(at + n.query, c.width, c.width, biased));
    key_ = register_module("key", weights.projection(at + n.key, c.width, c.width, biased));
    value_ = register_module("value", weights.projection(at + n.value, c.width, c.width, biased));
    output_ = register_module("output", weights.projection(at + n.attention_output, c.width, c.width, biased));
    mlp_in_ = register_module("mlp_in", weights.projection(at + n.mlp_in, c.mlp_width, c.width, biased));
    mlp_out_ = register_module("mlp_out", weights.projection(at + n.mlp_out, c.width, c.mlp_width, biased));
    query_key_value_ = weights.joined({query_, key_, value_});
    attention_norm_ =
        register_module("attention_norm", FrozenLayerNorm(weights, at + n.attention_norm, c.width, c.norm_eps));
    mlp_norm_ = register_module("mlp_norm", FrozenLayerNorm(weights, at + n.mlp_norm, c.width, c.norm_eps));
  }

  torch::Tensor forward(const std::vector<torch::Tensor>& in, const Pass& pass) {
    const auto qkv = query_key_value_.forward(in[0]);
    const torch::Tensor mixed = mix(qkv[0], qkv[1], qkv[2], in, pass, false);
    const torch::Tensor attended = attend(mixed, in[0]), out = feed_forward(attended);
    if (!pass.trace) return out;
    const size_t layer = (pass.trace->size() - 1) / 2;  // ALBERT's one layer comes many times
    pass.note(cat("layer ", layer, ", attention"), attended);
    pass.note(cat("layer ", layer, ", feed-forward"), out);
    return out;
  }

  /// Of the other tokens only keys and values are computed.
  torch::Tensor first_tokens(const std::vector<torch::Tensor>& in, const Pass& pass) {
    const torch::Tensor first = pass.packing.first_tokens(in[0]);
    const auto kv = query_key_value_.without_first(in[0]);
    return feed_forward(attend(mix(query_(first), kv[0], kv[1], in, pass, true), first));
  }

  void add_sites(std::vector<AdapterSite>& sites) {
    const int64_t uses = std::max<int64_t>(1, config_.shared_layers);
    sites.push_back(query_->site("query", SiteKind::linear, uses));
    sites.push_back(key_->site("key", SiteKind::linear, uses));
    sites.push_back(value_->site("value", SiteKind::linear, uses));
    sites.push_back(output_->site("attention_output", SiteKind::linear, uses));
    sites.push_back(mlp_in_->site("mlp_in", SiteKind::linear, uses));
    sites.push_back(mlp_out_->site("mlp_out", SiteKind::linear, uses));
  }

 private:
  /// in[1], where there is one: what relative positions add to the scores.
  torch::Tensor mix(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                    const std::vector<torch::Tensor>& in, const Pass& pass, bool first_only) const {
    if (in.size() > 1)
      return biased_attention(q, k, v, config_.heads, pass.packing, in[1], attention_dropout(), first_only);
    return packed_attention(q, k, v, config_.heads, pass.packing, attention_dropout(), first_only);
  }
  double attention_dropout() const { return is_training() ? config_.attention_dropout : 0.0; }
  double hidden_dropout() const { return is_training() ? config_.hidden_dropout : 0.0; }
  /// DistilBERT has no dropout between its attention and the residual sum.
  torch::Tensor attend(const torch::Tensor& mixed, const torch::Tensor& x) {
    return attention_norm_->of_sum(output_(mixed), x, config_.family == "distilbert" ? 0.0 : hidden_dropout());
  }
  torch::Tensor feed_forward(const torch::Tensor& attended) {
    // ALBERT has no dropout behind its feed-forward part.
    const double dropout = config_.family == "albert" ? 0.0 : hidden_dropout();
    return mlp_norm_->of_sum(mlp_out_->of_activated(mlp_in_(attended), config_.activation), attended, dropout);
  }

  const EncoderConfig& config_;
  Projection query_{nullptr}, key_{nullptr}, value_{nullptr}, output_{nullptr}, mlp_in_{nullptr}, mlp_out_{nullptr};
  JoinedProjections query_key_value_;
  FrozenLayerNorm attention_norm_{nullptr}, mlp_norm_{nullptr};
};

/// RoBERTa's positions [B, T]: tokens that are not the padding token count from padding + 1, whatever the mask says;
/// the padding token has its own.
torch::Tensor positions_by_id(const torch::Tensor& ids, int64_t padding) {
  const torch::Tensor counts = ids.ne(padding).to(torch::kInt64);
  return counts.cumsum(1) * counts + padding;
}

/// The classifier on the first token's state, as transformers has it for the family.
ClassHeadForm head_form(const std::string& family) {
  if (family == "distilbert")
    return {.first = "pre_classifier", .last = "classifier", .activation = "relu", .first_dropout = 0};
  if (family == "bert" || family == "albert")
    return {.first = family == "bert" ? "pooler.dense" : "pooler",
            .last = "classifier",
            .first_in_base = true,
            .first_dropout = 0};
  return {
      .first = "classifier.dense", .last = "classifier.out_proj", .activation = family == "electra" ? "gelu" : "tanh"};
}

class EncoderModel : public PackedEncoder<EncoderLayer> {
 public:
  EncoderModel(const ModelFiles& archive, EncoderConfig config, const std::string& prefix, const ModelOptions& options)
      : PackedEncoder(config.family), config_(std::move(config)) {
    WeightMap weights(archive, prefix);
    const EncoderConfig& c = config_;
    const bool distil = c.family == "distilbert";
    weights.expect_size("vocab_size", c.vocabulary);
    weights.expect_size(distil ? "dim" : "hidden_size", c.width);
    weights.expect_size(distil ? "n_layers" : "num_hidden_layers", c.layers);
    weights.expect_size(distil ? "hidden_dim" : "intermediate_size", c.mlp_width);
    weights.expect_size("max_position_embeddings", c.positions);
    weights.expect_size("embedding_size", c.embedding_width);
    weights.expect_size("type_vocab_size", distil ? 0 : c.segments);
    const int64_t narrow = c.embedding_width;
    words_ = register_module("words", weights.embedding(kWordTable, c.vocabulary, narrow, c.padding));
    positions_ = register_module(
        "positions", weights.embedding("embeddings.position_embeddings", c.positions, narrow, c.first_position - 1));
    if (c.segments > 0)
      segments_ =
          register_module("segments", weights.embedding("embeddings.token_type_embeddings", c.segments, narrow));
    norm_ = register_module("norm", FrozenLayerNorm(weights, "embeddings.LayerNorm", narrow, c.norm_eps));
    if (!c.names.widening.empty() && weights.has(c.names.widening + ".weight"))
      widening_ =
          register_module("widening", weights.projection(c.names.widening, c.width, narrow, DeclaredBias{true}));
    if (!c.names.bias.empty()) bias_ = register_module("bias", weights.embedding(c.names.bias, c.bucket_rows, c.heads));
    for (int64_t i = 0; i < c.layers; ++i) {
      if (c.shared_layers > 0 && i > 0) repeat_layer();  // ALBERT's one layer stands for all of them
      else add_layer(std::make_shared<EncoderLayer>(weights, c, i));
    }
    EncoderHead found;
    for (const ClassHeadForm& form : {head_form(c.family), token_form()})
      if (takes_class_head(archive, form, prefix, options))
        found = encoder_head(archive, weights, form, c.family, c.width,
                             form.of_tokens && distil ? c.hidden_dropout : c.classifier_dropout, options);
    weights.finish(c.family,
                   {"pooler.", "lm_head.", "predictions.", "generator_predictions.", "discriminator_predictions.",
                    "embeddings.position_ids", "classifier.", "pre_classifier."});
    base_parameters_ = weights.taken();
    take_head(found, Pooling::cls);
  }

 protected:
  std::shared_ptr<EncoderPass> begin(const Batch& batch) override {
    const int64_t size = batch.input_ids.size(0), tokens = batch.input_ids.size(1);
    check(tokens + config_.first_position <= config_.positions, "a text of ", tokens,
          " tokens is longer than the model's ", config_.positions - config_.first_position,
          " positions; lower data.max_length");
    auto pass = std::make_shared<EncoderPass>(
        EncoderPass{Packing(batch.attention_mask, size, tokens, batch.input_ids.device())});
    if (bias_) pass->shared = {pass->packing.without_padding(score_bias(tokens))};
    return pass;
  }

  /// [N, D]: the sum of the tables, normalised.
  torch::Tensor embed(const Batch& batch, const EncoderPass& pass) override {
    const Packing& packing = pass.packing;
    const torch::Tensor ids = packing.pack(batch.input_ids);
    torch::Tensor position;
    if (batch.position_ids.defined()) position = batch.position_ids;
    else if (config_.first_position > 0) position = positions_by_id(batch.input_ids, config_.first_position - 1);
    else
      position =
          (torch::arange(batch.input_ids.size(1), ids.options()) + config_.first_position).expand_as(batch.input_ids);
    torch::Tensor x = words_(ids);
    if (segments_)
      x = x + segments_(batch.token_type_ids.defined() ? packing.pack(batch.token_type_ids) : torch::zeros_like(ids));
    x = norm_(x + positions_(packing.pack(position)));
    pass.note("the embeddings", x);
    if (is_training()) x = seeded_dropout(x, config_.hidden_dropout);
    return widening_ ? widening_(x) : x;
  }

  void add_embedding_sites(std::vector<AdapterSite>& sites) override {
    sites.push_back(words_->word_site());
    sites.push_back(positions_->site("embedding", SiteKind::embedding));
    if (segments_) sites.push_back(segments_->site("embedding", SiteKind::embedding));
    if (widening_) sites.push_back(widening_->site("other"));
  }
  void add_sites_behind(std::vector<AdapterSite>& sites) override {
    if (bias_) sites.push_back(bias_->site("embedding", SiteKind::embedding));
  }

 private:
  /// What relative positions add to the scores, [1, H, T, T].
  torch::Tensor score_bias(int64_t tokens) {
    const torch::Tensor cell =
        torch::arange(tokens, torch::TensorOptions(torch::kInt64).device(bias_->weight().device()));
    const torch::Tensor distance = cell.unsqueeze(0) - cell.unsqueeze(1);
    return bias_(relative_buckets(distance, true, kBuckets, kFarthest)).permute({2, 0, 1}).unsqueeze(0);
  }

  EncoderConfig config_;
  EmbeddingTable words_{nullptr}, positions_{nullptr}, segments_{nullptr};
  FrozenLayerNorm norm_{nullptr};
  Projection widening_{nullptr};  ///< [embedding width -> D], where the two differ
  EmbeddingTable bias_{nullptr};  ///< [buckets, H] of relative positions
};

const EncoderNames& names_of(const std::string& family) {
  if (family == "distilbert") return kDistilNames;
  if (family == "electra") return kElectraNames;
  if (family == "albert") return kAlbertNames;
  return family == "mpnet" ? kMpnetNames : kBertNames;
}

/// Reads config.json; sizes that the weights show are taken from the weights.
EncoderConfig read_config(const ModelFiles& archive, const std::string& family, const std::string& prefix) {
  const bool distil = family == "distilbert";
  EncoderConfig c{EncoderSettings::read(archive.config(), family), family, names_of(family)};
  const auto words = archive.tensor(prefix + kWordTable + ".weight");
  const auto positions = archive.tensor(prefix + "embeddings.position_embeddings.weight");
  c.vocabulary = words.size(0);
  c.embedding_width = words.size(1);
  c.positions = positions.size(0);
  const std::string segments = prefix + "embeddings.token_type_embeddings.weight";
  if (archive.has(segments)) c.segments = archive.tensor(segments).size(0);
  while (archive.has(prefix + c.names.layers + std::to_string(c.layers) + "." + c.names.query + ".weight")) ++c.layers;
  if (c.shared_layers > 0) c.layers = c.shared_layers;
  const std::string first = prefix + c.names.layers + (c.shared_layers > 0 ? "" : "0."),
                    query = first + c.names.query + ".weight";
  c.width = archive.has(query) ? archive.tensor(query).size(0) : c.embedding_width;
  const std::string mlp = first + c.names.mlp_in + ".weight";
  if (archive.has(mlp)) c.mlp_width = archive.tensor(mlp).size(0);
  check(c.heads > 0 && c.width % c.heads == 0, "model ", archive.file().string(),
        ": its config.json gives no usable number of attention heads (", distil ? "n_heads" : "num_attention_heads",
        " = ", c.heads, ", width ", c.width, "); export it with tools/export_torchscript.py");
  check(c.first_position < c.positions, "model ", archive.file().string(), ": its config.json's pad_token_id ",
        c.first_position - 1, " leaves none of its ", c.positions, " positions");
  return c;
}

ModelFamily encoder_family(std::string family, std::vector<std::string> model_types) {
  ModelFamily out;
  out.recognises = [model_types](const ModelFiles& archive) {
    const std::string type = model_type_of(archive.config());
    return std::find(model_types.begin(), model_types.end(), type) != model_types.end() &&
           WeightMap::prefix_of(archive, std::string(kWordTable) + ".weight").has_value();
  };
  out.build = [family](const ModelFiles& archive, const ModelOptions& options) -> std::shared_ptr<LanguageModel> {
    const std::string prefix = *WeightMap::prefix_of(archive, std::string(kWordTable) + ".weight");
    EncoderConfig config = read_config(archive, family, prefix);
    if (options.dropout)
      config.hidden_dropout = config.attention_dropout = config.classifier_dropout = *options.dropout;
    return std::make_shared<EncoderModel>(archive, std::move(config), prefix, options);
  };
  const auto described = [family](const ClassHeadForm& form, const ModelFiles& files, int64_t outputs) {
    const std::string prefix = *WeightMap::prefix_of(files, std::string(kWordTable) + ".weight"),
                      type = model_type_of(files.config());
    static const std::map<std::string, std::string> kClasses{{"bert", "Bert"},
                                                             {"roberta", "Roberta"},
                                                             {"xlm-roberta", "XLMRoberta"},
                                                             {"camembert", "Camembert"},
                                                             {"distilbert", "DistilBert"},
                                                             {"electra", "Electra"},
                                                             {"albert", "Albert"},
                                                             {"mpnet", "MPNet"}};
    return describe_class_head(form, files, kClasses.at(type), family + ".", prefix,
                               read_config(files, family, prefix).width, outputs);
  };
  out.class_head = [family, described](const ModelFiles& files, int64_t outputs) {
    return described(head_form(family), files, outputs);
  };
  out.token_head = [described](const ModelFiles& files, int64_t outputs) {
    return described(token_form(), files, outputs);
  };
  return out;
}

}  // namespace

void register_bert_families(ModelFamilies& families) {
  families.add("bert", encoder_family("bert", {"bert"}));
  families.add("roberta", encoder_family("roberta", {"roberta", "xlm-roberta", "camembert"}));
  families.add("distilbert", encoder_family("distilbert", {"distilbert"}));
  families.add("electra", encoder_family("electra", {"electra"}));
  families.add("albert", encoder_family("albert", {"albert"}));
  families.add("mpnet", encoder_family("mpnet", {"mpnet"}));
}

}  // namespace deeplora
