// Principal directions of layers' inputs. Oracle: all inputs side by side, centred, by torch.linalg.svd in float64.
#include "lm/leading_inputs.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/random.h"
#include "factorization/diagnostics.h"
#include "models/projection.h"
#include "support/tensors.h"
#include "support/tiny_archive.h"

namespace deeplora {
namespace {

using testing::close;
using testing::error_of;

/// Two layers over given inputs; the second reads tanh of the first, twice.
struct TwoLayers {
  Projection first, second;
  std::vector<torch::Tensor> batches;

  TwoLayers()
      : first("first.weight", draw({20, 30}, "first"), torch::Tensor()),
        second("second.weight", draw({8, 20}, "second"), torch::Tensor()) {
    for (const int64_t rows : {3, 17, 1, 40})  // means differ from batch to batch
      batches.push_back(draw({2, rows, 30}, cat("x", rows)) * torch::logspace(0, -2, 30, 10, torch::kFloat64) +
                        static_cast<double>(rows));
  }
  static torch::Tensor draw(std::vector<int64_t> shape, const std::string& name) {
    return torch::randn(shape, make_generator(5, name), torch::kFloat64);
  }
  std::vector<AdapterSite> sites() {
    return {first->site("other", SiteKind::linear), second->site("other", SiteKind::linear)};
  }
  /// All rows that a layer reads.
  std::vector<torch::Tensor> inputs() {
    std::vector<torch::Tensor> read_first, read_second;
    for (const auto& x : batches) {
      const torch::Tensor h = torch::tanh(first->forward(x));
      read_first.push_back(x.reshape({-1, 30}));
      for (const auto& each : {h, -h}) read_second.push_back(each.reshape({-1, 20}));
    }
    return {torch::cat(read_first), torch::cat(read_second)};
  }
  void run() {
    for (const auto& x : batches) {
      const torch::Tensor h = torch::tanh(first->forward(x));
      second->forward(h);
      second->forward(-h);
    }
  }
};

TEST(LeadingInputsTest, ArePrincipalDirectionsOfEverythingALayerReads) {
  TwoLayers model;
  constexpr int64_t k = 4;
  const auto found = leading_inputs(model.sites(), k, [&] { model.run(); }, 1);
  const auto inputs = model.inputs();
  const std::vector<std::string> paths{"first.weight", "second.weight"};
  for (size_t i = 0; i < paths.size(); ++i) {
    const auto [u, s, vt] = torch::linalg_svd(inputs[i] - inputs[i].mean(0), false);
    const SingularPairs& pairs = found.at(paths[i]);
    ASSERT_EQ(pairs.v.sizes(), vt.narrow(0, 0, k).t().sizes());
    const auto squares = s.square().narrow(0, 0, k);
    EXPECT_TRUE(close(pairs.s / squares[0], squares / squares[0], 1e-3)) << paths[i];
    EXPECT_LT(subspace_distance(pairs.v, vt.narrow(0, 0, k).t()), 2e-2) << paths[i];
  }
}

TEST(LeadingInputsTest, RefusesWhatIsNeverReadOrNotFinite) {
  TwoLayers model;
  EXPECT_NE(error_of([&] { leading_inputs(model.sites(), 2, [] {}, 1); }).find("never reads"), std::string::npos);
  model.batches[1][0][0][0] = std::numeric_limits<double>::infinity();
  const std::string said = error_of([&] { leading_inputs(model.sites(), 2, [&] { model.run(); }, 1); });
  EXPECT_NE(said.find("first.weight have infinities"), std::string::npos) << said;
}

}  // namespace
}  // namespace deeplora
