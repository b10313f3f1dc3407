// The library's one header, used as an application uses it.
#include <deeplora/deeplora.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include "support/errors.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {

/// Two floats and a scale in, a dict out; `bias` and `table` are there to be left alone.
torch::jit::Module network(int64_t seed = 0) {
  torch::manual_seed(seed);
  torch::jit::Module out("network");
  out.register_parameter("first", torch::randn({16, 6}) * 0.4, false);
  out.register_parameter("second", torch::randn({3, 16}) * 0.4, false);
  out.register_parameter("bias", torch::randn({3}), false);
  out.define(
      "def forward(self, x, scale: float = 1.0):\n"
      "    h = torch.tanh(torch.linear(x, self.first) * scale)\n"
      "    return {'y': torch.linear(h, self.second, self.bias), 'h': h}\n");
  return out;
}

torch::Tensor of_module(torch::jit::Module module, const std::vector<torch::IValue>& arguments) {
  return module.forward(arguments).toGenericDict().at("y").toTensor();
}

torch::Tensor y_of(Model& model, const std::vector<torch::IValue>& arguments) {
  return model.forward(arguments).toGenericDict().at("y").toTensor();
}

void expect_error(const std::function<void()>& action, const std::string& part) {
  const std::string said = testing::error_of(action);
  EXPECT_NE(said.find(part), std::string::npos) << said;
  EXPECT_EQ(said.find("Exception raised"), std::string::npos) << said;
}

/// Equal but for the rounding of products that two code paths order in their own ways.
bool nearly_equal(const torch::Tensor& a, const torch::Tensor& b) { return torch::allclose(a, b, 1e-5, 1e-6); }

double train(Model& model, const torch::Tensor& x, const torch::Tensor& target, int steps) {
  Optimizer optimizer = model.optimizer(2e-2);
  double loss = 0;
  for (int step = 0; step < steps; ++step) {
    optimizer.zero_grad();
    const torch::Tensor error = torch::mse_loss(y_of(model, {x}), target);
    error.backward();
    optimizer.step();
    loss = error.item<double>();
  }
  return loss;
}

const Adaptation kBoth{.options = {{"rank", "2"}}, .targets = {"first", "second"}, .train_also = {}};

TEST(Library, AModuleInMemoryIsCopiedAndComputesTheSame) {
  const auto module = network();
  Model model = Model::of(module);
  EXPECT_EQ(model.inputs(), (std::vector<std::string>{"x", "scale"}));
  ASSERT_EQ(model.weights().size(), 2u);
  EXPECT_EQ(model.weights()[0].path, "first");
  EXPECT_EQ(model.weights()[0].shape, (std::vector<int64_t>{16, 6}));
  const torch::Tensor x = torch::randn({5, 6});
  EXPECT_TRUE(nearly_equal(y_of(model, {x}), of_module(module, {x})));
  EXPECT_TRUE(nearly_equal(y_of(model, {x, 0.5}), of_module(module, {x, 0.5})));
  EXPECT_TRUE(model.parameters().empty());
}

TEST(Library, EveryMethodTrainsAndMerges) {
  for (const auto& method : methods()) {
    if (method == "none" || method == "full" || method == "lora-one" || method == "lora-ga" || method == "eva")
      continue;
    SCOPED_TRACE(method);
    const auto module = network();
    Model model = Model::of(module);
    Adaptation how = kBoth;
    how.method = method;
    model.adapt(how);
    ASSERT_FALSE(model.parameters().empty());
    const torch::Tensor x = torch::randn({64, 6}), target = of_module(network(1), {x});
    const double before = torch::mse_loss(y_of(model, {x}), target).item<double>();
    EXPECT_LT(train(model, x, target, 150), 0.6 * before);
    const torch::NoGradGuard no_grad;
    EXPECT_TRUE(torch::allclose(of_module(model.merged(), {x}), y_of(model, {x}), 1e-4, 1e-5));
    model.use("");
    EXPECT_TRUE(nearly_equal(y_of(model, {x}), of_module(module, {x})));
  }
}

TEST(Library, TorchOptimTakesTheParameters) {
  Model model = Model::of(network());
  model.adapt(kBoth);
  torch::optim::SGD optimizer(model.parameters(), 0.01);
  const torch::Tensor x = torch::randn({32, 6}), target = of_module(network(1), {x});
  double first = 0, last = 0;
  for (int step = 0; step < 100; ++step) {
    optimizer.zero_grad();
    const torch::Tensor loss = torch::mse_loss(y_of(model, {x}), target);
    loss.backward();
    optimizer.step();
    (step == 0 ? first : last) = loss.item<double>();
  }
  EXPECT_LT(last, 0.8 * first);
}

TEST(Library, GradientsReachTheInputs) {
  Model model = Model::of(network());
  model.adapt(kBoth);
  const torch::Tensor x = torch::randn({2, 6}, torch::requires_grad());
  y_of(model, {x}).sum().backward();
  EXPECT_GT(x.grad().abs().sum().item<double>(), 0);
}

TEST(Library, SetsOfAdaptersAreKeptSwitchedAndReadBack) {
  const testing::TempFolder folder;
  Model model = Model::of(network());
  const torch::Tensor x = torch::randn({16, 6});
  const torch::Tensor base = y_of(model, {x});
  Adaptation with_bias = kBoth;
  with_bias.train_also = {"bias"};
  model.adapt(with_bias, "a");
  train(model, x, base + 1, 30);
  const torch::Tensor a = y_of(model, {x}).detach();
  model.save_adapter(folder / "a.safetensors");
  model.adapt(kBoth, "b");
  EXPECT_TRUE(nearly_equal(y_of(model, {x}).detach(), base)) << "the first set's bias must not stay behind";
  train(model, x, base - 1, 30);
  const torch::Tensor b = y_of(model, {x}).detach();
  for (const auto& [name, expected] : {std::pair{"a", a}, {"b", b}, {"", base}, {"a", a}}) {
    model.use(name);
    EXPECT_TRUE(torch::equal(y_of(model, {x}).detach(), expected)) << name;
  }
  EXPECT_EQ(model.adapters(), (std::vector<std::string>{"a", "b"}));

  Model again = Model::of(network());
  again.load_adapter(folder / "a.safetensors", "loaded");
  EXPECT_EQ(again.in_use(), "loaded");
  EXPECT_TRUE(torch::equal(y_of(again, {x}).detach(), a));
  EXPECT_FALSE(torch::allclose(a, base, 0, 0.1));
}

TEST(Library, AFileIsMergedWhenItGivesTheSame) {
  const testing::TempFolder folder;
  network().save(folder / "model.pt");
  Model model = Model::open(folder / "model.pt");
  model.adapt(kBoth);
  const torch::Tensor x = torch::randn({16, 6});
  train(model, x, y_of(model, {x}).detach() + 1, 20);
  model.merge(folder / "merged.pt", {x});
  const torch::NoGradGuard no_grad;
  EXPECT_TRUE(torch::allclose(of_module(torch::jit::load(folder / "merged.pt"), {x}), y_of(model, {x}), 1e-5, 1e-6));
  expect_error([&] { model.merge(folder / "merged.pt"); }, "merged.pt exists already");
}

TEST(Library, MistakesAreSaidAndChangeNothing) {
  const testing::TempFolder folder;
  Model model = Model::of(network());
  const torch::Tensor x = torch::randn({4, 6});
  model.adapt(kBoth, "kept");
  train(model, x, y_of(model, {x}).detach() + 1, 5);
  const torch::Tensor before = y_of(model, {x}).detach();
  Adaptation wrong = kBoth;
  wrong.method = "lorra";
  expect_error([&] { model.adapt(wrong); }, "unknown adapter method 'lorra' (did you mean 'lora'?)");
  wrong = kBoth;
  wrong.options["rnak"] = "3";
  expect_error([&] { model.adapt(wrong); }, "rnak");
  wrong = kBoth;
  wrong.targets = {"third"};
  expect_error([&] { model.adapt(wrong); }, "third");
  wrong.method = "full";
  expect_error([&] { model.adapt(wrong); }, "has no adapters");
  wrong = kBoth;
  wrong.method = "lora-one";
  expect_error([&] { model.adapt(wrong); }, "gradients of training rows");
  wrong.method = "eva";
  expect_error([&] { model.adapt(wrong); }, "inputs on training rows");
  expect_error([&] { model.use("other"); }, "there are: kept");
  expect_error([&] { model.forward({torch::randn({4, 5})}); }, "its forward fails");
  expect_error([&] { model.forward({x, std::string("much")}); }, "its forward fails");
  expect_error([&] { model.load_adapter(folder / "none.safetensors"); }, "none.safetensors");
  model.save_adapter(folder / "kept.safetensors");
  Model other = Model::of(network(1));
  expect_error([&] { other.load_adapter(folder / "kept.safetensors"); }, "belongs to a base model");
  expect_error([&] { other.optimizer(0.1); }, "no adapters are in use");
  expect_error([&] { Model::open(folder / "none.pt"); }, "none.pt");
  EXPECT_EQ(model.in_use(), "kept");
  EXPECT_TRUE(torch::equal(y_of(model, {x}).detach(), before));
}

}  // namespace
}  // namespace deeplora
