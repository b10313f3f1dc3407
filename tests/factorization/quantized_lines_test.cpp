// Oracles: bitsandbytes' codes, scales and values, to the bit; products of the values in float64.
#include "factorization/quantized_lines.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cstring>
#include <nlohmann/json.hpp>

#include "core/parallel.h"
#include "core/random.h"
#include "factorization/chain_linear.h"
#include "lm/autocast.h"
#include "support/tensors.h"

namespace deeplora {
namespace {

torch::Tensor of_bytes(const std::string& hex, std::vector<int64_t> shape, torch::ScalarType type) {
  torch::Tensor out = torch::empty(shape, type);
  EXPECT_EQ(hex.size(), 2 * out.nbytes());
  auto* to = static_cast<uint8_t*>(out.mutable_data_ptr());
  for (size_t i = 0; 2 * i + 1 < hex.size() && i < out.nbytes(); ++i)
    to[i] = static_cast<uint8_t>(std::stoi(hex.substr(2 * i, 2), nullptr, 16));
  return out;
}

bool same_bits(const torch::Tensor& a, const torch::Tensor& b) {
  return a.sizes() == b.sizes() && a.scalar_type() == b.scalar_type() &&
         std::memcmp(a.contiguous().const_data_ptr(), b.contiguous().const_data_ptr(), a.nbytes()) == 0;
}

/// The numbers that the lines stand for.
torch::Tensor values_of(const StoredLines& lines) {
  torch::Tensor out = torch::empty({lines.lines(), lines.length()});
  for (int64_t i = 0; i < lines.lines(); ++i)
    lines.read(i, 0, lines.length(), out.mutable_data_ptr<float>() + i * lines.length());
  return out;
}

struct Case {
  torch::Tensor weight;
  nlohmann::json nf4, int8;
};

std::vector<Case> cases() {
  std::vector<Case> out;
  const auto file = testing::golden("quantization.json");
  for (const auto& c : file.at("cases")) {
    const std::string dtype = c.at("dtype");
    const auto type = dtype == "float32" ? torch::kFloat32 : dtype == "bfloat16" ? torch::kBFloat16 : torch::kFloat16;
    out.push_back({of_bytes(c.at("weight"), c.at("shape"), type), c.at("nf4"), c.at("int8")});
  }
  EXPECT_GT(out.size(), 20U);
  return out;
}

TEST(QuantizedLines, Nf4IsBitsandbytesToTheBit) {
  for (const auto& [weight, expected, unused] : cases())
    for (const bool turned : {false, true}) {  // GPT-2 keeps its weights as W^T
      const torch::Tensor given = turned ? weight.t().contiguous().t() : weight;
      const Nf4Blocks found = nf4_blocks(given);
      const auto bytes = [&](const char* name, const torch::Tensor& like) {
        return of_bytes(expected.at(name), like.sizes().vec(), like.scalar_type());
      };
      EXPECT_TRUE(same_bits(found.codes, bytes("codes", found.codes))) << weight.sizes() << weight.scalar_type();
      EXPECT_TRUE(same_bits(found.nested, bytes("nested", found.nested))) << weight.sizes() << weight.scalar_type();
      EXPECT_TRUE(same_bits(found.nested_largest, bytes("nested_largest", found.nested_largest))) << weight.sizes();
      EXPECT_TRUE(same_bits(torch::tensor({found.mean}), bytes("mean", torch::empty({1})))) << weight.sizes();
      const torch::Tensor values = values_of(*quantized_lines(given, Quantization::nf4));
      EXPECT_TRUE(torch::equal(values, bytes("values", values))) << weight.sizes() << weight.scalar_type();
    }
}

TEST(QuantizedLines, Int8IsBitsandbytesToTheBit) {
  for (const auto& [weight, unused, expected] : cases()) {
    const Int8Rows found = int8_rows(weight);
    const torch::Tensor codes = of_bytes(expected.at("codes"), weight.sizes().vec(), torch::kInt8);
    EXPECT_TRUE(same_bits(found.codes, codes)) << weight.sizes() << weight.scalar_type();
    EXPECT_TRUE(same_bits(found.largest, of_bytes(expected.at("largest"), {weight.size(0)}, torch::kFloat32)));
    const torch::Tensor values = values_of(*quantized_lines(weight, Quantization::int8));
    EXPECT_TRUE(torch::equal(values, of_bytes(expected.at("values"), weight.sizes().vec(), torch::kFloat32)))
        << weight.sizes() << weight.scalar_type();
  }
}

TEST(QuantizedLines, PiecesOfALineAreThoseOfTheWholeLine) {
  auto generator = make_generator(1, "pieces");
  for (const auto kind : {Quantization::int8, Quantization::nf4})
    for (const auto& [m, n] : {std::pair<int64_t, int64_t>{5, 200}, {7, 65}, {3, 33}}) {
      const auto lines = quantized_lines(torch::randn({m, n}, generator), kind);
      const torch::Tensor all = values_of(*lines);
      for (int64_t line = 0; line < m; ++line)
        for (int64_t first = 0; first < n; first += 3)
          for (const int64_t count : {int64_t{1}, int64_t{2}, int64_t{31}, n}) {
            if (first + count > n) continue;
            torch::Tensor piece = torch::empty({count});
            lines->read(line, first, count, piece.mutable_data_ptr<float>());
            ASSERT_TRUE(torch::equal(piece, all[line].narrow(0, first, count))) << m << " " << first << " " << count;
          }
    }
}

TEST(QuantizedLines, ThreadsChangeNoBit) {
  const torch::Tensor weight = torch::randn({1500, 1030}, make_generator(3, "threads")) * 0.02;
  const int64_t before = parallel_threads();
  std::vector<Nf4Blocks> found;
  for (const int64_t threads : {1, 2, 3}) {
    use_threads(threads);
    found.push_back(nf4_blocks(weight));
  }
  use_threads(before);
  for (size_t i = 1; i < found.size(); ++i) {
    EXPECT_TRUE(torch::equal(found[i].codes, found[0].codes));
    EXPECT_TRUE(torch::equal(found[i].nested, found[0].nested));
    EXPECT_EQ(found[i].mean, found[0].mean);
  }
}

TEST(QuantizedLines, TinyRowsBecomeZerosAndNothingIsNotFinite) {
  const torch::Tensor weight = torch::stack({torch::full({64}, 1e-40F), torch::full({64}, 1e36F), torch::zeros({64})});
  for (const auto kind : {Quantization::int8, Quantization::nf4}) {
    const torch::Tensor values = values_of(*quantized_lines(weight, kind));
    EXPECT_TRUE(values.isfinite().all().item<bool>());
    if (kind == Quantization::int8) EXPECT_EQ(values[0].abs().max().item<float>(), 0.0F);
  }
}

double error_of(const torch::Tensor& found, const torch::Tensor& expected) {
  return (found.to(torch::kFloat64) - expected).norm().item<double>() / std::max(1e-30, expected.norm().item<double>());
}

/// One row and a few go another way than many.
TEST(QuantizedLines, BothProductsAreThoseOfTheValues) {
  auto generator = make_generator(4, "products");
  for (const auto kind : {Quantization::int8, Quantization::nf4})
    for (const auto& [in, outs] : std::vector<std::pair<int64_t, std::vector<int64_t>>>{
             {64, {32}}, {66, {70, 2, 33}}, {802, {64, 64}}, {7, {3}}, {1536, {100}}, {130, {1, 1}}, {1, {5}}}) {
      FrozenMatrix::Lines parts;
      std::vector<torch::Tensor> values;
      for (const int64_t out : outs) {
        parts.push_back(quantized_lines(torch::randn({out, in}, generator), kind));
        values.push_back(values_of(*parts.back()));
      }
      const FrozenMatrix matrix(parts);
      const torch::Tensor whole = torch::cat(values);
      ASSERT_EQ(matrix.rows(), whole.size(0));
      for (const int64_t rows : {1, 2, 3, 5, 16, 17, 64, 131})
        for (const bool half : {false, true}) {
          const ProductTypes types{half ? torch::kBFloat16 : torch::kFloat32, torch::kFloat32};
          const torch::Tensor operand = (half ? whole.to(torch::kBFloat16) : whole).to(torch::kFloat64);
          const torch::Tensor x = torch::randn({rows, in}, generator).to(types.operand),
                              g = torch::randn({rows, whole.size(0)}, generator).to(types.operand),
                              bias = torch::randn({whole.size(0)}, generator);
          const auto wide = [](const torch::Tensor& value) { return value.to(torch::kFloat64); };
          const double bound = half ? 4e-3 : 2e-6;
          EXPECT_LT(error_of(matrix.product(types, x), wide(x).matmul(operand.t())), bound) << rows << " " << in;
          EXPECT_LT(error_of(matrix.product(types, x, bias), wide(x).matmul(operand.t()) + bias), bound) << rows;
          EXPECT_LT(error_of(matrix.product_back(types, g), wide(g).matmul(operand)), bound) << rows << " " << in;
          const FrozenMatrix kept = FrozenMatrix::of_way_back(matrix.for_way_back(), matrix.quantized);
          EXPECT_TRUE(torch::equal(kept.product_back(types, g), matrix.product_back(types, g)));
        }
    }
}

TEST(QuantizedLines, ALayerTrainsAsOnTheValues) {
  auto generator = make_generator(2, "layer");
  const torch::Tensor weight = torch::randn({48, 72}, generator), bias = torch::randn({48}, generator);
  for (const auto kind : {Quantization::int8, Quantization::nf4})
    for (const int64_t rows : {2, 63}) {
      const auto lines = quantized_lines(weight, kind);
      const torch::Tensor x = torch::randn({rows, 72}, generator).set_requires_grad(true);
      const std::vector<torch::Tensor> factors{torch::randn({4, 72}, generator).set_requires_grad(true),
                                               torch::randn({48, 4}, generator).set_requires_grad(true)};
      for (const bool bfloat16 : {false, true}) {
        const Autocast autocast(torch::kCPU, bfloat16);
        const auto run = [&](const FrozenMatrix& w) {
          const torch::Tensor y = linear_with_chain(x, w, bias, factors, 0.5);
          auto out = torch::autograd::grad({y.sin().sum()}, {x, factors[0], factors[1]});
          out.push_back(y.detach());
          return out;
        };
        const auto found = run(FrozenMatrix(FrozenMatrix::Lines{lines})), expected = run(values_of(*lines));
        for (size_t i = 0; i < expected.size(); ++i)
          EXPECT_LT(error_of(found[i], expected[i].to(torch::kFloat64)), bfloat16 ? 1e-2 : 1e-5) << i;
      }
    }
}

/// A row's result does not depend on what stands beside it, nor on threads.
TEST(FewRows, EveryRowIsWhatItIsAlone) {
  auto generator = make_generator(6, "alone");
  const torch::Tensor weight = torch::randn({211, 1100}, generator), x = torch::randn({16, 1100}, generator);
  const int64_t before = parallel_threads();
  for (const auto& matrix :
       {FrozenMatrix(weight), FrozenMatrix(weight.to(torch::kBFloat16)), FrozenMatrix(weight.to(torch::kHalf)),
        FrozenMatrix(FrozenMatrix::Lines{quantized_lines(weight, Quantization::nf4)})})
    for (const auto type : {torch::kFloat32, torch::kBFloat16}) {
      const ProductTypes types{type, torch::kFloat32};
      const torch::Tensor input = x.to(type), together = matrix.product(types, input);
      for (const int64_t threads : {1, 2, 3}) {
        use_threads(threads);
        for (int64_t row = 0; row < 16; ++row)
          EXPECT_TRUE(torch::equal(matrix.product(types, input.narrow(0, row, 1))[0], together[row])) << row;
      }
      use_threads(before);
    }
}

}  // namespace
}  // namespace deeplora
