#include "adapters/chain_adapter.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <array>
#include <cmath>

#include "adapters/registration.h"
#include "core/random.h"
#include "factorization/initialization.h"
#include "factorization/spectral.h"
#include "support/errors.h"
#include "tests/support/tensors.h"

namespace deeplora {
namespace {

using testing::close;
using testing::golden;
using testing::tensor_from;

std::shared_ptr<ChainAdapter> build(const std::string& method, const std::string& options, const AdapterContext& site) {
  AdapterMethods methods("adapter method");
  register_adapter_methods(methods);
  const auto config = Config::parse(options, "run.yaml");
  const auto factory = methods.at(method).configure(config);
  config.finish();
  return std::dynamic_pointer_cast<ChainAdapter>(factory(site));
}

AdapterContext linear_site(int64_t out, int64_t in) {
  return {"encoder.query.weight",    SiteKind::linear, torch::zeros({out, in}, torch::kFloat64),
          make_generator(1, "init"), nullptr,          torch::kFloat64};
}

AdapterContext embedding_site(int64_t vocabulary, int64_t width) {
  auto site = linear_site(vocabulary, width);
  site.kind = SiteKind::embedding;
  site.path = "embeddings.weight";
  return site;
}

torch::Tensor parameter(const ChainAdapter& adapter, const std::string& name) {
  for (const auto& each : adapter.tensors())
    if (each.name == name) return each.value;
  throw std::out_of_range("no tensor " + name);
}

void copy(const ChainAdapter& adapter, const std::string& name, const torch::Tensor& value) {
  torch::NoGradGuard no_grad;
  parameter(adapter, name).copy_(value);
}

using testing::error_of;

TEST(ChainAdapterTest, LinearLayerWithPeftsFactorsEqualsPeft) {
  // Oracle: peft's lora.Linear holding the same A, B, weight and bias: output, gradients, scaling and merged
  // update.
  const auto file = golden("factor_peft.json");
  for (const char* method : {"lora", "rslora"}) {
    const auto& peft = file.at(method);
    const auto weight = tensor_from(peft.at("weight")), bias = tensor_from(peft.at("bias")),
               x = tensor_from(peft.at("x"));
    const auto adapter = build(method, cat("{rank: ", peft.at("rank"), ", alpha: ", peft.at("alpha"), "}"),
                               linear_site(weight.size(0), weight.size(1)));
    copy(*adapter, "A", tensor_from(peft.at("a")));
    copy(*adapter, "B", tensor_from(peft.at("b")));
    EXPECT_DOUBLE_EQ(adapter->chain()->scale(), peft.at("scaling").get<double>());
    const auto y = adapter->linear(x, weight, bias);
    EXPECT_TRUE(close(y, tensor_from(peft.at("y")), 1e-14));
    EXPECT_TRUE(close(adapter->delta(), tensor_from(peft.at("delta")), 1e-14));
    (y * tensor_from(peft.at("cotangent"))).sum().backward();
    EXPECT_TRUE(close(parameter(*adapter, "A").grad(), tensor_from(peft.at("a_gradient")), 1e-14));
    EXPECT_TRUE(close(parameter(*adapter, "B").grad(), tensor_from(peft.at("b_gradient")), 1e-14));
  }
}

TEST(ChainAdapterTest, EmbeddingWithPeftsFactorsEqualsPeft) {
  // Oracle: peft's lora.Embedding. Its update of the [V, D] table is (B A)^T, so our B is its A^T and our A
  // its B^T.
  const auto peft = golden("factor_peft.json").at("embedding");
  const auto weight = tensor_from(peft.at("weight"));
  const auto adapter = build("lora", cat("{rank: ", peft.at("rank"), ", alpha: ", peft.at("alpha"), "}"),
                             embedding_site(weight.size(0), weight.size(1)));
  copy(*adapter, "A", tensor_from(peft.at("b")).t());
  copy(*adapter, "B", tensor_from(peft.at("a")).t());
  const auto y = adapter->embedding(tensor_from(peft.at("ids"), torch::kInt64), weight);
  EXPECT_TRUE(close(y, tensor_from(peft.at("y")), 1e-14));
  (y * tensor_from(peft.at("cotangent"))).sum().backward();
  EXPECT_TRUE(close(parameter(*adapter, "A").grad(), tensor_from(peft.at("b_gradient")).t(), 1e-14));
  EXPECT_TRUE(close(parameter(*adapter, "B").grad(), tensor_from(peft.at("a_gradient")).t(), 1e-14));
}

TEST(ChainAdapterTest, EmbeddingsStartAsPeftStartsThem) {
  // The side read by ids is zero, the other N(0, 1), whatever the linear sites do.
  const auto peft = golden("factor_peft.json").at("start");
  EXPECT_EQ(peft.at("embedding_a_largest").get<double>(), 0);
  EXPECT_NEAR(peft.at("embedding_b_std").get<double>(), 1, 0.2);
  for (const char* options : {"", "{init: gaussian, zero_side: input}", "{init: gaussian, zero_side: output}"}) {
    const auto adapter = build("lora", options, embedding_site(300, 200));
    EXPECT_EQ(parameter(*adapter, "B").abs().max().item<double>(), 0) << options;
    const auto normal = [](double x) { return std::erfc(-x / std::sqrt(2.0)) / 2; };
    EXPECT_LT(testing::kolmogorov_distance(parameter(*adapter, "A"), normal), 2.694 / std::sqrt(1600.0)) << options;
  }
}

TEST(ChainAdapterTest, ScalesAsEachMethodDefines) {
  const auto scale = [](const std::string& method, const std::string& options) {
    return build(method, options, linear_site(40, 40))->chain()->scale();
  };
  EXPECT_DOUBLE_EQ(scale("lora", ""), 16.0 / 8);
  EXPECT_DOUBLE_EQ(scale("lora", "{rank: 4, alpha: 6}"), 1.5);
  EXPECT_DOUBLE_EQ(scale("lora", "init: gaussian"), 1);
  EXPECT_DOUBLE_EQ(scale("lora", "{init: gaussian, alpha: 4}"), 0.5);
  EXPECT_DOUBLE_EQ(scale("rslora", "{rank: 4, alpha: 6}"), 3);
  EXPECT_DOUBLE_EQ(scale("deep-lora", ""), 1);
  EXPECT_DOUBLE_EQ(scale("deep-lora", "{alpha: 4, compress: true}"), 0.5);
}

TEST(ChainAdapterTest, GaussianLoraIsZeroOnTheChosenSide) {
  const auto largest = [](const std::string& options, const std::string& name) {
    return parameter(*build("lora", options, linear_site(12, 10)), name).abs().max().item<double>();
  };
  EXPECT_EQ(largest("init: gaussian", "B"), 0);
  EXPECT_GT(largest("init: gaussian", "A"), 1);  // N(0, 1), not PEFT's 1/r
  EXPECT_EQ(largest("{init: gaussian, zero_side: input}", "A"), 0);
  EXPECT_GT(largest("{init: gaussian, zero_side: input}", "B"), 1);
}

TEST(ChainAdapterTest, DropoutScalesInputsInTrainingOnly) {
  // The chain is the identity, so that the output is the input after dropout: 0 or 1 / (1 - p).
  const auto chain = [] { return FactorChain(std::vector<Factor>{{"A", torch::eye(50)}, {"B", torch::eye(50)}}); };
  ChainAdapter adapter(chain(), 0.75);
  const auto x = torch::ones({40, 50});
  const auto y = adapter.forward(x).detach();
  EXPECT_TRUE(((y == 0) | (y == 4)).all().item<bool>());
  EXPECT_NEAR((y == 0).to(torch::kFloat64).mean().item<double>(), 0.75,
              0.05);  // five standard deviations of 2000 draws
  EXPECT_TRUE(torch::equal(adapter.rows(torch::arange(50)), torch::eye(50))) << "embeddings take no dropout";
  adapter.eval();
  EXPECT_TRUE(torch::equal(adapter.forward(x), x));
  EXPECT_THROW(ChainAdapter(chain(), 1.0), std::invalid_argument);
}

TEST(ChainAdapterTest, CompressedDeepLoraSpansTheGradientOfItsSite) {
  auto site = linear_site(40, 30);
  auto generator = make_generator(2, "gradient");
  const auto gradient = torch::matmul(torch::randn({40, 3}, generator, torch::kFloat64),
                                      torch::randn({3, 30}, generator, torch::kFloat64));
  int asked = 0;
  site.leading_gradient = [&](int64_t k) {
    ++asked;
    return leading_singular_pairs(gradient, k, generator);
  };
  const auto adapter = build("deep-lora", "{compress: true, rank: 3, outer_lr_ratio: 0.5}", site);
  EXPECT_EQ(asked, 1);
  const auto u = parameter(*adapter, "U").detach(), v = parameter(*adapter, "V").detach().t();
  EXPECT_TRUE(close(torch::matmul(torch::matmul(u, u.t()), gradient), gradient, 1e-13));
  EXPECT_TRUE(close(torch::matmul(gradient, torch::matmul(v, v.t())), gradient, 1e-13));
  EXPECT_EQ(adapter->chain()->width(), 6);
  ASSERT_EQ(adapter->param_groups().size(), 2u);
  EXPECT_EQ(adapter->param_groups()[0].lr_scale, 0.5);
  asked = 0;
  build("deep-lora", "", site);
  EXPECT_EQ(asked, 0) << "the narrow form asked for a gradient it does not need";
}

TEST(ChainAdapterTest, FrozenOuterFactorsAreSavedButNotTrained) {
  auto site = linear_site(20, 20);
  const auto adapter = build("deep-lora", "{compress: true, rank: 2, outer_lr_ratio: 0}", site);
  EXPECT_EQ(adapter->tensors().size(), 5u);
  ASSERT_EQ(adapter->param_groups().size(), 1u);
  EXPECT_EQ(adapter->param_groups()[0].params.size(), 3u);
  EXPECT_FALSE(parameter(*adapter, "U").requires_grad());
}

TEST(ChainAdapterTest, RanksAboveTheWeightAreErrorsThatNamePathShapeAndRemedy) {
  for (const char* method : {"lora", "rslora", "deep-lora"}) {
    EXPECT_NO_THROW(build(method, "rank: 10", linear_site(10, 30)));
    const auto message = error_of([&] { build(method, "rank: 11", linear_site(10, 30)); });
    EXPECT_EQ(message,
              "run.yaml:1: rank: rank 11 is more than the smaller side of encoder.query.weight [10, 30]; use "
              "a rank of at most 10 "
              "or leave this weight out of adapter.targets");
  }
  EXPECT_NO_THROW(build("deep-lora", "{compress: true, rank: 5}", linear_site(10, 30)));
  EXPECT_EQ(error_of([] { build("deep-lora", "{compress: true, rank: 6}", linear_site(30, 10)); }),
            "run.yaml:1: rank: rank 6 (inner width 12) is more than the smaller side of encoder.query.weight "
            "[30, 10]; use a rank "
            "of at most 5 or leave this weight out of adapter.targets");
  EXPECT_NE(error_of([] { build("deep-lora", "compress: true", linear_site(1, 10)); }).find("; leave this weight out"),
            std::string::npos);
}

TEST(ChainAdapterTest, AWeightWithoutRoomForTheRankGetsWhatItHasRoomForOnceAnotherTookItWhole) {
  const std::vector<std::pair<std::string, std::string>> methods{{"lora", "{rank: 8, alpha: 24}"},
                                                                 {"lora", "{rank: 8, init: gaussian, alpha: 24}"},
                                                                 {"rslora", "rank: 8"},
                                                                 {"lora-plus", "rank: 8"},
                                                                 {"lora-one", "rank: 8"},
                                                                 {"lora-ga", "rank: 8"},
                                                                 {"eva", "{rank: 8, alpha: 24}"},
                                                                 {"dora", "rank: 8"},
                                                                 {"pissa", "rank: 8"},
                                                                 {"polar", "{rank: 8, alpha: 24}"},
                                                                 {"deep-lora", "{rank: 8, alpha: 24}"},
                                                                 {"deep-lora", "{rank: 8, compress: true}"}};
  AdapterMethods registered("adapter method");
  register_adapter_methods(registered);
  const auto site = [](int64_t out, int64_t in) {
    AdapterContext context = linear_site(out, in);
    context.weight = torch::randn({out, in}, context.generator, torch::kFloat64);
    return context;
  };
  for (const auto& [method, options] : methods) {
    const AdapterFactory factory = registered.at(method).configure(Config::parse(options, "run.yaml"));
    EXPECT_NE(error_of([&] { factory(site(3, 30)); }).find("rank 8"), std::string::npos)
        << method << ": no site had room for it";
    const bool offset = method == "pissa" || method == "lora-ga",
               doubled = offset || options.find("compress") != std::string::npos;
    for (const auto& [out, in, rank] : std::vector<std::array<int64_t, 3>>{{20, 40, 8}, {4, 30, 4}, {30, 2, 2}}) {
      const LowRankPair pair = factory(site(out, in))->peft_update()->pair;
      const bool inside = !offset && doubled;  // of which the rank is half the inner width
      EXPECT_EQ(pair.a.size(0), inside && rank == 8 ? 16
                                : inside            ? rank
                                : doubled           ? 2 * rank
                                                    : rank)
          << method << " " << out << " " << in;
      EXPECT_TRUE(options.find("alpha: 24") == std::string::npos ||
                  std::abs(pair.scale - 24.0 / static_cast<double>(rank)) < 1e-12)
          << method;
    }
  }
}

TEST(ChainAdapterTest, ConfigurationMistakesAreCollectedWithPlaceAndExpectation) {
  const auto site = linear_site(20, 20);
  const auto expect = [&](const std::string& method, const std::string& options,
                          const std::vector<std::string>& parts) {
    const auto message = error_of([&] { build(method, options, site); });
    for (const auto& part : parts) EXPECT_NE(message.find(part), std::string::npos) << options << ": " << message;
  };
  expect("lora", "{rank: 0, dropout: 1, alpha: 0, init: uniform}",
         {"rank: expected a rank of at least 1, found 0", "dropout: expected a probability in [0, 1), found 1",
          "alpha: expected a number other than zero", "init: expected one of kaiming, gaussian, found 'uniform'"});
  expect("lora", "{init: gaussian, alpha: 0}", {"alpha: expected a number other than zero"});
  expect("lora", "zero_side: input", {"zero_side: is used with init: gaussian only"});
  expect("rslora", "{rank: -1}", {"rank: expected a rank of at least 1"});
  expect("rslora", "{init: gaussian}", {"init: unknown key"});
  expect("deep-lora", "{depth: 1, init_scale: 0, rank: 0}",
         {"depth: expected a depth of at least 2, found 1", "init_scale: expected a number above 0", "rank: expected"});
  expect("lora-plus", "lr_ratio: 0", {"lr_ratio: expected a number above 0, found 0"});
  expect("lora-one", "gamma: 0", {"gamma: expected a number above 0, found 0"});
  expect("lora-ga", "stable_gamma: -1", {"stable_gamma: expected a number above 0, found -1"});
  expect("pissa", "alpha: -1", {"alpha: expected a number above 0, found -1"});
  expect("deep-lora", "outer_lr_ratio: 0.1", {"outer_lr_ratio: is used with compress: true only"});
  expect("deep-lora", "{compress: true, outer_lr_ratio: -1}",
         {"outer_lr_ratio: expected a number of at least 0, found -1"});
}

TEST(ChainAdapterTest, ResolvedOptionsReadBackAsTheSameConfiguration) {
  AdapterMethods methods("adapter method");
  register_adapter_methods(methods);
  for (const auto& [method, options] : std::vector<std::pair<std::string, std::string>>{{"lora", ""},
                                                                                        {"lora", "init: gaussian"},
                                                                                        {"rslora", "rank: 2"},
                                                                                        {"deep-lora", ""},
                                                                                        {"deep-lora", "compress: true"},
                                                                                        {"lora-plus", "lr_ratio: 4"},
                                                                                        {"dora", ""},
                                                                                        {"pissa", ""},
                                                                                        {"lora-one", "gamma: 64"},
                                                                                        {"lora-ga", "stable_gamma: 64"},
                                                                                        {"eva", "alpha: 8"},
                                                                                        {"polar", "alpha: 2"}}) {
    const auto resolve = [&, name = method](const std::string& yaml) {
      const auto config = Config::parse(yaml);
      methods.at(name).configure(config);
      config.finish();
      return config.dump();
    };
    const auto once = resolve(options);
    EXPECT_EQ(resolve(once), once) << method << options;
  }
}

}  // namespace
}  // namespace deeplora
