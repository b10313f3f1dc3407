// Leading pairs of weight gradients on both backends. Oracle: the full gradient by autograd, decomposed by
// torch.linalg.svd in float64; and for the memory, an allocator that counts.
#include "lm/leading_gradients.h"

#include <c10/core/CPUAllocator.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "core/random.h"
#include "factorization/diagnostics.h"
#include "graph/graph_model.h"
#include "lm/adapt.h"
#include "models/projection.h"
#include "support/tensors.h"
#include "support/tiny_archive.h"
#include "train/optimizers.h"

namespace deeplora {
namespace {

using testing::close;
using testing::error_of;
using testing::factory_of;
using testing::TempFolder;

/// hidden = tanh(linear) layers over an embedding, in slots as native families have them.
class Stack : public LanguageModel {
 public:
  Stack(int64_t words, int64_t width, int64_t layers, torch::Dtype dtype) {
    auto generator = make_generator(7, "stack");
    const auto draw = [&](int64_t rows, int64_t cols) {
      return (torch::randn({rows, cols}, generator, torch::kFloat64) / std::sqrt(static_cast<double>(cols))).to(dtype);
    };
    table_ = register_module("table", EmbeddingTable("table.weight", draw(words, width) * 4));
    for (int64_t i = 0; i < layers; ++i)
      layers_.push_back(register_module(cat("layer", i),
                                        Projection(cat("layer", i, ".weight"), draw(width, width), torch::Tensor())));
  }
  ModelOutput forward(const Batch& batch) override {
    torch::Tensor x = table_->forward(batch.input_ids);
    for (auto& layer : layers_) x = torch::tanh(layer->forward(x));
    return {.hidden = x, .logits = {}};
  }
  std::vector<AdapterSite> sites() override {
    std::vector<AdapterSite> out{table_->site("embedding", SiteKind::embedding)};
    for (auto& layer : layers_) out.push_back(layer->site("other", SiteKind::linear));
    return out;
  }
  std::vector<NamedTensor> base_parameters() override { return {}; }
  std::string family() const override { return "stack"; }

 private:
  EmbeddingTable table_{nullptr};
  std::vector<Projection> layers_;
};

Batch batch_of(int64_t rows, int64_t tokens, int64_t words, uint64_t seed) {
  Batch batch;
  batch.input_ids = torch::randint(words, {rows, tokens}, make_generator(seed, "batch"), torch::kInt64);
  batch.attention_mask = torch::ones_like(batch.input_ids);
  return batch;
}

torch::Tensor loss_of(LanguageModel& model, const Batch& batch) {
  const ModelOutput output = model.forward(batch);
  const torch::Tensor out = output.hidden.defined() ? output.hidden : output.logits;
  const auto target = torch::randn(out.sizes(), make_generator(8, "target"), torch::kFloat64).to(out.scalar_type());
  return (out - target).square().mean();
}

StartingLosses losses_of(LanguageModel& model, const std::vector<Batch>& batches) {
  return [&model, &batches](const auto& take) {
    for (const auto& batch : batches) take(loss_of(model, batch));
  };
}

/// By path, over all batches.
std::map<std::string, torch::Tensor> full_gradients(LanguageModel& model, const std::vector<Batch>& batches) {
  std::map<std::string, torch::Tensor> out;
  for (const auto& site : model.sites()) {
    site.weight.set_requires_grad(true);
    for (const auto& batch : batches) {
      const auto gradient = torch::autograd::grad({loss_of(model, batch)}, {site.weight})[0];
      out[site.path] = out.count(site.path) ? out[site.path] + gradient : gradient;
    }
    site.weight.set_requires_grad(false);
  }
  return out;
}

void expect_leading_pairs(LanguageModel& model, const std::vector<Batch>& batches, int64_t k, double tolerance) {
  const auto exact = full_gradients(model, batches);
  const auto found = leading_gradients(model.sites(), k, losses_of(model, batches), 1);
  ASSERT_EQ(found.size(), exact.size());
  for (const auto& [path, gradient] : exact) {
    const auto [u, s, vt] = torch::linalg_svd(gradient, false);
    const auto& pairs = found.at(path);
    ASSERT_EQ(pairs.u.sizes(), u.narrow(1, 0, k).sizes()) << path;
    EXPECT_TRUE(close(pairs.s / s[0], s.narrow(0, 0, k) / s[0], tolerance)) << path;
    EXPECT_LT(subspace_distance(pairs.u, u.narrow(1, 0, k)), tolerance) << path;
    EXPECT_LT(subspace_distance(pairs.v, vt.narrow(0, 0, k).t()), tolerance) << path;
    // The pairs belong together: u_i and v_i with the same sign.
    EXPECT_TRUE(close(torch::matmul(pairs.u.t(), torch::matmul(gradient, pairs.v)).diagonal() / s[0], pairs.s / s[0],
                      tolerance))
        << path;
  }
}

TEST(LeadingGradientsTest, AreThoseOfTheFullGradientOnTheNativeBackend) {
  Stack model(90, 60, 3, torch::kFloat64);
  // Few enough tokens that rank-deficient gradients appear, and several batches of different lengths.
  expect_leading_pairs(model, {batch_of(2, 6, 90, 1)}, 3, 1e-6);
  expect_leading_pairs(model, {batch_of(2, 6, 90, 1), batch_of(3, 5, 90, 2), batch_of(1, 9, 90, 3)}, 3, 2e-3);
}

/// A tied table, used as embedding and twice as last layer, and a weight stored [in, out].
torch::jit::Module tied_module() {
  torch::manual_seed(11);
  torch::jit::Module table("__torch__.Table"), dense("__torch__.Dense"), out("__torch__.Tied");
  table.register_parameter("weight", torch::randn({50, 40}, torch::kFloat64), false);
  dense.register_parameter("weight", torch::randn({40, 40}, torch::kFloat64) / 6, false);
  out.register_module("table", table);
  out.register_module("dense", dense);
  out.define(R"(
def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    x = torch.embedding(self.table.weight, input_ids)
    x = torch.tanh(torch.matmul(x, self.dense.weight))
    return torch.linear(torch.tanh(x), self.table.weight) + torch.linear(torch.cos(x), self.table.weight)
)");
  out.eval();
  return out;
}

TEST(LeadingGradientsTest, AreThoseOfTheFullGradientInAGraphWithTiedAndTransposedWeights) {
  const TempFolder folder;
  TorchScriptArchive::save(tied_module(), {}, folder / "m.pt");
  const TorchScriptArchive archive = TorchScriptArchive::load(folder / "m.pt");
  GraphModel model(archive, ArchiveInterface{}, ModelOptions{});
  ASSERT_EQ(model.sites().size(), 2u);
  expect_leading_pairs(model, {batch_of(3, 6, 50, 1), batch_of(2, 7, 50, 2)}, 3, 2e-3);
}

TEST(LeadingGradientsTest, TheSlotsAreEmptyAfterwardsAlsoAfterAnError) {
  Stack model(90, 60, 2, torch::kFloat64);
  const auto batch = batch_of(2, 6, 90, 1);
  const auto before = loss_of(model, batch).item<double>();
  leading_gradients(model.sites(), 2, losses_of(model, {batch}), 1);
  EXPECT_EQ(loss_of(model, batch).item<double>(), before);
  EXPECT_FALSE(loss_of(model, batch).requires_grad()) << "a probe is still attached";
  const auto message = error_of([&] {
    leading_gradients(
        model.sites(), 2,
        [&](const auto& take) { take(loss_of(model, batch) * std::numeric_limits<double>::infinity()); }, 1);
  });
  EXPECT_NE(message.find("the loss at the start is not finite"), std::string::npos) << message;
  EXPECT_FALSE(loss_of(model, batch).requires_grad()) << "a probe is still attached";
}

TEST(LeadingGradientsTest, UnreachedWeightsAndGradientsThatAreNotFiniteAreNamed) {
  Stack model(90, 60, 2, torch::kFloat64), other(90, 60, 1, torch::kFloat64);
  const auto batch = batch_of(2, 6, 90, 1);
  auto sites = model.sites();
  auto stranger = other.sites().back();
  stranger.path = "stranger.weight";
  sites.push_back(stranger);
  EXPECT_NE(error_of([&] {
              leading_gradients(sites, 2, losses_of(model, {batch}), 1);
            }).find("stranger.weight: the loss does not depend on this weight"),
            std::string::npos);
  // sqrt at zero: a finite loss with an infinite gradient.
  const auto message = error_of([&] {
    leading_gradients(
        model.sites(), 2, [&](const auto& take) { take((model.forward(batch).hidden * 0).sqrt().sum()); }, 1);
  });
  EXPECT_NE(message.find("the gradient of table.weight at the start has infinities or NaN"), std::string::npos)
      << message;
}

/// Counts the bytes that tensors hold, on top of LibTorch's own allocator.
class CountingAllocator : public c10::Allocator {
 public:
  CountingAllocator() : base_(c10::GetCPUAllocator()) { c10::SetCPUAllocator(this); }  // blocks may outlive it
  ~CountingAllocator() override { c10::SetCPUAllocator(base_); }
  c10::DataPtr allocate(size_t bytes) override {
    c10::DataPtr inner = base_->allocate(bytes);
    void* data = inner.get();
    live_ += static_cast<int64_t>(bytes);
    peak_ = std::max(peak_, live_);
    return {data, new Block{std::move(inner), bytes}, &release, c10::Device(c10::DeviceType::CPU)};
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }
  /// Largest number of bytes above those held when it began.
  template <class Action>
  static int64_t peak_of(Action action) {
    const int64_t before = live_;
    peak_ = live_;
    action();
    return peak_ - before;
  }

 private:
  struct Block {
    c10::DataPtr data;
    size_t bytes;
  };
  static void release(void* context) {
    auto* block = static_cast<Block*>(context);
    live_ -= static_cast<int64_t>(block->bytes);
    delete block;
  }
  c10::Allocator* base_;
  static inline int64_t live_ = 0, peak_ = 0;
};

TEST(LeadingGradientsTest, TheInitialisationTakesNoMoreMemoryThanATrainingStep) {
  constexpr int64_t kWords = 3000, kWidth = 384, kLayers = 12, kRank = 8;
  constexpr int64_t kOneGradient = kWidth * kWidth * 4, kAllGradients = (kWords + kWidth * kLayers) * kWidth * 4;
  const CountingAllocator counting;
  Stack model(kWords, kWidth, kLayers, torch::kFloat32);
  model.eval();
  const std::vector<Batch> batches{batch_of(4, 16, kWords, 1), batch_of(4, 16, kWords, 2)};
  AdaptedModel adapted(std::shared_ptr<LanguageModel>(&model, [](LanguageModel*) {}), nullptr);
  const int64_t starting = CountingAllocator::peak_of([&] {
    std::map<std::string, SingularPairs> pairs;
    adapted.add_adapters(model.sites(), factory_of("deep-lora", cat("{compress: true, rank: ", kRank, "}")), 1,
                         torch::kCPU, [&](const AdapterSite& site, int64_t k) {
                           if (pairs.empty()) pairs = leading_gradients(model.sites(), k, losses_of(model, batches), 1);
                           return pairs.at(site.path);
                         });
  });
  GroupOptimizer optimizer({}, adapted.param_groups(1.0));
  optimizer.set_learning_rate(1e-3);
  const auto step = [&] {
    loss_of(model, batches[0]).backward();
    optimizer.step();
    optimizer.zero_grad();
  };
  int64_t factors = 0;
  for (const auto& [name, value] : adapted.state()) factors += static_cast<int64_t>(value.nbytes());
  // A step's memory: the factors, and in the step itself activations, gradients and the optimizer's moments.
  const int64_t training = factors + CountingAllocator::peak_of([&] {
                             step();
                             step();
                           });
  std::cout << "peak of the start " << starting / 1024 << " KiB, of training " << training / 1024
            << " KiB, all gradients " << kAllGradients / 1024 << " KiB\n";
  EXPECT_LE(starting, training);
  // The test could tell: holding all gradients, as a plain backward pass does, would be seen.
  EXPECT_GT(kAllGradients, training + kOneGradient);
  adapted.detach();
}

}  // namespace
}  // namespace deeplora
