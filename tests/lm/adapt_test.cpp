#include "graph/torchscript_forward.h"
#include "lm/adapt.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <map>

#include "core/random.h"
#include "interchange/merge.h"
#include "lm/parity.h"
#include "lm/targets.h"
#include "models/projection.h"
#include "support/tiny_archive.h"

namespace deeplora {
namespace {

using testing::error_of;
using testing::factory_of;
using testing::TempFolder;
using testing::tiny_batch;
using testing::write_tiny_archive;

/// The tiny archive's model by hand, on the archive's own tensors.
class TinyModel : public LanguageModel {
 public:
  explicit TinyModel(const TorchScriptArchive& archive) {
    table_ = register_module("table", EmbeddingTable("table.weight", archive.tensor("table.weight").detach()));
    dense_ = register_module("dense", Projection("dense.weight", archive.tensor("dense.weight").detach(),
                                                 archive.tensor("dense.bias").detach()));
  }
  ModelOutput forward(const Batch& batch) override {
    return {.hidden = torch::tanh(dense_(table_(batch.input_ids))), .logits = {}};
  }
  std::vector<AdapterSite> sites() override {
    return {table_->site("embedding", SiteKind::embedding), dense_->site("query", SiteKind::linear)};
  }
  std::vector<NamedTensor> base_parameters() override {
    return {{"table.weight", table_->weight()}, {"dense.weight", dense_->weight()}, {"dense.bias", dense_->bias()}};
  }
  std::string family() const override { return "tiny"; }

 private:
  EmbeddingTable table_{nullptr};
  Projection dense_{nullptr};
};

struct Fixture {
  TempFolder folder;
  TorchScriptArchive archive = TorchScriptArchive::load(write_tiny_archive(folder / "m.pt"));
  std::shared_ptr<TinyModel> model = std::make_shared<TinyModel>(archive);

  AdaptedModel adapted(const std::string& method, const std::string& yaml,
                       std::shared_ptr<ModelWithHead> head = nullptr) {
    AdaptedModel out(head ? std::static_pointer_cast<LanguageModel>(head) : model, head);
    out.add_adapters(model->sites(), factory_of(method, yaml), 1, torch::kCPU, nullptr);
    return out;
  }
};

/// Moves every trained tensor off its start.
void shake(AdaptedModel& adapted) {
  torch::NoGradGuard no_grad;
  torch::manual_seed(11);
  for (auto& [name, value] : adapted.state()) torch::Tensor(value).copy_(torch::randn_like(value) * 0.3);
}

TEST(AdaptTest, NativeModelEqualsTheArchive) {
  Fixture f;
  const ParityResult parity = compare_with_archive(f.archive, {}, *f.model);
  EXPECT_TRUE(parity.equal) << parity.message;
}

TEST(AdaptTest, AWrongWeightIsFoundByParity) {
  Fixture f;
  auto other = TorchScriptArchive::load(f.folder / "m.pt");
  other.set_tensor("dense.bias", torch::ones({6}));
  const ParityResult parity = compare_with_archive(other, {}, *f.model);
  EXPECT_FALSE(parity.equal);
  EXPECT_NE(parity.message.find("relative difference"), std::string::npos);
}

TEST(AdaptTest, MergedWeightsGiveTheAdaptedModel) {
  for (const auto& [method, yaml] : {std::pair{"lora", "{rank: 2}"}, std::pair{"deep-lora", "{rank: 2, depth: 4}"}}) {
    Fixture f;
    AdaptedModel adapted = f.adapted(method, yaml);
    shake(adapted);
    f.model->eval();
    const torch::Tensor live = f.model->forward(tiny_batch()).hidden;
    for (const auto& [name, value] : adapted.merged_weights())
      f.archive.set_tensor(name, value);  // the model shares these tensors
    adapted.detach();
    EXPECT_LT((f.model->forward(tiny_batch()).hidden - live).abs().max().item<double>(), 1e-5) << method;
  }
}

TEST(AdaptTest, StateGoesThroughAFileAndMismatchesAreNamedAtOnce) {
  Fixture f;
  AdaptedModel adapted = f.adapted("lora", "{rank: 2}");
  shake(adapted);
  std::map<std::string, torch::Tensor> values;
  for (const auto& [name, value] : adapted.state()) values[name] = value.detach().clone();
  EXPECT_EQ(values.size(), 4u);
  AdaptedModel fresh = f.adapted("lora", "{rank: 2}");
  fresh.load_state(values, "file");
  for (const auto& [name, value] : fresh.state()) EXPECT_TRUE(torch::equal(value, values.at(name))) << name;
  values.erase("adapter/dense.weight/A");
  values["adapter/dense.weight/B"] = torch::zeros({3, 3});
  values["adapter/other/A"] = torch::zeros({1});
  const std::string message = error_of([&] { fresh.load_state(values, "file"); });
  for (const char* part : {"missing adapter/dense.weight/A",
                           "adapter/dense.weight/B: expected shape [6, 2], found [3, 3]", "unexpected adapter/other/A"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
}

TEST(AdaptTest, ParameterGroupsHoldAdaptersAndHeadUnderTheirOwnRates) {
  Fixture f;
  auto head =
      std::make_shared<ModelWithHead>(f.model, 6, HeadOptions{.outputs = 3}, make_generator(1, "head"), torch::kCPU);
  AdaptedModel adapted = f.adapted("lora", "{rank: 2}", head);
  int64_t count = 0;
  for (const auto& group : adapted.param_groups(5.0))
    for (const auto& [name, value] : group.params) {
      EXPECT_TRUE(value.requires_grad()) << name;
      EXPECT_EQ(group.lr_scale, name.rfind("head/", 0) == 0 ? 5.0 : 1.0) << name;
      count += value.numel();
    }
  EXPECT_EQ(count, adapted.trainable_parameters());
  EXPECT_EQ(count, 2 * (11 + 6) + 2 * (6 + 6) + 3 * 6 + 3);
}

/// The same model, whose last layer is its own head.
class HeadedModel : public TinyModel {
 public:
  using TinyModel::TinyModel;
  std::vector<AdapterSite> sites() override {
    auto out = TinyModel::sites();
    out.at(1).role = "head";
    return out;
  }
};

TEST(AdaptTest, TheModelsOwnHeadHasARateOfItsOwn) {
  Fixture f;
  const auto model = std::make_shared<HeadedModel>(f.archive);
  AdaptedModel adapted(model, nullptr);
  adapted.train_base();
  std::map<std::string, double> scales;
  for (const auto& group : adapted.param_groups(5.0, 3.0))
    for (const auto& [name, value] : group.params) scales[name] = group.lr_scale;
  EXPECT_EQ(scales, (std::map<std::string, double>{
                        {"base/table.weight", 1.0}, {"base/dense.weight", 3.0}, {"base/dense.bias", 3.0}}));
}

TEST(HeadTest, PoolingFollowsItsDefinition) {
  const torch::Tensor hidden = torch::arange(24, torch::kFloat32).view({2, 4, 3});
  const torch::Tensor mask = tiny_batch().attention_mask;
  const auto row = [&](int64_t b, int64_t t) { return hidden[b][t]; };
  EXPECT_TRUE(torch::allclose(pool(hidden, mask, Pooling::mean)[1], (row(1, 0) + row(1, 1)) / 2));
  EXPECT_TRUE(torch::allclose(pool(hidden, mask, Pooling::mean)[0], hidden[0].mean(0)));
  EXPECT_TRUE(torch::equal(pool(hidden, mask, Pooling::cls)[1], row(1, 0)));
  EXPECT_TRUE(torch::equal(pool(hidden, mask, Pooling::last)[1], row(1, 1)));
  EXPECT_TRUE(torch::equal(pool(hidden, mask, Pooling::max)[1], row(1, 1)));
}

TEST(MergeTest, ExportWithANewHeadGivesTheLiveLogitsForEveryPooling) {
  for (const Pooling pooling : {Pooling::mean, Pooling::cls, Pooling::max, Pooling::last}) {
    Fixture f;
    const HeadOptions options{.outputs = 2, .pooling = pooling, .shift = 1.5, .scale = 2.0};
    auto head = std::make_shared<ModelWithHead>(f.model, 6, options, make_generator(1, "head"), torch::kCPU);
    AdaptedModel adapted = f.adapted("deep-lora", "{rank: 2}", head);
    shake(adapted);
    const auto file = f.folder / "merged.pt";
    const MergeReport report = export_torchscript(f.archive, {}, adapted, {{"task", "x"}}, file);
    EXPECT_EQ(report.merged_weights, 2);
    head->eval();
    const torch::Tensor live = head->forward(tiny_batch()).logits;
    const auto merged = TorchScriptArchive::load(file);
    EXPECT_LT((ArchiveForward(merged, {})(tiny_batch()) - live).abs().max().item<double>(), 1e-5) << to_string(pooling);
    EXPECT_EQ(merged.inputs(), f.archive.inputs());
    EXPECT_EQ(merged.deeplora_info().at<std::string>("task"), "x");
  }
}

TEST(TargetsTest, PresetsRolesGlobsAndExpressionsChooseInTheModelsOrder) {
  Fixture f;
  const auto sites = f.model->sites();
  const auto paths = [&](const std::vector<std::string>& targets) {
    std::vector<std::string> out;
    for (const auto& site : choose_sites(sites, targets)) out.push_back(site.path);
    return out;
  };
  using Paths = std::vector<std::string>;
  EXPECT_EQ(paths({"all-linear"}), (Paths{"dense.weight"}));
  EXPECT_EQ(paths({"query", "embedding"}), (Paths{"table.weight", "dense.weight"}));
  EXPECT_EQ(paths({"t*"}), (Paths{"table.weight"}));
  EXPECT_EQ(paths({"re:d.n.e"}), (Paths{"dense.weight"}));
  const std::string message = error_of([&] { paths({"all-dense", "qery", "re:x", "dense"}); });
  for (const char* part : {"'all-dense' matches no weight", "'qery' matches no weight (did you mean 'query'?)",
                           "'re:x' matches no weight", "embedding, query"})
    EXPECT_NE(message.find(part), std::string::npos) << message;
  EXPECT_NE(error_of([&] { paths({"re:("}); }).find("not a regular expression"), std::string::npos);
}

TEST(TargetsTest, DenseOrLinearIsThePapersRuleWhereItMatchesAnything) {
  const auto site_of = [](const std::string& path, SiteKind kind, int64_t out, int64_t in) {
    AdapterSite site;
    site.path = path;
    site.role = kind == SiteKind::embedding ? "embedding" : "query";
    site.kind = kind;
    site.weight = torch::zeros({out, in});
    return site;
  };
  AdapterSite table = site_of("table.weight", SiteKind::embedding, 600, 512);
  const AdapterSite wide = site_of("wide.weight", SiteKind::linear, 512, 512),
                    narrow = site_of("narrow.weight", SiteKind::linear, 512, 384);
  const auto paths = [](const std::vector<AdapterSite>& sites) {
    std::vector<std::string> out;
    for (const auto& site : choose_sites(sites, {"dense-or-linear"})) out.push_back(site.path);
    return out;
  };
  EXPECT_EQ(paths({table, wide, narrow}), (std::vector<std::string>{"table.weight", "wide.weight"}));
  table.weight = torch::zeros({600, 384});
  EXPECT_EQ(paths({table, narrow}), (std::vector<std::string>{"narrow.weight"}));
}

TEST(TargetsTest, GlobsMatchWholeTexts) {
  EXPECT_TRUE(glob_matches("*.layer.?.*query", "model.layer.3.attention.query"));
  EXPECT_FALSE(glob_matches("*.layer.?.query", "model.layer.31.query"));
  EXPECT_FALSE(glob_matches("query", "query2"));
  EXPECT_TRUE(glob_matches("**", ""));
}

TEST(AdaptTest, WhetherARankIsTooLargeDoesNotDependOnTheOrderOfTheSites) {
  Fixture f;
  AdapterSite small = f.model->sites()[1], large = f.model->sites()[0];
  small.path = "small.weight";
  small.weight = torch::randn({2, 6});
  for (const auto& sites : {std::vector{small, large}, std::vector{large, small}}) {
    AdaptedModel adapted(f.model, nullptr);
    adapted.add_adapters(sites, factory_of("lora", "rank: 5"), 1, torch::kCPU, nullptr);
    for (size_t i = 0; i < 2; ++i) {
      EXPECT_EQ(adapted.adapters()[i].site.path, sites[i].path);
      EXPECT_EQ(adapted.adapters()[i].adapter->low_rank_pair()->a.size(0), sites[i].path == "small.weight" ? 2 : 5);
    }
    AdaptedModel refused(f.model, nullptr);
    const std::string message =
        error_of([&] { refused.add_adapters(sites, factory_of("lora", "rank: 7"), 1, torch::kCPU, nullptr); });
    EXPECT_NE(message.find("small.weight [2, 6]"), std::string::npos) << message;
    EXPECT_NE(message.find("table.weight [11, 6]"), std::string::npos) << message;
    EXPECT_EQ(message.find("small.weight") < message.find("table.weight"), sites[0].path == "small.weight") << message;
  }
}

}  // namespace
}  // namespace deeplora
