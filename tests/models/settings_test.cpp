#include "models/settings.h"

#include <gtest/gtest.h>

#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;

JsonFile config(const std::string& text) { return JsonFile::parse("config.json", text); }

TEST(SettingsTest, FamiliesReadTheirOwnNames) {
  // Oracle: the configurations of transformers (BertConfig, DistilBertConfig, Qwen2Config, LlamaConfig, T5Config).
  EXPECT_EQ(EncoderSettings::read(config(R"({"num_attention_heads": 4, "hidden_dropout_prob": 0.3})"), "bert")
                .classifier_dropout,
            0.3);
  EXPECT_EQ(EncoderSettings::read(config(R"({"n_heads": 4})"), "distilbert").classifier_dropout, 0.2);
  EXPECT_EQ(EncoderSettings::read(config(R"({"pad_token_id": 1})"), "roberta").first_position, 2);
  const auto qwen = LlamaSettings::read(
      config(R"({"model_type": "qwen2", "num_attention_heads": 4, "use_sliding_window": true, "sliding_window": 9,
                                                   "max_window_layers": 2})"),
      4);
  EXPECT_EQ(qwen.windows, (std::vector<int64_t>{0, 0, 9, 9}));
  EXPECT_EQ(qwen.kv_heads, 4);
  const auto llama = LlamaSettings::read(
      config(R"({"num_attention_heads": 2, "rope_theta": 5e5, "rope_scaling": {"rope_type": "llama3", "factor": 8.0,
      "low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}})"),
      1);
  EXPECT_EQ(llama.rotary.theta, 5e5);
  EXPECT_EQ(llama.rotary.trained_length, 64);
  const auto t5 = T5Settings::read(
      config(R"({"model_type": "t5", "feed_forward_proj": "gated-gelu", "tie_word_embeddings": false})"));
  EXPECT_TRUE(t5.gated);
  EXPECT_EQ(t5.activation, "gelu_new");
  EXPECT_FALSE(t5.scale_output);
}

TEST(SettingsTest, ModernBertReadsTodaysKeysAndOlderOnes) {
  const auto older = ModernBertSettings::read(
      config(
          R"({"num_attention_heads": 4, "global_attn_every_n_layers": 2, "global_rope_theta": 500.0, "local_attention": 9})"),
      4);
  EXPECT_EQ(older.slides, (std::vector<bool>{false, true, false, true}));
  EXPECT_EQ(older.rotary.theta, 500);
  EXPECT_EQ(older.local_rotary.theta, 10000);
  EXPECT_EQ(older.window, 5);  // 4 tokens on either side
  const auto today =
      ModernBertSettings::read(config(R"({"layer_types": ["sliding_attention", "full_attention"], "rope_parameters": {
      "full_attention": {"rope_type": "linear", "factor": 2.0, "rope_theta": 70.0}, "sliding_attention": {"rope_theta": 7.0}}})"),
                               2);
  EXPECT_EQ(today.slides, (std::vector<bool>{true, false}));
  EXPECT_EQ(today.rotary.type, "linear");
  EXPECT_EQ(today.local_rotary.theta, 7);
  EXPECT_NE(error_of([] {
              ModernBertSettings::read(config(R"({"layer_types": ["chunked_attention"]})"), 1);
            }).find("layer_types: 'chunked_attention'"),
            std::string::npos);
  EXPECT_NE(error_of([] {
              ModernBertSettings::read(config(R"({"rope_parameters": {"rope_theta": 7.0}})"), 1);
            }).find("expected full_attention"),
            std::string::npos);
}

TEST(SettingsTest, DebertaReadsBothSpellingsOfItsKinds) {
  const auto deberta = [](const std::string& text) { return DebertaSettings::read(config(text)); };
  const auto old = deberta(
      R"({"relative_attention": true, "pos_att_type": "C2P | p2c", "position_buckets": 8, "max_relative_positions": -1, "norm_rel_ebd": "layer_norm"})");
  EXPECT_TRUE(old.content_to_position && old.position_to_content && old.norm_positions && old.absolute);
  EXPECT_EQ(old.farthest, 512);
  EXPECT_EQ(old.span(), 8);
  EXPECT_EQ(deberta(R"({"relative_attention": true, "pos_att_type": ["c2p"], "max_position_embeddings": 30})").span(),
            30);
  EXPECT_FALSE(deberta("{}").relative);
  EXPECT_NE(error_of([&] {
              deberta(R"({"relative_attention": true, "position_buckets": 60, "max_relative_positions": 31})");
            }).find("max_relative_positions"),
            std::string::npos);
  EXPECT_NE(error_of([&] { deberta(R"({"conv_kernel_size": 4})"); }).find("conv_kernel_size: expected an odd number"),
            std::string::npos);
}

TEST(SettingsTest, WhatNoModelCanHaveIsAnErrorThatNamesTheKey) {
  const auto llama = [](const std::string& more) {
    return error_of([&] { LlamaSettings::read(config("{\"num_attention_heads\": 4" + more + "}"), 2); });
  };
  EXPECT_EQ(llama(R"(, "num_key_value_heads": 0)"),
            "config.json: num_key_value_heads: expected a whole number from 1 to 1073741824, found 0");
  EXPECT_EQ(llama(R"(, "head_dim": 4611686018427387904)"),
            "config.json: head_dim: expected a whole number from 1 to 1073741824, found 4611686018427387904");
  EXPECT_EQ(llama(R"(, "rope_theta": -1)"), "config.json: rope_theta: expected a number above 0, found -1");
  EXPECT_EQ(llama(R"(, "rope_scaling": 5)"), "config.json: rope_scaling: expected an object, found 5");
  EXPECT_EQ(llama(R"(, "rope_scaling": {"type": "linear"})"), "config.json: rope_scaling: factor is missing");
  EXPECT_EQ(llama(R"(, "attention_dropout": 1.5)"),
            "config.json: attention_dropout: expected a number from 0 to 1, found 1.5");
  EXPECT_EQ(
      llama(R"(, "hidden_act": "gel")").find("config.json: hidden_act: activation 'gel' is not known; known: gelu"),
      0u);
  const auto t5 = [](const std::string& text) { return error_of([&] { T5Settings::read(config(text)); }); };
  EXPECT_EQ(t5(R"({"relative_attention_num_buckets": 0})"),
            "config.json: relative_attention_num_buckets: expected a whole number from 4 to 1073741824, found 0");
  EXPECT_EQ(t5(R"({"relative_attention_max_distance": 16})"),
            "config.json: relative_attention_max_distance: expected more than half of relative_attention_num_buckets "
            "(32), found 16");
}

}  // namespace
}  // namespace deeplora
