// What every registered method promises, whichever it is. A new method is tested by being registered.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <map>
#include <set>

#include "adapters/registration.h"
#include "core/random.h"
#include "factorization/spectral.h"
#include "tests/support/tensors.h"

namespace deeplora {
namespace {

using testing::close;

AdapterMethods all_methods() {
  AdapterMethods methods("adapter method");
  register_adapter_methods(methods);
  return methods;
}

struct Case {
  std::string method, options;
  SiteKind kind;
};

// Methods whose start is decided by the weight or its gradient alone, whatever the seed.
const std::set<std::string> kWithoutChance = {"pissa", "lora-one", "lora-ga"};

// Every method with its defaults, and the forms that options switch to.
std::vector<Case> cases() {
  const std::map<std::string, std::vector<std::string>> forms = {
      {"lora", {"init: gaussian", "{init: gaussian, zero_side: input}", "{rank: 3, dropout: 0.5, alpha: 1}"}},
      {"deep-lora",
       {"compress: true", "{compress: true, outer_lr_ratio: 0, rank: 4}", "{depth: 2, alpha: 4}",
        "{depth: 5, dropout: 0.2, init_scale: 0.01}"}},
      {"lora-plus", {"{lr_ratio: 4, rank: 3, dropout: 0.2}"}},
      {"dora", {"{rank: 3, dropout: 0.5, alpha: 1}"}},
      {"pissa", {"{rank: 3, dropout: 0.5, alpha: 1}"}},
      {"lora-one", {"{rank: 3, gamma: 1e9}"}},
      {"lora-ga", {"{rank: 3, stable_gamma: 64, dropout: 0.2}"}},
      {"eva", {"{rank: 3, dropout: 0.5, alpha: 1}"}},
      {"polar", {"{rank: 3, dropout: 0.2, alpha: 6}"}}};
  std::vector<Case> out;
  const auto methods = all_methods();
  for (const auto& name : methods.names()) {
    if (methods.at(name).trains != AdapterMethod::Trains::adapters) continue;
    std::vector<std::string> options{""};
    if (const auto more = forms.find(name); more != forms.end())
      options.insert(options.end(), more->second.begin(), more->second.end());
    for (const auto& option : options)
      for (const auto kind : {SiteKind::linear, SiteKind::embedding}) out.push_back({name, option, kind});
  }
  return out;
}

AdapterFactory configured(const std::string& method, const std::string& options) {
  const auto config = Config::parse(options);
  auto factory = all_methods().at(method).configure(config);
  config.finish();
  return factory;
}

class MethodContractTest : public ::testing::TestWithParam<Case> {
 protected:
  // float64, so that the claims hold to rounding.
  AdapterContext site(uint64_t seed = 1) const {
    const bool linear = GetParam().kind == SiteKind::linear;
    const auto weight = torch::randn({linear ? 24 : 30, 20}, make_generator(1, "weight"), torch::kFloat64);
    const auto gradient = torch::randn(weight.sizes(), make_generator(1, "gradient"), torch::kFloat64);
    return {"block.weight",
            GetParam().kind,
            weight,
            make_generator(seed, "init"),
            [gradient](int64_t k) { return leading_singular_pairs(gradient, k, make_generator(1, "pairs")); },
            torch::kFloat64};
  }
  std::shared_ptr<Adapter> build(const AdapterContext& context) const {
    return configured(GetParam().method, GetParam().options)(context);
  }
  torch::Tensor inputs() const {
    auto generator = make_generator(2, "inputs");
    if (GetParam().kind == SiteKind::embedding) return torch::randint(30, {6, 5}, generator, torch::kInt64);
    return torch::randn({6, 5, 20}, generator, torch::kFloat64);
  }
  torch::Tensor adapted(Adapter& adapter, const AdapterContext& context, const torch::Tensor& x) const {
    return GetParam().kind == SiteKind::linear ? adapter.linear(x, context.weight, {})
                                               : adapter.embedding(x, context.weight);
  }
  // Steps of Adam towards a random target: takes every method far from its start.
  void train(Adapter& adapter, const AdapterContext& context, int steps) const {
    std::vector<torch::optim::OptimizerParamGroup> groups;
    for (const auto& group : adapter.param_groups()) {
      std::vector<torch::Tensor> params;
      for (const auto& param : group.params) params.push_back(param.value);
      groups.emplace_back(params, std::make_unique<torch::optim::AdamOptions>(0.05 * group.lr_scale));
    }
    torch::optim::Adam optimizer(groups, torch::optim::AdamOptions(0.05));
    const auto x = inputs();
    const int64_t width = GetParam().kind == SiteKind::linear ? context.out() : context.in();
    const auto target = torch::randn({6, 5, width}, make_generator(3, "target"), torch::kFloat64);
    adapter.train();
    for (int step = 0; step < steps; ++step) {
      optimizer.zero_grad();
      (adapted(adapter, context, x) - target).square().mean().backward();
      optimizer.step();
    }
  }
  std::shared_ptr<Adapter> trained(const AdapterContext& context) const {
    auto adapter = build(context);
    train(*adapter, context, 30);
    adapter->eval();
    return adapter;
  }
};

TEST_P(MethodContractTest, StartsAtTheFrozenModel) {
  const auto context = site();
  const auto delta = build(context)->delta();
  EXPECT_EQ(delta.sizes(), context.weight.sizes());
  EXPECT_FALSE(delta.requires_grad());
  // Zero, or init_scale to the depth; LoRA-One starts after a step of spectral norm alpha / (sqrt(r) gamma).
  const double largest =
      GetParam().method == "lora-one" && GetParam().options.empty() ? 16 / std::sqrt(8.0) / 128 : 1e-5;
  EXPECT_LE(torch::linalg_svdvals(delta).max().item<double>(), largest * (1 + 1e-12));
}

TEST_P(MethodContractTest, DeltaIsWhatForwardAndRowsCompute) {
  const auto context = site();
  auto adapter = trained(context);
  torch::NoGradGuard no_grad;
  const auto delta = adapter->delta();
  EXPECT_GT(delta.norm().item<double>(), 1e-3) << "training changed nothing";
  if (GetParam().kind == SiteKind::linear) {
    EXPECT_TRUE(close(adapter->forward(torch::eye(20, torch::kFloat64)).t(), delta, 1e-13));
  }
  EXPECT_TRUE(close(adapter->rows(torch::arange(context.out())), delta, 1e-13));
}

TEST_P(MethodContractTest, AdaptedLayerEqualsTheMergedWeight) {
  const auto context = site();
  auto adapter = trained(context);
  torch::NoGradGuard no_grad;
  const auto merged = context.weight + adapter->delta(), x = inputs();
  if (GetParam().kind == SiteKind::linear) {
    const auto bias = torch::randn({24}, torch::kFloat64);
    EXPECT_TRUE(close(adapter->linear(x, context.weight, bias), at::linear(x, merged, bias), 1e-13));
  } else {
    EXPECT_TRUE(close(adapter->embedding(x, context.weight), at::embedding(merged, x), 1e-13));
  }
}

TEST_P(MethodContractTest, LowRankPairReproducesTheUpdate) {
  auto adapter = trained(site());
  const auto pair = adapter->low_rank_pair();
  if (!pair) GTEST_SKIP() << "the method has no low-rank pair";
  EXPECT_EQ(pair->a.size(0), pair->b.size(1));
  EXPECT_FALSE(pair->a.requires_grad() || pair->b.requires_grad());
  EXPECT_TRUE(close(pair->scale * torch::matmul(pair->b, pair->a), adapter->delta(), 1e-13));
}

TEST_P(MethodContractTest, SingularValuesAreThoseOfTheUpdate) {
  auto adapter = trained(site());
  const auto values = adapter->singular_values(), all = torch::linalg_svdvals(adapter->delta());
  ASSERT_LE(values.numel(), all.numel());
  const auto padded = torch::constant_pad_nd(values, {0, all.numel() - values.numel()});
  EXPECT_TRUE(close(padded, all, 1e-13));
}

TEST_P(MethodContractTest, RestoresBitExactFromItsTensorsWithoutTheGradient) {
  const auto context = site();
  auto adapter = trained(context);
  auto empty = site(/*seed=*/99);
  empty.leading_gradient = nullptr;
  auto restored = build(empty);
  restored->eval();
  const auto saved = adapter->tensors(), places = restored->tensors();
  ASSERT_EQ(saved.size(), places.size());
  std::set<std::string> names;
  torch::NoGradGuard no_grad;
  for (size_t i = 0; i < saved.size(); ++i) {
    EXPECT_TRUE(names.insert(saved[i].name).second) << saved[i].name << " appears twice";
    ASSERT_EQ(saved[i].name, places[i].name);
    ASSERT_EQ(saved[i].value.sizes(), places[i].value.sizes());
    places[i].value.copy_(saved[i].value);
  }
  EXPECT_TRUE(torch::equal(restored->delta(), adapter->delta()));
  const auto x = inputs();
  EXPECT_TRUE(torch::equal(adapted(*restored, empty, x), adapted(*adapter, context, x)));
}

TEST_P(MethodContractTest, TrainsItsOwnTensorsAndNothingElse) {
  const auto context = site();
  const auto weight = context.weight.clone();
  auto adapter = build(context);
  std::map<std::string, torch::Tensor> before;
  for (const auto& [name, value] : adapter->tensors()) before[name] = value.detach().clone();
  train(*adapter, context, 2);
  std::set<std::string> trained_names;
  for (const auto& group : adapter->param_groups()) {
    EXPECT_GT(group.lr_scale, 0);
    for (const auto& [name, value] : group.params) {
      EXPECT_TRUE(trained_names.insert(name).second) << name << " is in two groups";
      ASSERT_TRUE(before.count(name)) << name << " is trained but not saved";
      ASSERT_TRUE(value.grad().defined()) << name;
      EXPECT_GT(value.grad().abs().max().item<double>(), 0) << name << " gets no gradient";
      EXPECT_FALSE(torch::equal(value, before[name])) << name << " did not move";
    }
  }
  EXPECT_FALSE(trained_names.empty());
  for (const auto& [name, value] : adapter->tensors()) {
    if (trained_names.count(name)) continue;
    EXPECT_FALSE(value.requires_grad()) << name;
    EXPECT_TRUE(torch::equal(value, before[name])) << name << " is not trained but moved";
  }
  EXPECT_TRUE(torch::equal(context.weight, weight));
  EXPECT_FALSE(context.weight.grad().defined());
}

TEST_P(MethodContractTest, RepeatsItselfFromTheSameSeedAndSitesDiffer) {
  const auto first = build(site(5))->tensors(), again = build(site(5))->tensors(), other = build(site(6))->tensors();
  bool differs = false;
  for (size_t i = 0; i < first.size(); ++i) {
    EXPECT_TRUE(torch::equal(first[i].value, again[i].value)) << first[i].name;
    differs = differs || !torch::equal(first[i].value, other[i].value);
  }
  EXPECT_EQ(differs, !kWithoutChance.count(GetParam().method));
}

TEST_P(MethodContractTest, KeepsItsFactorsInFloat32OverABfloat16Weight) {
  auto context = site();
  context.weight = context.weight.to(torch::kBFloat16);
  context.factor_options = torch::kFloat32;
  auto adapter = build(context);
  for (const auto& [name, value] : adapter->tensors()) EXPECT_EQ(value.scalar_type(), torch::kFloat32) << name;
  auto x = inputs();
  if (x.is_floating_point()) x = x.to(torch::kBFloat16);
  EXPECT_EQ(adapted(*adapter, context, x).scalar_type(), torch::kBFloat16);
}

INSTANTIATE_TEST_SUITE_P(AllMethods, MethodContractTest, ::testing::ValuesIn(cases()), [](const auto& info) {
  std::string name =
      info.param.method + "_" + info.param.options + (info.param.kind == SiteKind::linear ? "_linear" : "_embedding");
  std::string clean;
  for (const char c : name) {
    if (std::isalnum(static_cast<unsigned char>(c))) clean += c;
    else if (clean.empty() || clean.back() != '_') clean += '_';
  }
  return clean;
});

TEST(MethodRegistryTest, BaselinesTakeNoOptionsAndBuildNoAdapters) {
  const auto methods = all_methods();
  EXPECT_EQ(methods.at("none").trains, AdapterMethod::Trains::head_only);
  EXPECT_EQ(methods.at("full").trains, AdapterMethod::Trains::base);
  for (const char* name : {"none", "full"}) EXPECT_FALSE(configured(name, ""));
}

TEST(MethodRegistryTest, EveryMethodIsDescribedAndHasALearningRate) {
  const auto methods = all_methods();
  for (const auto& name : methods.names()) {
    EXPECT_FALSE(methods.at(name).summary.empty()) << name;
    EXPECT_GT(methods.at(name).default_lr, 0) << name;
  }
}

TEST(MethodRegistryTest, RanksAboveTheWeightAreErrorsThatNamePathAndShape) {
  const auto methods = all_methods();
  int tried = 0;
  for (const auto& name : methods.names()) {
    const auto config = Config::parse("");
    methods.at(name).configure(config);
    bool has_rank = false;
    for (const auto& option : config.options()) has_rank = has_rank || option.path == "rank";
    if (!has_rank) continue;
    ++tried;
    AdapterContext site{"layer.3.weight", SiteKind::linear, torch::ones({12, 9}), make_generator(1, "init"), {}};
    EXPECT_NO_THROW(configured(name, "rank: 2")(site)) << name;
    try {
      configured(name, "rank: 10")(site);
      ADD_FAILURE() << name << " accepts rank 10 for [12, 9]";
    } catch (const Error& error) {
      const std::string what = error.what();
      EXPECT_NE(what.find("layer.3.weight [12, 9]"), std::string::npos) << what;
    }
  }
  EXPECT_GE(tried, 3);
}

TEST(MethodRegistryTest, OptionsOfOtherMethodsAreUnknownKeys) {
  const auto methods = all_methods();
  std::map<std::string, std::set<std::string>> known;
  std::set<std::string> every;
  for (const auto& name : methods.names()) {
    const auto config = Config::parse("");
    methods.at(name).configure(config);
    for (const auto& option : config.options()) known[name].insert(option.path);
    every.insert(known[name].begin(), known[name].end());
  }
  ASSERT_GE(every.size(), 6u);
  for (const auto& name : methods.names()) {
    for (const auto& key : every) {
      if (known[name].count(key)) continue;
      try {
        configured(name, key + ": 1");
        ADD_FAILURE() << name << " accepts " << key;
      } catch (const Error& error) {
        EXPECT_NE(std::string(error.what()).find(key + ": unknown key"), std::string::npos) << error.what();
      }
    }
  }
}

}  // namespace
}  // namespace deeplora
