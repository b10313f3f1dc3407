// What holds for every model, method, rank, depth and choice of weights, on models drawn at random. The seed names the
// case:
//   deeplora_torch_tests --gtest_filter='Seeds/RandomModelTest.*/17'
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <random>

#include "core/random.h"
#include "graph/graph_model.h"
#include "lm/adapt.h"
#include "lm/parity.h"
#include "lm/targets.h"
#include "model_files/tensor_file.h"
#include "support/tensors.h"
#include "support/tiny_archive.h"

namespace deeplora {
namespace {

using testing::close;
using testing::factory_of;
using testing::TempFolder;

constexpr double kRounding = 1e-10;  // float64 throughout

/// Draws from one stream, so that a seed is a case.
class Dice {
 public:
  explicit Dice(uint64_t seed) : engine_(seed) {}
  int64_t between(int64_t low, int64_t high) {
    return low + static_cast<int64_t>(engine_() % static_cast<uint64_t>(high - low + 1));
  }
  bool coin() { return between(0, 1) == 1; }
  template <class T>
  const T& one_of(const std::vector<T>& from) {
    return from[static_cast<size_t>(between(0, static_cast<int64_t>(from.size()) - 1))];
  }

 private:
  std::mt19937_64 engine_;
};

/// A stack of projections over an embedding, as TorchScript source; what it says is in `text`.
struct RandomNetwork {
  std::string text;
  int64_t words = 0;

  /// The archive, written to `file`.
  TorchScriptArchive write(Dice& dice, const std::filesystem::path& file) {
    words = dice.between(5, 12);
    int64_t width = dice.between(3, 9);
    add("table", {words, width}, false);
    text =
        "def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:\n    x = "
        "torch.embedding(self.table.weight, input_ids)\n";
    const int64_t layers = dice.between(1, 4), first = width;
    for (int64_t i = 0; i < layers; ++i) width = layer(dice, cat("layer", i), width);
    text += width == first && dice.coin() ? "    return torch.linear(x, self.table.weight)\n" : "    return x\n";
    module_.define(text);
    module_.eval();
    TorchScriptArchive::save(module_, {}, file);
    return TorchScriptArchive::load(file);
  }

 private:
  void add(const std::string& name, std::vector<int64_t> shape, bool with_bias, int64_t out = 0) {
    torch::jit::Module part("__torch__." + name);
    part.register_parameter("weight", 0.5 * torch::randn(shape, torch::kFloat64), false);
    if (with_bias) part.register_parameter("bias", torch::randn({out}, torch::kFloat64), false);
    module_.register_module(name, part);
  }

  /// One projection in a random spelling; returns its output's width.
  int64_t layer(Dice& dice, const std::string& name, int64_t in) {
    const int64_t out = dice.coin() ? in : dice.between(3, 9), spelling = dice.between(0, 4);
    const std::string w = "self." + name + ".weight", b = "self." + name + ".bias";
    const bool turned = spelling == 2 || spelling == 3;  // kept as [in, out]
    add(name, turned ? std::vector{in, out} : std::vector{out, in}, spelling == 1 || spelling == 2, out);
    const std::vector<std::string> spellings{
        "torch.linear(x, " + w + ")", "torch.linear(x, " + w + ", " + b + ")",
        cat("torch.addmm(", b, ", x.view(-1, ", in, "), ", w, ").view(x.size(0), x.size(1), ", out, ")"),
        "torch.matmul(x, " + w + ")", "torch.matmul(x, " + w + ".t())"};
    const std::string call = dice.one_of<std::string>({"torch.tanh(", "torch.sigmoid(", "torch.relu(", "("}) +
                             spellings[static_cast<size_t>(spelling)] + ")";
    const int64_t times = out == in ? dice.between(1, 2) : 1;  // the same weight may act twice
    for (int64_t i = 0; i < times; ++i)
      text += "    x = " + std::string(out == in && dice.coin() ? "x + " : "") + call + "\n";
    return out;
  }

  torch::jit::Module module_{"__torch__.Random"};
};

/// A registered method with random values for those of its options that change its shape.
std::pair<std::string, std::string> random_method(Dice& dice, int64_t smallest_side) {
  AdapterMethods methods("adapter method");
  register_adapter_methods(methods);
  std::vector<std::string> names;
  for (const auto& name : methods.names())
    if (methods.at(name).trains == AdapterMethod::Trains::adapters) names.push_back(name);
  const std::string name = dice.one_of(names);
  const Config config = Config::parse("");
  methods.at(name).configure(config);
  const bool compress = dice.coin();
  std::string options;
  for (const auto& option : config.options()) {
    // A compressed chain is twice as wide as its rank.
    if (option.path == "rank")
      options +=
          cat("rank: ", dice.between(1, compress ? std::max<int64_t>(1, smallest_side / 2) : smallest_side), "\n");
    if (option.path == "depth") options += cat("depth: ", dice.between(2, 5), "\n");
    if (option.path == "alpha") options += cat("alpha: ", dice.between(1, 6), "\n");
    if (option.path == "compress") options += cat("compress: ", compress ? "true" : "false", "\n");
  }
  return {name, options};
}

std::vector<std::string> random_targets(Dice& dice, const std::vector<AdapterSite>& sites) {
  const std::string path = dice.one_of(sites).path;
  switch (dice.between(0, 3)) {
    case 0: return {"*"};
    case 1: return {path, dice.one_of(sites).path};
    case 2: return {"re:" + path.substr(0, path.size() - std::string(".weight").size()) + "[.].*"};
    default: return {"layer*"};
  }
}

class RandomModelTest : public ::testing::TestWithParam<int> {
 protected:
  void SetUp() override {
    torch::manual_seed(static_cast<uint64_t>(GetParam()));
    archive_ = network_.write(dice_, folder_ / "m.pt");
    model_ = std::make_shared<GraphModel>(*archive_, ArchiveInterface{}, ModelOptions{});
    sites_ = choose_sites(model_->sites(), random_targets(dice_, model_->sites()));
    int64_t smallest = 100;
    for (const auto& site : sites_) smallest = std::min({smallest, site.weight.size(0), site.weight.size(1)});
    std::tie(method_, options_) = random_method(dice_, smallest);
    adapted_ = adapt(model_, sites_, 1);
    batch_.input_ids =
        torch::randint(network_.words, {2, dice_.between(1, 5)}, make_generator(2, "ids"), torch::kInt64);
    batch_.attention_mask = torch::ones_like(batch_.input_ids);
    for (const auto& [name, value] : archive_->tensors()) before_[name] = value.detach().clone();
    train();
  }

  std::string describe() const {
    std::string out = cat("seed ", GetParam(), ", method ", method_, "\n", options_, network_.text);
    for (const auto& site : sites_) out += "adapts " + site.path + "\n";
    return out;
  }

  std::unique_ptr<AdaptedModel> adapt(const std::shared_ptr<GraphModel>& model, const std::vector<AdapterSite>& sites,
                                      uint64_t seed) {
    auto out = std::make_unique<AdaptedModel>(model, nullptr);
    const LeadingPairs pairs = [](const AdapterSite& site, int64_t k) {
      return leading_singular_pairs(torch::randn(site.weight.sizes(), make_generator(3, site.path), torch::kFloat64), k,
                                    make_generator(4, "pairs"));
    };
    out->add_adapters(sites, factory_of(method_, options_), seed, torch::kCPU, pairs);
    return out;
  }

  /// Steps down a loss, then a push, so that every factor takes part whatever its start.
  void train() {
    model_->train();
    for (int step = 0; step < 2; ++step) {
      output_of(model_->forward(batch_)).square().mean().backward();
      const torch::NoGradGuard no_grad;
      for (auto& group : adapted_->param_groups(1.0))
        for (auto& [name, value] : group.params) {
          if (value.grad().defined()) value.sub_(value.grad(), 0.01);
          value.add_(torch::randn_like(value), 0.2);
          value.mutable_grad().reset();
        }
    }
    model_->eval();
  }

  torch::Tensor run(GraphModel& model) const {
    const torch::NoGradGuard no_grad;
    return output_of(model.forward(batch_));
  }

  Dice dice_{static_cast<uint64_t>(GetParam())};
  TempFolder folder_;
  RandomNetwork network_;
  std::optional<TorchScriptArchive> archive_;
  std::shared_ptr<GraphModel> model_;
  std::vector<AdapterSite> sites_;
  std::string method_, options_;
  std::unique_ptr<AdaptedModel> adapted_;
  Batch batch_;
  std::map<std::string, torch::Tensor> before_;
};

TEST_P(RandomModelTest, KeepsItsPromises) {
  SCOPED_TRACE(describe());
  for (const auto& [name, value] : archive_->tensors()) {
    EXPECT_TRUE(torch::equal(value, before_.at(name))) << "training changed the frozen " << name;
    EXPECT_FALSE(value.grad().defined()) << name;
  }
  const torch::NoGradGuard no_grad;
  for (const auto& [site, adapter] : adapted_->adapters()) {
    const torch::Tensor delta = adapter->delta();
    EXPECT_GT(delta.norm().item<double>(), 1e-4) << site.path << ": training changed nothing";
    if (site.kind == SiteKind::linear)
      EXPECT_TRUE(close(adapter->forward(torch::eye(site.weight.size(1), torch::kFloat64)).t(), delta, kRounding))
          << site.path;
    EXPECT_TRUE(close(adapter->rows(torch::arange(site.weight.size(0))), delta, kRounding)) << site.path;
    if (const auto pair = adapter->low_rank_pair())
      EXPECT_TRUE(close(pair->scale * torch::matmul(pair->b, pair->a), delta, kRounding))
          << site.path << ": collapsed chain";
  }
  const torch::Tensor live = run(*model_);
  {
    auto merged = TorchScriptArchive::load(folder_ / "m.pt");
    for (const auto& [name, value] : adapted_->merged_weights()) merged.set_tensor(name, value);
    EXPECT_TRUE(close(ArchiveForward(merged, {})(batch_), live, kRounding)) << "merged model";
  }
  save_tensors(folder_ / "a.safetensors", adapted_->state(), {});
  const auto other_archive = TorchScriptArchive::load(folder_ / "m.pt");
  const auto other = std::make_shared<GraphModel>(other_archive, ArchiveInterface{}, ModelOptions{});
  std::vector<AdapterSite> same;
  for (const auto& site : other->sites())
    if (std::any_of(sites_.begin(), sites_.end(), [&](const auto& s) { return s.path == site.path; }))
      same.push_back(site);
  const auto restored = adapt(other, same, 99);
  restored->load_state(load_tensors(folder_ / "a.safetensors").tensors, "a.safetensors");
  other->eval();
  EXPECT_TRUE(torch::equal(run(*other), live)) << "saved and loaded";
}

INSTANTIATE_TEST_SUITE_P(Seeds, RandomModelTest, ::testing::Range(1, 61));

}  // namespace
}  // namespace deeplora
