// DoRA, PiSSA, LoRA+, LoRA-One, LoRA-GA, EVA and PoLAR. Oracle: tests/golden/methods.json, PEFT's layers and the
// papers' formulas (tests/golden/make/method.py).
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "adapters/registration.h"
#include "core/random.h"
#include "tests/support/tensors.h"
#include "tests/support/tiny_archive.h"
#include "train/optimizers.h"

namespace deeplora {
namespace {

using testing::close;
using testing::error_of;
using testing::factory_of;
using testing::golden;
using testing::tensor_from;

AdapterContext site_of(const torch::Tensor& weight, SiteKind kind = SiteKind::linear) {
  return {"block.weight", kind, weight, make_generator(1, "init"), nullptr, torch::TensorOptions(weight.scalar_type())};
}

std::string rank_and_alpha(const nlohmann::json& golden) {
  return cat("rank: ", golden.at("rank"), ", alpha: ", golden.at("alpha"));
}

torch::Tensor parameter(const Adapter& adapter, const std::string& name) {
  for (const auto& each : adapter.tensors())
    if (each.name == name) return each.value;
  throw std::out_of_range("no tensor " + name);
}

void copy(const Adapter& adapter, const std::string& name, const torch::Tensor& value) {
  torch::NoGradGuard no_grad;
  parameter(adapter, name).copy_(value);
}

TEST(DoraTest, LinearLayerEqualsPeft) {
  const auto peft = golden("methods.json").at("dora_linear");
  const auto weight = tensor_from(peft.at("weight")), bias = tensor_from(peft.at("bias")),
             x = tensor_from(peft.at("x"));
  const auto adapter = factory_of("dora", "{" + rank_and_alpha(peft) + "}")(site_of(weight));
  EXPECT_TRUE(close(parameter(*adapter, "magnitude"), tensor_from(peft.at("start_magnitude")), 1e-14));
  copy(*adapter, "A", tensor_from(peft.at("a")));
  copy(*adapter, "B", tensor_from(peft.at("b")));
  copy(*adapter, "magnitude", tensor_from(peft.at("magnitude")));
  const auto y = adapter->linear(x, weight, bias);
  EXPECT_TRUE(close(y, tensor_from(peft.at("y")), 1e-13));
  EXPECT_TRUE(close(at::linear(x, weight, bias) + adapter->forward(x), tensor_from(peft.at("y")), 1e-13));
  EXPECT_TRUE(close(weight + adapter->delta(), tensor_from(peft.at("merged")), 1e-13));
  (y * tensor_from(peft.at("cotangent"))).sum().backward();
  EXPECT_TRUE(close(parameter(*adapter, "A").grad(), tensor_from(peft.at("a_gradient")), 1e-13));
  EXPECT_TRUE(close(parameter(*adapter, "B").grad(), tensor_from(peft.at("b_gradient")), 1e-13));
  EXPECT_TRUE(close(parameter(*adapter, "magnitude").grad(), tensor_from(peft.at("magnitude_gradient")), 1e-13));
}

TEST(DoraTest, EmbeddingEqualsPeft) {
  // Its A is our B transposed, its B our A transposed.
  const auto peft = golden("methods.json").at("dora_embedding");
  const auto weight = tensor_from(peft.at("weight"));
  const auto adapter = factory_of("dora", "{" + rank_and_alpha(peft) + "}")(site_of(weight, SiteKind::embedding));
  EXPECT_TRUE(close(parameter(*adapter, "magnitude"), tensor_from(peft.at("start_magnitude")), 1e-14));
  copy(*adapter, "A", tensor_from(peft.at("b")).t());
  copy(*adapter, "B", tensor_from(peft.at("a")).t());
  copy(*adapter, "magnitude", tensor_from(peft.at("magnitude")));
  const auto y = adapter->embedding(tensor_from(peft.at("ids"), torch::kInt64), weight);
  EXPECT_TRUE(close(y, tensor_from(peft.at("y")), 1e-13));
  (y * tensor_from(peft.at("cotangent"))).sum().backward();
  EXPECT_TRUE(close(parameter(*adapter, "A").grad(), tensor_from(peft.at("b_gradient")).t(), 1e-13));
  EXPECT_TRUE(close(parameter(*adapter, "B").grad(), tensor_from(peft.at("a_gradient")).t(), 1e-13));
  EXPECT_TRUE(close(parameter(*adapter, "magnitude").grad(), tensor_from(peft.at("magnitude_gradient")), 1e-13));
}

TEST(DoraTest, ATiedTableIsTheSameWeightInBothUses) {
  const auto weight = torch::randn({9, 6}, make_generator(3, "weight"), torch::kFloat64);
  const auto adapter = factory_of("dora", "rank: 2")(site_of(weight, SiteKind::embedding));
  copy(*adapter, "B", torch::randn({9, 2}, make_generator(4, "b"), torch::kFloat64));
  copy(*adapter, "magnitude", torch::rand({6}, make_generator(5, "m"), torch::kFloat64) + 1);
  const auto x = torch::randn({4, 6}, make_generator(6, "x"), torch::kFloat64), merged = weight + adapter->delta();
  EXPECT_TRUE(close(adapter->linear(x, weight, {}), at::linear(x, merged), 1e-13));
  EXPECT_TRUE(close(adapter->embedding(torch::arange(9), weight), merged, 1e-13));
}

TEST(DoraTest, DropoutMeetsTheInputOfBothPartsAsInPeft) {
  // PEFT: base output + (c - 1) W drop(x) + c s B A drop(x). With dropout of all but nothing else known, the mean over
  // many draws is the output without dropout.
  const auto weight = torch::randn({5, 7}, make_generator(3, "weight"), torch::kFloat64);
  const auto adapter = factory_of("dora", "{rank: 2, dropout: 0.5}")(site_of(weight));
  copy(*adapter, "B", torch::randn({5, 2}, make_generator(4, "b"), torch::kFloat64));
  copy(*adapter, "magnitude", torch::full({5}, 3.0, torch::kFloat64));
  const auto x = torch::randn({1, 7}, make_generator(6, "x"), torch::kFloat64);
  adapter->eval();
  const auto expected = adapter->linear(x, weight, {}).detach();
  adapter->train();
  torch::manual_seed(1);
  const auto many = adapter->linear(x.expand({40000, 7}), weight, {}).detach();
  const auto error = many.std(0) / std::sqrt(40000.0);
  EXPECT_TRUE(((many.mean(0) - expected[0]).abs() < 5 * error).all().item<bool>());
  EXPECT_GT(many.std(0).min().item<double>(), 0.01);
}

TEST(DoraTest, AZeroRowIsRefused) {
  auto weight = torch::ones({4, 3});
  weight[2].zero_();
  EXPECT_NE(error_of([&] { factory_of("dora", "rank: 2")(site_of(weight)); }).find("block.weight: its row 2 is zero"),
            std::string::npos);
}

TEST(PissaTest, StartsWherePeftStartsAndKeepsTheArchivesWeight) {
  const auto peft = golden("methods.json").at("pissa");
  const auto weight = tensor_from(peft.at("weight"));
  const auto adapter = factory_of("pissa", "{" + rank_and_alpha(peft) + "}")(site_of(weight));
  const double scale = peft.at("alpha").get<double>() / peft.at("rank").get<double>();
  const auto a = parameter(*adapter, "A").detach().clone(), b = parameter(*adapter, "B").detach().clone();
  // PEFT computes in float32. The pairs' signs are free, their product and norms are not.
  EXPECT_TRUE(close(torch::matmul(b, a), tensor_from(peft.at("product")), 1e-5));
  EXPECT_TRUE(close(weight - scale * torch::matmul(b, a), tensor_from(peft.at("residual")), 1e-5));
  EXPECT_TRUE(close(a.norm(2, 1), tensor_from(peft.at("a_norms")), 1e-5));
  EXPECT_TRUE(close(b.norm(2, 0), tensor_from(peft.at("b_norms")), 1e-5));
  EXPECT_EQ(adapter->delta().abs().max().item<double>(), 0);
  EXPECT_EQ(adapter->low_rank_pair()->a.size(0), 8) << "twice the rank";
  // Merged after training: W_res + s B A.
  copy(*adapter, "B", b + 1);
  EXPECT_TRUE(
      close(weight + adapter->delta(), tensor_from(peft.at("residual")) + scale * torch::matmul(b + 1, a), 1e-5));
}

TEST(LoraPlusTest, TakesTheStepsOfPeftsOptimizer) {
  const auto peft = golden("methods.json").at("lora_plus");
  const auto weight = tensor_from(peft.at("weight"));
  const auto adapter = factory_of(
      "lora-plus", cat("{", rank_and_alpha(peft), ", lr_ratio: ", peft.at("lr_ratio"), "}"))(site_of(weight));
  copy(*adapter, "A", tensor_from(peft.at("a")));
  copy(*adapter, "B", tensor_from(peft.at("b")));
  const double lr = peft.at("lr");
  for (const auto& group : adapter->param_groups())
    EXPECT_DOUBLE_EQ(group.lr_scale * lr, peft.at(group.params[0].name == "B" ? "lr_b" : "lr_a").get<double>());
  GroupOptimizer optimizer({}, adapter->param_groups());
  optimizer.set_learning_rate(lr);
  for (int step = 0; step < 5; ++step) {
    optimizer.zero_grad();
    (adapter->linear(tensor_from(peft.at("x")), weight, {}) - tensor_from(peft.at("target")))
        .square()
        .mean()
        .backward();
    optimizer.step();
  }
  EXPECT_TRUE(close(parameter(*adapter, "A"), tensor_from(peft.at("trained_a")), 1e-12));
  EXPECT_TRUE(close(parameter(*adapter, "B"), tensor_from(peft.at("trained_b")), 1e-12));
}

TEST(LoraOneTest, StartsAtTheAuthorsScaledGradientStep) {
  const auto paper = golden("methods.json").at("lora_one");
  const auto gradient = tensor_from(paper.at("gradient"));
  auto site = site_of(torch::zeros_like(gradient));
  site.leading_gradient = [&](int64_t k) { return leading_singular_pairs(gradient, k, make_generator(1, "svd")); };
  const auto adapter =
      factory_of("lora-one", cat("{", rank_and_alpha(paper), ", gamma: ", paper.at("gamma"), "}"))(site);
  EXPECT_TRUE(close(adapter->delta(), tensor_from(paper.at("delta")), 1e-13));
  EXPECT_TRUE(close(parameter(*adapter, "A").norm(2, 1), tensor_from(paper.at("a_norms")), 1e-13));
  EXPECT_TRUE(close(parameter(*adapter, "B").norm(2, 0), tensor_from(paper.at("b_norms")), 1e-13));
  // It is a step downhill.
  EXPECT_LT((adapter->delta() * gradient).sum().item<double>(), 0);
  site.leading_gradient = [&](int64_t k) { return leading_singular_pairs(gradient * 0, k, make_generator(1, "svd")); };
  EXPECT_NE(error_of([&] { factory_of("lora-one", "rank: 2")(site); }).find("block.weight at the start is zero"),
            std::string::npos);
}

TEST(LoraGaTest, StartsAtTheAuthorsPairsAndTakesThemOutOfTheWeight) {
  const auto paper = golden("methods.json").at("lora_ga");
  const auto gradient = tensor_from(paper.at("gradient"));
  auto site = site_of(torch::zeros_like(gradient));
  site.leading_gradient = [&](int64_t k) { return leading_singular_pairs(gradient, k, make_generator(1, "svd")); };
  const std::string options = cat("{", rank_and_alpha(paper), ", stable_gamma: ", paper.at("gamma"), "}");
  const auto adapter = factory_of("lora-ga", options)(site);
  EXPECT_TRUE(close(parameter(*adapter, "A").abs(), tensor_from(paper.at("a")), 1e-13));
  EXPECT_TRUE(close(parameter(*adapter, "B").abs(), tensor_from(paper.at("b")), 1e-13));
  EXPECT_EQ(adapter->delta().abs().max().item<double>(), 0);
  // What it is for: its first step of gradient descent is the best one of rank 2r, s^2 length^2 Gamma_2r.
  const auto a = parameter(*adapter, "A"), b = parameter(*adapter, "B");
  const double s = 6 / std::sqrt(3.0), lr = 1e-7;
  const auto step_a = s * torch::matmul(b.t(), gradient), step_b = s * torch::matmul(gradient, a.t());
  {
    const torch::NoGradGuard no_grad;
    a.sub_(step_a, lr);
    b.sub_(step_b, lr);
  }
  const auto [u, values, vt] = torch::linalg_svd(gradient, false);
  const double length = std::sqrt(12.0) / paper.at("gamma").get<double>();  // squared
  const auto best = s * s * length * torch::matmul(u.narrow(1, 0, 6) * values.narrow(0, 0, 6), vt.narrow(0, 0, 6));
  EXPECT_TRUE(close(adapter->delta() / -lr, best, 1e-5));
  site.leading_gradient = [&](int64_t k) { return leading_singular_pairs(gradient * 0, k, make_generator(1, "svd")); };
  EXPECT_NE(error_of([&] { factory_of("lora-ga", "rank: 2")(site); }).find("block.weight at the start is zero"),
            std::string::npos);
}

TEST(EvaTest, StartsAtTheDirectionsOfTheInputsWhereThereAreAny) {
  const auto directions = torch::randn({10, 10}, make_generator(1, "directions"), torch::kFloat64);
  const auto weight = torch::randn({12, 10}, make_generator(1, "weight"), torch::kFloat64);
  const auto as_lora = factory_of("lora", "rank: 3")(site_of(weight));
  EXPECT_TRUE(torch::equal(parameter(*factory_of("eva", "rank: 3")(site_of(weight)), "A"), parameter(*as_lora, "A")));
  auto site = site_of(weight);
  site.leading_inputs = [&](int64_t k) {
    return SingularPairs{directions.narrow(1, 0, k), torch::ones({k}), directions.narrow(1, 0, k)};
  };
  const auto adapter = factory_of("eva", "rank: 3")(site);
  EXPECT_TRUE(torch::equal(parameter(*adapter, "A"), directions.narrow(1, 0, 3).t()));
  EXPECT_EQ(adapter->delta().abs().max().item<double>(), 0);
  EXPECT_DOUBLE_EQ(adapter->low_rank_pair()->scale, 16.0 / 3);
  site.kind = SiteKind::embedding;
  factory_of("eva", "rank: 3")(site);  // starts as LoRA's
}

TEST(PolarTest, TakesTheRiemannianStepsOfThePaper) {
  const auto paper = golden("methods.json").at("polar");
  const auto target = tensor_from(paper.at("target"));
  const auto adapter = factory_of("polar", "rank: 3")(site_of(torch::zeros_like(target)));
  copy(*adapter, "X", tensor_from(paper.at("x")));
  copy(*adapter, "Theta", tensor_from(paper.at("theta")));
  copy(*adapter, "Y", tensor_from(paper.at("y")).t());
  OptimizerOptions options;
  options.name = "sgd";
  options.momentum = 0;
  GroupOptimizer optimizer(options, adapter->param_groups());
  optimizer.set_learning_rate(paper.at("step"));
  const auto eye = torch::eye(target.size(1), torch::kFloat64);
  for (int step = 0; step < paper.at("steps").get<int>(); ++step) {
    optimizer.zero_grad();
    (0.5 * (adapter->forward(eye).t() - target).square().sum()).backward();
    optimizer.step();
  }
  EXPECT_TRUE(close(parameter(*adapter, "X"), tensor_from(paper.at("trained_x")), 1e-12));
  EXPECT_TRUE(close(parameter(*adapter, "Theta"), tensor_from(paper.at("trained_theta")), 1e-12));
  EXPECT_TRUE(close(parameter(*adapter, "Y"), tensor_from(paper.at("trained_y")).t(), 1e-12));
}

TEST(PolarTest, FactorsStayOrthonormalUnderAdamWithDecayAndScaleIsThetas) {
  const auto weight = torch::randn({30, 20}, make_generator(3, "weight"));
  const auto adapter = factory_of("polar", "rank: 4")(site_of(weight));
  OptimizerOptions options;
  options.weight_decay = 0.1;
  GroupOptimizer optimizer(options, adapter->param_groups());
  optimizer.set_learning_rate(0.05);
  const auto x = torch::randn({50, 20}, make_generator(4, "x")),
             target = torch::randn({50, 30}, make_generator(5, "target"));
  const auto start = parameter(*adapter, "X").detach().clone();
  for (int step = 0; step < 50; ++step) {
    optimizer.zero_grad();
    (adapter->linear(x, weight, {}) - target).square().mean().backward();
    optimizer.step();
  }
  const auto left = parameter(*adapter, "X").detach(), right = parameter(*adapter, "Y").detach();
  EXPECT_TRUE(close(torch::matmul(left.t(), left), torch::eye(4), 1e-6));
  EXPECT_TRUE(close(torch::matmul(right, right.t()), torch::eye(4), 1e-6));
  EXPECT_GT((left - start).norm().item<double>(), 0.1) << "it never moved";
  EXPECT_TRUE(close(adapter->singular_values(), torch::linalg_svdvals(parameter(*adapter, "Theta").detach()), 1e-5));
}

}  // namespace
}  // namespace deeplora
