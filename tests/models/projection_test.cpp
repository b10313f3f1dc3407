// Oracle: the same projections called one by one.
#include "models/projection.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>

#include "adapters/chain_adapter.h"
#include "lm/autocast.h"
#include "model_files/torchscript_file.h"
#include "models/activation.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {

/// Three projections of 6 inputs; the last may have no bias.
std::vector<Projection> make_projections(bool every_bias = true) {
  torch::manual_seed(4);
  std::vector<Projection> out;
  for (const int64_t rows : {6, 4, 3})
    out.emplace_back(cat("p", rows, ".weight"), torch::randn({rows, 6}),
                     every_bias || rows != 3 ? torch::randn({rows}) : torch::Tensor());
  return out;
}

void adapt(Projection& projection, double dropout) {
  FactorChain chain(std::vector<Factor>{{.name = "a", .value = torch::randn({2, 6})},
                                        {.name = "b", .value = torch::randn({projection->weight().size(0), 2})}},
                    0.5);
  projection->site("role").attach(std::make_shared<ChainAdapter>(chain, dropout));
}

void expect_same(JoinedProjections& joined, const std::vector<Projection>& projections) {
  const torch::Tensor x = torch::randn({2, 5, 6});
  const auto together = joined.forward(x);
  ASSERT_EQ(together.size(), projections.size());
  for (size_t i = 0; i < projections.size(); ++i) {
    Projection alone = projections[i];
    EXPECT_TRUE(at::allclose(together[i], alone(x), 1e-5, 1e-6)) << i;
  }
  EXPECT_TRUE(torch::equal(joined.as_one(x), at::cat(together, -1)));
  const auto rest = joined.without_first(x);
  ASSERT_EQ(rest.size() + 1, together.size());
  for (size_t i = 0; i < rest.size(); ++i) EXPECT_TRUE(at::allclose(rest[i], together[i + 1], 1e-5, 1e-6)) << i;
}

TEST(JoinedProjectionsTest, GiveWhatEachGivesAlone) {
  for (const bool every_bias : {true, false}) {
    auto projections = make_projections(every_bias);
    JoinedProjections joined(projections, {});
    expect_same(joined, projections);
    adapt(projections[0], 0.0);
    expect_same(joined, projections);
    projections[1]->parameters()[0].set_requires_grad(true);  // method full
    expect_same(joined, projections);
  }
}

TEST(JoinedProjectionsTest, DropoutBeforeOneChainIsNotLeftOut) {
  auto projections = make_projections();
  JoinedProjections joined(projections, {});
  adapt(projections[2], 0.5);
  projections[2]->train();
  const torch::Tensor x = torch::randn({50, 6});
  torch::manual_seed(1);
  const torch::Tensor first = joined.forward(x)[2], second = joined.forward(x)[2];
  EXPECT_FALSE(torch::equal(first, second));
}

TEST(JoinedProjectionsTest, HoldEveryWeightOnceAndKeepTheArchivesTensorsInStep) {
  auto projections = make_projections();
  const torch::Tensor owner = projections[1]->weight().detach(), value = owner.clone(), stranger = owner.clone();
  JoinedProjections joined(projections, {owner, stranger});
  const torch::Tensor x = torch::randn({3, 6});
  joined.forward(x);
  EXPECT_EQ(owner.data_ptr(), projections[1]->weight().data_ptr());
  EXPECT_NE(stranger.data_ptr(), owner.data_ptr());
  EXPECT_TRUE(torch::equal(owner, value));
  EXPECT_TRUE(owner.is_alias_of(projections[0]->weight()));
  torch::NoGradGuard no_grad;
  torch::Tensor(owner).mul_(2);  // what training the base does
  EXPECT_TRUE(at::allclose(joined.forward(x)[1], at::linear(x, 2 * value, projections[1]->bias()), 1e-5, 1e-6));
}

TEST(JoinedProjectionsTest, FollowWeightsThatAreMoved) {
  auto projections = make_projections();
  JoinedProjections joined(projections, {});
  for (auto& projection : projections) projection->to(torch::kFloat64);  // new tensors, as with another device
  const torch::Tensor x = torch::randn({3, 6}, torch::kFloat64);
  EXPECT_TRUE(at::allclose(joined.forward(x)[2], projections[2](x), 1e-12, 1e-12));
}

TEST(ProjectionTest, AnActivationInsideTheLayerIsTheOneBeforeIt) {
  auto projections = make_projections();
  Projection projection = projections[0];
  adapt(projection, 0.0);
  for (const char* name : {"gelu", "gelu_new", "relu"}) {
    const torch::Tensor x = torch::randn({3, 7, 6}).set_requires_grad(true);
    const auto gradients = [&](const torch::Tensor& y) {
      return torch::autograd::grad({y.sin().sum()}, {x, projection->parameters()[2]});
    };
    const torch::Tensor ours = projection->of_activated(x, name), theirs = projection(activate(x, name));
    EXPECT_TRUE(at::allclose(ours, theirs, 1e-5, 1e-6)) << name;
    const auto a = gradients(ours), b = gradients(theirs);
    for (size_t i = 0; i < 2; ++i) EXPECT_TRUE(at::allclose(a[i], b[i], 1e-4, 1e-5)) << name << " " << i;
  }
}

TEST(ActivationTest, AGateInOnePassIsTheProductOfTheTwo) {
  torch::manual_seed(6);
  for (const int64_t width : {5, 48}) {
    const torch::Tensor joined = (3 * torch::randn({70, 2 * width})).set_requires_grad(true);
    const auto parts = joined.to(torch::kFloat64).split(width, 1);
    const torch::Tensor ours = activate_gate(joined, "silu"), theirs = at::silu(parts[0]) * parts[1];
    EXPECT_LT((ours - theirs).abs().max().item<double>(), 1e-5);
    const auto a = torch::autograd::grad({ours.sin().sum()}, {joined}),
               b = torch::autograd::grad({theirs.sin().sum()}, {joined});
    EXPECT_LT((a[0] - b[0]).abs().max().item<double>(), 1e-4);
  }
}

/// Oracle: gate and product as two operators.
void expect_gated(const Projection& projection, bool bfloat16, double tolerance) {
  Projection layer = projection;
  const torch::Tensor x = torch::randn({3, 7, 12}).set_requires_grad(true);
  std::vector<torch::Tensor> inputs{x};
  for (const auto& parameter : layer->parameters())
    if (parameter.requires_grad()) inputs.push_back(parameter);
  const auto run = [&](bool together) {
    const Autocast autocast(torch::kCPU, bfloat16);
    const torch::Tensor y = together ? layer->of_gated(x, "silu") : layer(activate_gate(x, "silu"));
    auto out = torch::autograd::grad({y.to(torch::kFloat32).sin().sum()}, inputs);
    out.push_back(y.detach());
    return out;
  };
  const auto ours = run(true), theirs = run(false);
  for (size_t i = 0; i < ours.size(); ++i)
    EXPECT_LT((ours[i] - theirs[i]).norm().item<double>(), tolerance * theirs[i].norm().item<double>())
        << i << " of " << inputs.size();
}

TEST(ProjectionTest, AGateInsideTheLayerIsTheOneBeforeIt) {
  for (const bool bfloat16 : {false, true}) {
    auto projections = make_projections();
    expect_gated(projections[0], bfloat16, bfloat16 ? 3e-2 : 1e-5);  // frozen alone
    adapt(projections[0], 0.0);
    expect_gated(projections[0], bfloat16, bfloat16 ? 3e-2 : 1e-5);
    adapt(projections[1], 0.5);  // no one operator: dropout stands between gate and chain
    projections[1]->eval();
    expect_gated(projections[1], bfloat16, bfloat16 ? 3e-2 : 1e-5);
  }
}

/// An archive of three weights [32, 64] and projections that look into it.
struct StoredProjections {
  explicit StoredProjections(const std::filesystem::path& file) : archive(TorchScriptArchive::load(written(file))) {
    for (const char* name : {"q.weight", "k.weight", "v.weight"}) {
      owners.push_back(archive.tensor(name));
      projections.emplace_back(name, owners.back().detach(), torch::Tensor());
      projections.back()->may_stay_in(archive.stored());
    }
  }
  static std::filesystem::path written(const std::filesystem::path& file) {
    torch::manual_seed(7);
    torch::jit::Module module("__torch__.Weights");
    for (const char* name : {"q", "k", "v"}) {
      torch::jit::Module part(std::string("__torch__.") + name);
      part.register_parameter("weight", torch::randn({32, 64}), /*is_buffer=*/false);
      module.register_module(name, part);
    }
    module.define("def forward(self, input_ids):\n  return input_ids\n");
    module.save(file.string());
    return file;
  }
  bool all_in(const torch::Tensor& memory) const {
    return std::all_of(projections.begin(), projections.end(),
                       [&](const Projection& p) { return p->weight().is_alias_of(memory); });
  }
  TorchScriptArchive archive;
  std::vector<torch::Tensor> owners;
  std::vector<Projection> projections;
};

TEST(JoinedProjectionsTest, WithPanelsTheWeightsAreLeftToTheirFile) {
  if (!WeightPanels::fit(96, 64, torch::kCPU)) GTEST_SKIP() << "this processor or LibTorch has no panels";
  testing::TempFolder folder;
  StoredProjections stored(folder / "m.pt");
  JoinedProjections joined(stored.projections, stored.owners);
  const torch::Tensor x = torch::randn({50, 64});
  torch::NoGradGuard no_grad;
  const auto wide = joined.forward(x);  // float32: joined
  const torch::Tensor memory = stored.projections[0]->weight().detach(), before = torch::cat(stored.owners);
  EXPECT_TRUE(stored.all_in(memory));
  const Autocast autocast(torch::kCPU, true);
  const auto narrow = joined.forward(x);
  for (size_t i = 0; i < 3; ++i) {
    EXPECT_LT((narrow[i] - wide[i]).norm().item<double>(), 1e-2 * wide[i].norm().item<double>());
    EXPECT_FALSE(stored.projections[i]->weight().is_alias_of(memory));
    EXPECT_TRUE(stored.owners[i].is_alias_of(stored.projections[i]->weight()));
  }
  EXPECT_TRUE(torch::equal(torch::cat(stored.owners), before));
  const auto again = joined.forward(x);
  for (size_t i = 0; i < 3; ++i) EXPECT_TRUE(torch::equal(again[i], narrow[i]));
  stored.projections[1]->weight().mul_(2);  // panels of a weight that changed are made again
  const auto twice = joined.forward(x);
  EXPECT_LT((twice[1] - 2 * narrow[1]).norm().item<double>(), 1e-2 * twice[1].norm().item<double>());
}

TEST(ProjectionTest, WithPanelsTheWeightIsLeftToItsFile) {
  if (!WeightPanels::fit(32, 64, torch::kCPU)) GTEST_SKIP() << "this processor or LibTorch has no panels";
  testing::TempFolder folder;
  StoredProjections stored(folder / "m.pt");
  Projection projection = stored.projections[0];
  const torch::Tensor x = torch::randn({50, 64}), before = projection->weight().clone();
  const void* place = projection->weight().const_data_ptr();
  torch::NoGradGuard no_grad;
  const torch::Tensor wide = projection(x);
  EXPECT_EQ(projection->weight().const_data_ptr(), place);
  const Autocast autocast(torch::kCPU, true);
  EXPECT_LT((projection(x) - wide).norm().item<double>(), 1e-2 * wide.norm().item<double>());
  EXPECT_NE(projection->weight().const_data_ptr(), place);
  EXPECT_EQ(projection->weight().const_data_ptr(), stored.owners[0].const_data_ptr());
  EXPECT_TRUE(torch::equal(stored.owners[0], before));
}

TEST(AutocastCopyTest, IsMadeOnceAndAgainWhenTheWeightChanges) {
  torch::Tensor weight = torch::randn({6, 4});  // no whole panels
  AutocastCopy copy;
  EXPECT_TRUE(copy.of(weight).parts[0].is_same(weight));
  const Autocast autocast(torch::kCPU, true);
  const torch::Tensor first = copy.of(weight).parts[0];
  EXPECT_TRUE(torch::equal(first, weight.to(torch::kBFloat16)));
  EXPECT_TRUE(copy.of(weight).parts[0].is_same(first));
  weight.mul_(2);
  EXPECT_TRUE(torch::equal(copy.of(weight).parts[0], weight.to(torch::kBFloat16)));
  weight.set_data(torch::randn({6, 4}));
  EXPECT_TRUE(torch::equal(copy.of(weight).parts[0], weight.to(torch::kBFloat16)));
  weight.set_requires_grad(true);
  EXPECT_TRUE(copy.of(weight).parts[0].is_same(weight));
}

}  // namespace
}  // namespace deeplora
