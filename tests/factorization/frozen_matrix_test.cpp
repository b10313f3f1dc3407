// Oracle: the same products of the widened matrix in float64.
#include "factorization/frozen_matrix.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <limits>

#include "core/random.h"
#include "factorization/chain_linear.h"
#include "factorization/stored_lines.h"
#include "lm/autocast.h"

namespace deeplora {
namespace {

double error(const torch::Tensor& found, const torch::Tensor& expected) {
  const torch::Tensor wide = expected.to(torch::kFloat64);
  return (found.to(torch::kFloat64) - wide).norm().item<double>() / std::max(1e-30, wide.norm().item<double>());
}

struct Sizes {
  int64_t rows, in;
  std::vector<int64_t> outs;
};

class FrozenMatrixTest : public ::testing::TestWithParam<at::ScalarType> {};

TEST_P(FrozenMatrixTest, BothProductsOfNarrowPartsAreThoseOfTheWideWhole) {
  auto generator = make_generator(1, "frozen");
  for (const auto& [rows, in, outs] : std::vector<Sizes>{{1, 64, {32}},
                                                         {5, 66, {70, 2, 33}},
                                                         {130, 802, {64, 64}},
                                                         {77, 7, {3}},
                                                         {64, 1536, {100}},
                                                         {2, 130, {1, 1}}})
    for (const bool turned : {false, true})
      for (const bool half : {false, true}) {
        std::vector<torch::Tensor> parts;
        for (const int64_t out : outs) {
          const auto sizes = turned ? std::vector<int64_t>{in, out} : std::vector<int64_t>{out, in};
          const torch::Tensor part = torch::randn(sizes, generator).to(GetParam());
          parts.push_back(turned ? part.t() : part);
        }
        const FrozenMatrix matrix(parts);
        const torch::Tensor whole = torch::cat(parts).to(torch::kFloat64);
        const ProductTypes types{half ? torch::kBFloat16 : torch::kFloat32, torch::kFloat32};
        const torch::Tensor operand = half ? whole.to(torch::kBFloat16).to(torch::kFloat64) : whole;
        const torch::Tensor x = torch::randn({rows, in}, generator).to(types.operand),
                            g = torch::randn({rows, whole.size(0)}, generator).to(types.operand),
                            bias = torch::randn({whole.size(0)}, generator);
        const auto wide = [](const torch::Tensor& value) { return value.to(torch::kFloat64); };
        const double bound = half ? 4e-3 : 1e-6;  // without kernels of its own, a product of halves rounds its result
        EXPECT_LT(error(matrix.product(types, x), wide(x).matmul(operand.t())), bound) << rows << " " << turned;
        EXPECT_LT(error(matrix.product(types, x, bias), wide(x).matmul(operand.t()) + bias), bound) << rows;
        EXPECT_LT(error(matrix.product_back(types, g), wide(g).matmul(operand)), bound) << rows << " " << turned;
        const FrozenMatrix kept = FrozenMatrix::of_way_back(matrix.for_way_back());
        EXPECT_TRUE(torch::equal(kept.product_back(types, g), matrix.product_back(types, g)));
      }
}

TEST_P(FrozenMatrixTest, ALayerTrainsAsWithTheWideWeight) {
  auto generator = make_generator(2, "layer");
  const torch::Tensor weight = torch::randn({48, 72}, generator).to(GetParam()), bias = torch::randn({48}, generator),
                      x = torch::randn({3, 21, 72}, generator).set_requires_grad(true);
  const std::vector<torch::Tensor> factors{torch::randn({4, 72}, generator).set_requires_grad(true),
                                           torch::randn({48, 4}, generator).set_requires_grad(true)};
  for (const bool bfloat16 : {false, true}) {
    const Autocast autocast(torch::kCPU, bfloat16);
    const auto run = [&](const torch::Tensor& w) {
      const torch::Tensor y = linear_with_chain(x, w, bias, factors, 0.5);
      auto out = torch::autograd::grad({y.sin().sum()}, {x, factors[0], factors[1]});
      out.push_back(y.detach());
      return out;
    };
    const auto narrow = run(weight), wide = run(weight.to(torch::kFloat32));
    for (size_t i = 0; i < wide.size(); ++i) EXPECT_LT(error(narrow[i], wide[i]), bfloat16 ? 1e-2 : 1e-5) << i;
    const torch::Tensor y = frozen_linear(x, weight, bias);
    EXPECT_LT(error(y, at::linear(x, weight.to(torch::kFloat32), bias)), bfloat16 ? 1e-2 : 1e-6);
  }
}

INSTANTIATE_TEST_SUITE_P(Types, FrozenMatrixTest, ::testing::Values(torch::kBFloat16, torch::kHalf),
                         [](const auto& param) { return std::string(at::toString(param.param)); });

TEST(StoredLinesTest, EveryHalfPrecisionNumberIsWidenedAsLibTorchDoes) {
  const torch::Tensor all = torch::arange(65536, torch::kInt32).to(torch::kInt16).view({256, 256});
  for (const auto type : {torch::kHalf, torch::kBFloat16}) {
    const torch::Tensor numbers = all.view(type), expected = numbers.to(torch::kFloat32);
    const auto lines = StoredLines::of(numbers);
    ASSERT_TRUE(lines);
    torch::Tensor found = torch::empty({256, 256});
    for (int64_t i = 0; i < 256; ++i) lines->read(i, 0, 256, found[i].mutable_data_ptr<float>());
    EXPECT_TRUE(torch::equal(found.isnan(), expected.isnan()));
    EXPECT_TRUE(torch::equal(found.nan_to_num(), expected.nan_to_num()));
    EXPECT_TRUE(torch::equal(found.isinf(), expected.isinf()));
  }
}

}  // namespace
}  // namespace deeplora
