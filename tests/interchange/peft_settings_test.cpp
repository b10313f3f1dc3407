#include "interchange/peft_settings.h"

#include <gtest/gtest.h>

#include "core/safetensors.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {

constexpr const char* kSettings =
    R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "use_rslora": true, "lora_dropout": 0.1})";

class PeftSettingsTest : public ::testing::Test {
 protected:
  /// The adapter section after the folder's settings, or the error.
  std::string adopt(const std::string& settings, const std::vector<std::string>& tensors) const {
    folder_.write("adapter_config.json", settings);
    std::vector<SafeTensorView> views;
    for (const auto& name : tensors) views.push_back({name, "F32", {0}, {}});
    write_safetensors(folder_ / "adapter_model.safetensors", views, {{"tied", "[\"lm_head\"]"}});
    try {
      Config config = Config::parse("adapter: {path: " + folder_.path().string() + ", alpha: 9}");
      adopt_peft_settings(config);
      std::string method, out;
      int64_t rank = 0;
      double alpha = 0;
      std::vector<std::string> targets;
      const Config adapter = config.section("adapter");
      adapter.read("method", method, "");
      adapter.read("rank", rank, "");
      adapter.read("alpha", alpha, "");
      adapter.read("targets", targets, "");
      return cat(method, " ", rank, " ", alpha, " ", join(targets));
    } catch (const Error& e) {
      return folder_.without_path(e.what());
    }
  }
  const testing::TempFolder folder_;
  const std::vector<std::string> names_{"base_model.model.h.0.q.lora_A.weight", "base_model.model.h.0.q.lora_B.weight",
                                        "other"};
};

TEST_F(PeftSettingsTest, BecomeTheConfigurationWhereItIsSilent) {
  EXPECT_EQ(adopt(kSettings, names_), "rslora 2 9 *h.0.q");
}

TEST_F(PeftSettingsTest, OtherLayoutsAreErrors) {
  for (const char* settings : {"[]", "3"})
    EXPECT_NE(adopt(settings, names_).find("adapter_config.json: expected a JSON object"), std::string::npos)
        << settings;
  for (const char* settings : {"{", "", R"({"peft_type": "LORA")"})
    EXPECT_NE(adopt(settings, names_).find("adapter_config.json: not valid JSON"), std::string::npos) << settings;
  EXPECT_NE(
      adopt(std::string(100000, '[') + std::string(100000, ']'), names_).find("adapter_config.json: nests deeper"),
      std::string::npos);
  const std::string all = adopt(
      R"({"peft_type": 5, "r": "2", "lora_alpha": [], "bias": {}, "lora_dropout": "x: {", "use_dora": 1})", names_);
  for (const char* part :
       {"peft_type: expected \"LORA\", found 5", "r: expected a whole number, found \"2\"",
        "lora_alpha: expected a number, found []", "bias: expected a text, found {}",
        "lora_dropout: expected a number, found \"x: {\"", "use_dora: expected true or false, found 1"})
    EXPECT_NE(all.find(part), std::string::npos) << all;
}

TEST_F(PeftSettingsTest, KeysAreFollowedOrNamed) {
  const auto with = [&](const std::string& more) {
    return adopt(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, )" + more + "}", names_);
  };
  EXPECT_EQ(
      with(
          R"("rank_pattern": {"x": 3}, "alpha_pattern": {}, "target_modules": ["q"], "layers_to_transform": null, "use_qalora": false)"),
      "lora 2 9 *h.0.q");
  EXPECT_EQ(with(R"("init_lora_weights": "pissa")"), "pissa 2 9 *h.0.q");
  for (const char* more :
       {R"("alora_invocation_tokens": [1])", R"("key_of_tomorrow": {"a": 1})", R"("init_lora_weights": "loftq")",
        R"("target_modules": ["k"])", R"("exclude_modules": ".*q")",
        R"("layers_to_transform": 0, "target_modules": ["q"])", R"("modules_to_save": ["h"])",
        R"("rank_pattern": {"q": 2.5})", R"("rank_pattern": {"(": 2})", R"("trainable_token_indices": {"wte": [1]})",
        R"("bias": "some")"}) {
    const std::string key = std::string(more).substr(1, std::string(more).find('"', 1) - 1);
    EXPECT_NE(with(more).find(key), std::string::npos) << with(more);
  }
}

TEST_F(PeftSettingsTest, WeightsThatWereTrainedThemselvesAreFound) {
  const auto trained = [&](const std::string& more, const std::vector<std::string>& others) {
    std::vector<std::string> names{"base_model.model.h.0.q.lora_A.weight"};
    for (const auto& name : others) names.push_back("base_model.model." + name);
    adopt(R"({"peft_type": "LORA", "r": 2, "lora_alpha": 4, )" + more + "}", names);
    const PeftFolder folder = PeftFolder::read(folder_.path());
    return join(folder.trained, " ", 9) + (folder.factor_bias ? " +" : "");
  };
  // PEFT asks whether a module's name ends with the text.
  EXPECT_EQ(trained(R"("modules_to_save": ["norm"])", {"h.0.input_layernorm.weight", "norm.weight", "normal.weight"}),
            "*h.0.input_layernorm.weight *norm.weight");
  EXPECT_EQ(trained(R"("modules_to_save": ["classifier"])", {"classifier.dense.weight", "embed_tokens.weight"}),
            "*classifier.dense.weight");
  EXPECT_EQ(trained(R"("bias": "lora_only")", {"h.0.q.base_layer.bias", "h.0.norm.bias"}),
            "*h.0.norm.bias *h.0.q.bias");
  EXPECT_EQ(trained(R"("bias": "all")", {"h.0.q.base_layer.bias"}), "*.bias");
  EXPECT_EQ(trained(R"("bias": "all")", {}), "");
  EXPECT_EQ(trained(R"("lora_bias": true)", {"h.0.q.lora_B.bias"}), "*h.0.q.bias +");
}

TEST_F(PeftSettingsTest, NamesOfTensorsAreOnlyNames) {
  for (const char* module : {"a', 're:.*", "a\nb", "*", "a b", "{x: y}", ""})
    EXPECT_NE(adopt(kSettings, {cat(module, ".lora_A.weight")}).find("names no module"), std::string::npos) << module;
  EXPECT_NE(adopt(kSettings, {"other"}).find("holds no LoRA factors"), std::string::npos);
}

}  // namespace
}  // namespace deeplora
