// Adapters in a graph. Oracle throughout: the archive's own module with W + delta written into it, and finite
// differences.
#include "graph/graph_model.h"

#include <gtest/gtest.h>
#include <torch/csrc/jit/passes/freeze_module.h>
#include <torch/torch.h>

#include <set>

#include "core/random.h"
#include "graph/roles.h"
#include "interchange/merge.h"
#include "graph/torchscript_forward.h"
#include "lm/adapt.h"
#include "lm/parity.h"
#include "lm/targets.h"
#include "support/tensors.h"
#include "support/tiny_archive.h"

namespace deeplora {
namespace {

using testing::close;
using testing::error_of;
using testing::factory_of;
using testing::finite_differences;
using testing::TempFolder;
using testing::tiny_batch;

constexpr int64_t kWidth = 6, kInner = 8, kWords = 11;

torch::jit::Module leaf(const std::string& name, std::vector<std::pair<std::string, torch::Tensor>> parameters) {
  torch::jit::Module out("__torch__." + name);
  for (const auto& [key, value] : parameters) out.register_parameter(key, value, false);
  return out;
}

torch::Tensor random(std::vector<int64_t> shape) { return 0.5 * torch::randn(shape, torch::kFloat64); }

/// Every operator that an adapter can take the place of, in a loop and a branch; table tied to the last
/// layer.
torch::jit::Module every_operator() {
  torch::manual_seed(5);
  torch::jit::Module out("__torch__.EveryOperator");
  out.register_module("table", leaf("Table", {{"weight", random({kWords, kWidth})}}));
  out.register_module("query", leaf("Query", {{"weight", random({kWidth, kWidth})}, {"bias", random({kWidth})}}));
  out.register_module("c_fc", leaf("Conv1D", {{"weight", random({kWidth, kInner})}, {"bias", random({kInner})}}));
  out.register_module("plain", leaf("Plain", {{"weight", random({kInner, kWidth})}}));
  out.register_module("turned", leaf("Turned", {{"weight", random({kWidth, kWidth})}}));
  out.register_module("pointwise",
                      leaf("Pointwise", {{"weight", random({kWidth, kWidth, 1})}, {"bias", random({kWidth})}}));
  out.register_module("mixing", leaf("Mixing", {{"weight", random({kWidth, kWidth})}}));
  out.define(R"(
def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    x = torch.embedding(self.table.weight, input_ids)
    size = x.size()
    for i in range(2):
        if i == 1 and bool(attention_mask.sum() > 2):
            x = x + torch.tanh(torch.linear(x, self.query.weight, self.query.bias))
        else:
            h = torch.addmm(self.c_fc.bias, x.view(-1, size[-1]), self.c_fc.weight)
            x = torch.matmul(torch.tanh(h), self.plain.weight).view(size)
    x = x + torch.matmul(x, self.turned.weight.t())
    x = torch.conv1d(x.transpose(1, 2), self.pointwise.weight, self.pointwise.bias).transpose(1, 2)
    x = x + torch.einsum("btd,de->bte", [x, self.mixing.weight])
    return torch.linear(torch.tanh(x), self.table.weight)
)");
  out.eval();
  return out;
}

TorchScriptArchive archive_of(const torch::jit::Module& module, const std::filesystem::path& file) {
  TorchScriptArchive::save(module, {}, file);
  return TorchScriptArchive::load(file);
}

/// Factors far from their start, so that a missing update shows.
void move_factors(AdaptedModel& model, double spread = 0.4) {
  const torch::NoGradGuard no_grad;
  torch::manual_seed(9);
  for (auto& group : model.param_groups(1.0))
    for (auto& [name, value] : group.params) value.normal_(0, spread);
}

struct Fixture {
  TempFolder folder;
  TorchScriptArchive archive = archive_of(every_operator(), folder / "m.pt");
  std::shared_ptr<GraphModel> model = std::make_shared<GraphModel>(archive, ArchiveInterface{}, ModelOptions{});

  AdaptedModel adapted(const std::string& method, const std::string& yaml) {
    AdaptedModel out(model, nullptr);
    out.add_adapters(model->sites(), factory_of(method, yaml), 1, torch::kCPU, nullptr);
    move_factors(out);
    return out;
  }
};

torch::Tensor out_of(LanguageModel& model, const Batch& batch) { return output_of(model.forward(batch)); }

TEST(GraphModelTest, FindsEveryWeightOnceWithShapeOutIn) {
  Fixture f;
  std::map<std::string, AdapterSite> found;
  for (const auto& site : f.model->sites()) found[site.path] = site;
  ASSERT_EQ(found.size(), 7u);
  EXPECT_EQ(found.at("table.weight").kind, SiteKind::embedding);
  EXPECT_EQ(found.at("table.weight").uses, 2);
  EXPECT_EQ(found.at("query.weight").op, "linear");
  EXPECT_EQ(found.at("query.weight").role, "query");
  EXPECT_EQ(found.at("c_fc.weight").op, "addmm");
  EXPECT_EQ(found.at("c_fc.weight").weight.sizes(), (std::vector<int64_t>{kInner, kWidth}));
  EXPECT_TRUE(found.at("c_fc.weight").transposed);
  EXPECT_EQ(found.at("plain.weight").weight.sizes(), (std::vector<int64_t>{kWidth, kInner}));
  EXPECT_FALSE(found.at("turned.weight").transposed);
  EXPECT_EQ(found.at("pointwise.weight").op, "conv1d");
  EXPECT_EQ(found.at("mixing.weight").op, "einsum");
  EXPECT_EQ(found.at("mixing.weight").kind, SiteKind::weight);
  EXPECT_TRUE(f.model->other_weights().empty());
}

TEST(GraphModelTest, UnadaptedModelIsTheArchive) {
  Fixture f;
  const torch::Tensor expected = ArchiveForward(f.archive, {})(tiny_batch());
  // TorchScript's own executor may fuse operators: rounding in float64
  EXPECT_TRUE(close(out_of(*f.model, tiny_batch()), expected, 1e-12));
}

TEST(GraphModelTest, AdaptedForwardIsTheArchiveWithMergedWeights) {
  for (const char* method : {"lora", "deep-lora"}) {
    Fixture f;
    auto adapted = f.adapted(method, "rank: 3");
    f.model->eval();
    const torch::Tensor base = ArchiveForward(f.archive, {})(tiny_batch());
    const torch::Tensor live = out_of(*f.model, tiny_batch());
    TorchScriptArchive merged = TorchScriptArchive::load(f.folder / "m.pt");
    for (const auto& [name, value] : adapted.merged_weights()) merged.set_tensor(name, value);
    // float64: only the order of additions differs
    EXPECT_TRUE(close(live, ArchiveForward(merged, {})(tiny_batch()), 1e-10)) << method;
    EXPECT_GT((live - base).abs().max().item<double>(), 1e-2) << method;
    adapted.detach();
    EXPECT_TRUE(close(out_of(*f.model, tiny_batch()), base, 1e-12));
    adapted.attach();
    EXPECT_TRUE(torch::equal(out_of(*f.model, tiny_batch()), live));
  }
}

TEST(GraphModelTest, GradientsOfAllFactorsAreThoseOfFiniteDifferences) {
  Fixture f;
  auto adapted = f.adapted("lora", "rank: 2");
  const auto loss = [&] { return out_of(*f.model, tiny_batch()).pow(2).mean(); };
  loss().backward();
  for (const auto& group : adapted.param_groups(1.0))
    for (const auto& [name, value] : group.params) {
      ASSERT_TRUE(value.grad().defined()) << name;
      EXPECT_TRUE(close(value.grad(), finite_differences(loss, value.detach(), 1e-6), 1e-7)) << name;
    }
}

TEST(GraphModelTest, FullTrainingReachesEveryWeightThatForwardReads) {
  Fixture f;
  AdaptedModel adapted(f.model, nullptr);
  adapted.train_base();
  EXPECT_EQ(adapted.trained_base().size(), 10u);
  const auto loss = [&] { return out_of(*f.model, tiny_batch()).pow(2).mean(); };
  loss().backward();
  for (const auto& [name, value] : adapted.trained_base())
    EXPECT_TRUE(close(value.grad(), finite_differences(loss, value.detach(), 1e-6), 1e-7)) << name;
}

TEST(GraphModelTest, GradientInASiteIsThatOfTheTransposedStoredWeight) {
  Fixture f;
  for (const auto& site : f.model->sites()) {
    site.weight.set_requires_grad(true);
    const auto loss = [&] { return out_of(*f.model, tiny_batch()).pow(2).mean(); };
    const torch::Tensor gradient = torch::autograd::grad({loss()}, {site.weight})[0];
    site.weight.set_requires_grad(false);
    const torch::Tensor stored = f.archive.tensor(site.path).detach();
    torch::Tensor expected = finite_differences(loss, stored, 1e-6).reshape(stored.sizes());
    if (stored.dim() == 3) expected = expected.squeeze(-1);
    EXPECT_TRUE(close(gradient, site.transposed ? expected.t() : expected, 1e-7)) << site.path;
  }
}

TEST(GraphModelTest, ExportWritesTheArchivesLayout) {
  Fixture f;
  auto adapted = f.adapted("lora", "rank: 2");
  const MergeReport report =
      export_torchscript(f.archive, {}, adapted, nlohmann::ordered_json::object(), f.folder / "merged.pt");
  EXPECT_EQ(report.merged_weights, 7);
  EXPECT_LE(report.difference, 1e-10);
  EXPECT_EQ(TorchScriptArchive::load(f.folder / "merged.pt").tensor("c_fc.weight").sizes(),
            (std::vector<int64_t>{kWidth, kInner}));
}

torch::jit::Module one_layer(const std::string& body) {
  torch::manual_seed(6);
  torch::jit::Module out("__torch__.OneLayer");
  out.register_module("table", leaf("Table", {{"weight", random({kWords, kWidth})}}));
  out.define(
      "def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:\n    x = "
      "torch.embedding(self.table.weight, input_ids)\n" +
      body);
  out.eval();
  return out;
}

TEST(GraphModelTest, DropoutFollowsTrainAndEvalAndTheOption) {
  TempFolder folder;
  const auto archive = archive_of(one_layer("    return torch.dropout(x, 0.5, False)\n"), folder / "m.pt");
  const torch::Tensor expected = ArchiveForward(archive, {})(tiny_batch());
  GraphModel model(archive, {}, {});
  model.eval();
  EXPECT_TRUE(torch::equal(out_of(model, tiny_batch()), expected));
  model.train();
  const torch::Tensor dropped = out_of(model, tiny_batch());
  // inverted dropout at 0.5: each cell is 0 or twice the input
  EXPECT_TRUE(((dropped == 0) | (dropped == 2 * expected)).all().item<bool>());
  EXPECT_FALSE(torch::equal(dropped, 2 * expected));
  EXPECT_TRUE((dropped != 0).any().item<bool>());
  GraphModel without(archive, {}, {.dropout = 0.0});
  without.train();
  EXPECT_TRUE(torch::equal(out_of(without, tiny_batch()), expected));
}

TEST(GraphModelTest, FusedAttentionDropsOnlyInTrainingAndWithTheOption) {
  TempFolder folder;
  const auto archive = archive_of(
      one_layer("    return torch.scaled_dot_product_attention(x, x, x, None, 0.0, False)\n"), folder / "m.pt");
  const torch::Tensor expected = ArchiveForward(archive, {})(tiny_batch());
  GraphModel model(archive, {}, {.dropout = 0.5});
  model.eval();
  EXPECT_TRUE(torch::equal(out_of(model, tiny_batch()), expected));
  model.train();
  EXPECT_FALSE(torch::allclose(out_of(model, tiny_batch()), expected));
}

TEST(GraphModelTest, DropoutThatIsAlwaysOnIsRefused) {
  TempFolder folder;
  const auto archive = archive_of(one_layer("    return torch.dropout(x, 0.5, True)\n"), folder / "m.pt");
  EXPECT_NE(error_of([&] { GraphModel(archive, {}, {}); }).find("traced in training mode"), std::string::npos);
}

TEST(GraphModelTest, SizesBakedInAreFoundByTheProbe) {
  TempFolder folder;
  const auto by_length = archive_of(one_layer("    return x + torch.ones([12, 1], dtype=x.dtype)\n"), folder / "a.pt");
  GraphModel model(by_length, {}, {});
  EXPECT_NE(error_of([&] { model.probe(by_length); }).find("were baked in by tracing"), std::string::npos);
  const auto by_batch = archive_of(one_layer("    return x.reshape([2, -1, 6])\n"), folder / "b.pt");
  GraphModel other(by_batch, {}, {});
  EXPECT_NE(error_of([&] { other.probe(by_batch); }).find("sizes were baked in"), std::string::npos);
}

TEST(GraphModelTest, TheProbeStaysInTheVocabularyWherePositionsAreMore) {
  TempFolder folder;
  torch::jit::Module module("__torch__.Positions");
  module.register_module("words", leaf("Words", {{"weight", random({kWords, kWidth})}}));
  module.register_module("positions", leaf("Places", {{"weight", random({40 * kWords, kWidth})}}));
  module.define(
      "def forward(self, tokens: Tensor, attention_mask: Tensor) -> Tensor:\n"
      "    places = torch.arange(tokens.size(1), device=tokens.device)\n"
      "    return torch.embedding(self.words.weight, tokens.view(tokens.size())) + "
      "torch.embedding(self.positions.weight, places)\n");
  module.eval();
  const auto archive = archive_of(module, folder / "m.pt");
  const ArchiveInterface renamed{.inputs = {{"input_ids", "tokens"}}, .output = ""};
  GraphModel model(archive, renamed, {});
  EXPECT_LT(probe_batch(archive, model).input_ids.max().item<int64_t>(), kWords);
  EXPECT_EQ(error_of([&] { model.probe(archive); }), "no error");
}

TEST(GraphModelTest, WeightsOfAFrozenArchiveAreThoseOfTheArchiveBeforeIt) {
  // Oracle: the archive as it was, with the same updates; freezing names its constants in the order of the code.
  TempFolder folder;
  const auto plain = archive_of(every_operator(), folder / "plain.pt"),
             frozen = archive_of(torch::jit::freeze_module(every_operator()), folder / "frozen.pt");
  ASSERT_EQ(frozen.parameters(), plain.parameters());
  std::map<std::string, std::string> name_of;
  std::set<std::string> turned;  // freezing computes W.t()
  for (size_t i = 0; i < frozen.parameters(); ++i)
    for (size_t j = 0; j < plain.parameters(); ++j) {
      const auto& [constant, value] = frozen.tensors()[i];
      const auto& [name, original] = plain.tensors()[j];
      const bool as_is = torch::equal(value, original),
                 other_way = value.dim() == 2 && torch::equal(value.t(), original);
      if (as_is || other_way) name_of[constant] = name;
      if (!as_is && other_way) turned.insert(constant);
    }
  ASSERT_EQ(name_of.size(), plain.parameters());
  auto model = std::make_shared<GraphModel>(frozen, ArchiveInterface{}, ModelOptions{});
  AdaptedModel adapted(model, nullptr);
  adapted.add_adapters(model->sites(), factory_of("lora", "rank: 3"), 1, torch::kCPU, nullptr);
  move_factors(adapted);
  ASSERT_EQ(adapted.adapters().size(), 7u);
  TorchScriptArchive merged = TorchScriptArchive::load(folder / "plain.pt");
  for (const auto& [name, value] : adapted.merged_weights())
    merged.set_tensor(name_of.at(name), turned.count(name) ? value.t() : value);
  const torch::Tensor expected = ArchiveForward(merged, {})(tiny_batch()), live = out_of(*model, tiny_batch());
  EXPECT_TRUE(close(live, expected, 1e-10));
  EXPECT_GT((live - ArchiveForward(plain, {})(tiny_batch())).abs().max().item<double>(), 1e-2);
  export_torchscript(frozen, {}, adapted, nlohmann::ordered_json::object(), folder / "merged.pt");
  EXPECT_TRUE(close(ArchiveForward(TorchScriptArchive::load(folder / "merged.pt"), {})(tiny_batch()), expected, 1e-10));
}

TEST(GraphModelTest, PaddingIsRefusedWhereTheModelWouldReadItAsText) {
  TempFolder folder;
  torch::jit::Module reads("__torch__.Reads"), skips("__torch__.Skips");
  for (auto* module : {&reads, &skips})
    module->register_module("table", leaf("Table", {{"weight", random({kWords, kWidth})}}));
  reads.define(
      "def forward(self, input_ids: Tensor) -> Tensor:\n    return torch.embedding(self.table.weight, "
      "input_ids).mean([1])\n");
  skips.define(
      "def forward(self, input_ids: Tensor) -> Tensor:\n    keep = (input_ids != "
      "0).unsqueeze(-1).type_as(self.table.weight)\n"
      "    return (torch.embedding(self.table.weight, input_ids) * keep).sum([1]) / keep.sum([1])\n");
  const auto first = archive_of(reads, folder / "a.pt"), second = archive_of(skips, folder / "b.pt");
  GraphModel reader(first, {}, {}), skipper(second, {}, {});
  reader.probe(first);
  skipper.probe(second);
  EXPECT_FALSE(reader.takes_padding());
  EXPECT_TRUE(skipper.takes_padding());
  EXPECT_NE(error_of([&] { reader.forward(tiny_batch()); }).find("takes no attention_mask"), std::string::npos);
  EXPECT_EQ(out_of(skipper, tiny_batch()).size(0), 2);
  Batch even = tiny_batch();
  even.attention_mask = torch::ones_like(even.attention_mask);
  EXPECT_EQ(out_of(reader, even).size(0), 2);
}

TEST(GraphModelTest, HalfPrecisionWeightsTakeFloatFactors) {
  TempFolder folder;
  torch::jit::Module module = every_operator();
  module.to(torch::kBFloat16);
  const auto narrow = archive_of(module, folder / "narrow.pt");
  module.to(torch::kFloat);  // the same rounded weights, computed with in float32
  const auto wide = archive_of(module, folder / "wide.pt");
  std::vector<torch::Tensor> outputs;
  for (const auto* archive : {&wide, &narrow}) {
    auto model = std::make_shared<GraphModel>(*archive, ArchiveInterface{}, ModelOptions{});
    AdaptedModel adapted(model, nullptr);
    adapted.add_adapters(model->sites(), factory_of("lora", "rank: 2"), 1, torch::kCPU, nullptr);
    move_factors(adapted, 0.1);
    outputs.push_back(out_of(*model, tiny_batch()));
    outputs.back().to(torch::kFloat).sum().backward();
    for (const auto& group : adapted.param_groups(1.0))
      for (const auto& [name, value] : group.params) EXPECT_EQ(value.grad().scalar_type(), torch::kFloat) << name;
  }
  EXPECT_EQ(outputs[1].scalar_type(), torch::kBFloat16);
  EXPECT_TRUE(close(outputs[1], outputs[0], 5e-2));  // 8 bits of mantissa through eight layers
}

TEST(GraphRolesTest, NamesOfManyFamiliesAreKnown) {
  // Oracle: the modules' meaning in their own code.
  const std::vector<std::pair<const char*, const char*>> cases{
      {"bert.encoder.layer.0.attention.self.query.weight", "query"},
      {"bert.encoder.layer.0.attention.output.dense.weight", "attention_output"},
      {"bert.encoder.layer.0.intermediate.dense.weight", "mlp_in"},
      {"bert.encoder.layer.0.output.dense.weight", "mlp_out"},
      {"bert.pooler.dense.weight", "pooler"},
      {"classifier.out_proj.weight", "head"},
      {"score.weight", "head"},
      {"transformer.h.0.attn.c_attn.weight", "query_key_value"},
      {"transformer.h.0.attn.c_proj.weight", "attention_output"},
      {"transformer.h.0.mlp.c_proj.weight", "mlp_out"},
      {"encoder.block.0.layer.0.SelfAttention.q.weight", "query"},
      {"encoder.block.0.layer.0.SelfAttention.o.weight", "attention_output"},
      {"encoder.block.0.layer.1.DenseReluDense.wi_0.weight", "mlp_gate"},
      {"encoder.block.0.layer.1.DenseReluDense.wo.weight", "mlp_out"},
      {"model.layers.0.self_attn.o_proj.weight", "attention_output"},
      {"model.layers.0.mlp.up_proj.weight", "mlp_in"},
      {"lm_head.weight", "lm_head"},
      {"layers.0.self_attn.in_proj_weight", "query_key_value"},
      {"something.else.weight", "other"}};
  for (const auto& [path, role] : cases) EXPECT_EQ(guess_role(path, SiteKind::linear), role) << path;
  EXPECT_EQ(guess_role("bert.encoder.query.weight", SiteKind::embedding), "embedding");
}

/// An embedding, a hidden layer stored [in, out] and a classifier, in `type`.
torch::jit::Module half_classifier(at::ScalarType type) {
  torch::manual_seed(8);
  torch::jit::Module out("__torch__.Half");
  const auto made = [&](std::vector<int64_t> shape) { return random(shape).to(type); };
  out.register_module("table", leaf("HalfTable", {{"weight", made({kWords, kWidth})}}));
  out.register_module("c_fc", leaf("HalfConv", {{"weight", made({kWidth, kInner})}, {"bias", made({kInner})}}));
  out.register_module("classifier", leaf("HalfHead", {{"weight", made({3, kInner})}, {"bias", made({3})}}));
  out.define(R"(
def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:
    x = torch.embedding(self.table.weight, input_ids, 0).mean([1])
    h = torch.tanh(torch.addmm(self.c_fc.bias, x, self.c_fc.weight))
    return torch.linear(h, self.classifier.weight, self.classifier.bias)
)");
  out.eval();
  return out;
}

TEST(GraphModelTest, TrainedWeightsOfAHalfPrecisionArchiveAreFloat32AndRoundedWhereTheyAreRead) {
  for (const auto type : {torch::kHalf, torch::kBFloat16})
    for (const bool all : {true, false}) {
      TempFolder folder;
      const auto archive = archive_of(half_classifier(type), folder / "m.pt");
      auto model = std::make_shared<GraphModel>(archive, ArchiveInterface{}, ModelOptions{});
      const torch::Tensor before = out_of(*model, tiny_batch()).detach().clone();
      AdaptedModel adapted(model, nullptr);
      if (all) adapted.train_base();
      else ASSERT_TRUE(adapted.train_archive_head());
      ASSERT_EQ(adapted.trained_base().size(), all ? 5U : 2U);
      torch::Tensor now = out_of(*model, tiny_batch());
      EXPECT_EQ(now.scalar_type(), type);
      EXPECT_TRUE(torch::equal(now, before)) << "widening alone changed the output";
      now.to(torch::kFloat32).square().sum().backward();
      std::map<std::string, torch::Tensor> expected;
      for (const auto& [name, value] : adapted.trained_base()) {
        EXPECT_EQ(value.scalar_type(), torch::kFloat32) << name;
        ASSERT_TRUE(value.grad().defined() && value.grad().abs().max().item<double>() > 0) << name;
        const torch::NoGradGuard no_grad;
        torch::Tensor stepped = value;
        for (int i = 0; i < 100; ++i) stepped.add_(value.abs() * 1e-5);  // each far below half a unit in the last place
        EXPECT_GT((stepped / archive.tensor(name).to(torch::kFloat32) - 1).nan_to_num().max().item<double>(), 9e-4)
            << name;
        expected[name] = stepped.clone();
        EXPECT_EQ(archive.tensor(name).scalar_type(), type);
      }
      // Oracle: the archive's own forward with the values rounded once.
      TorchScriptArchive other = TorchScriptArchive::load(folder / "m.pt");
      for (const auto& [name, value] : adapted.merged_weights()) {
        EXPECT_TRUE(torch::equal(value, expected.at(name))) << name;
        other.set_tensor(name, value);
      }
      const double step = type == torch::kHalf ? 0x1p-10 : 0x1p-7;  // the executors add a bias before or after rounding
      EXPECT_TRUE(close(out_of(*model, tiny_batch()), ArchiveForward(other, {})(tiny_batch()), 2 * step));
    }
}

TEST(GraphModelTest, TheFirstArgumentIsTheObjectWhateverItIsCalled) {
  TempFolder folder;
  torch::jit::Module module("__torch__.This");
  module.register_module("table", leaf("Table", {{"weight", random({kWords, kWidth})}}));
  module.define(
      "def forward(this, input_ids: Tensor, attention_mask: Tensor) -> Tensor:\n    return "
      "torch.embedding(this.table.weight, input_ids)\n");
  module.eval();
  const auto archive = archive_of(module, folder / "m.pt");
  EXPECT_EQ(archive.inputs(), (std::vector<std::string>{"input_ids", "attention_mask"}));
  GraphModel model(archive, {}, {});
  EXPECT_EQ(error_of([&] { model.probe(archive); }), "no error");
  EXPECT_TRUE(compare_with_archive(archive, {}, model).equal);
}

/// Words and learned positions, of which there are `positions`, in a table or in a buffer.
torch::jit::Module with_positions(int64_t positions, bool table) {
  torch::jit::Module module("__torch__.Positions");
  module.register_module("words", leaf("Words", {{"weight", random({kWords, kWidth})}}));
  if (table) module.register_module("places", leaf("Places", {{"weight", random({positions, kWidth})}}));
  else module.register_buffer("places", random({1, positions, kWidth}));
  module.define(
      cat("def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:\n    x = "
          "torch.embedding(self.words.weight, input_ids)\n    return x + ",
          table ? "torch.embedding(self.places.weight, torch.arange(input_ids.size(1)))"
                : "self.places[:, :input_ids.size(1)]",
          "\n"));
  module.eval();
  return module;
}

TEST(GraphModelTest, TheProbeIsAsLongAsTheModelTakes) {
  for (const bool table : {true, false})
    for (const int64_t positions : {2, 5, 8, 11, 12, 40}) {
      TempFolder folder;
      const auto archive = archive_of(with_positions(positions, table), folder / "m.pt");
      GraphModel model(archive, {}, {});
      EXPECT_EQ(error_of([&] { model.probe(archive); }), "no error") << positions;
      const int64_t tokens = probe_batch(archive, model).input_ids.size(1);
      EXPECT_TRUE(tokens <= positions && tokens >= std::min<int64_t>(12, positions * 2 / 3))
          << tokens << " of " << positions;
      EXPECT_TRUE(compare_with_archive(archive, {}, model).equal);
    }
}

TEST(GraphModelTest, ThePaddingRowOfATableGetsNoGradientFromItsAdapter) {
  // Oracle: torch's own embedding with padding_idx over the factors, as PEFT computes it.
  TempFolder folder;
  const auto archive = archive_of(half_classifier(torch::kFloat64), folder / "m.pt");
  auto model = std::make_shared<GraphModel>(archive, ArchiveInterface{}, ModelOptions{});
  for (const char* method : {"lora", "dora"}) {
    AdaptedModel adapted(model, nullptr);
    adapted.add_adapters(choose_sites(model->sites(), {"embedding"}), factory_of(method, "{rank: 3, alpha: 6}"), 1,
                         torch::kCPU, nullptr);
    move_factors(adapted);
    Batch batch = tiny_batch();  // the second row ends with two tokens 0, which the model averages like others
    std::map<std::string, torch::Tensor> parts;
    for (const auto& [name, value] : adapted.state()) parts[name.substr(name.rfind('/') + 1)] = value;
    const torch::Tensor a = parts.at("A"), b = parts.at("B"), w = archive.tensor("table.weight");  // A [r, D], B [V, r]
    const bool dora = parts.count("magnitude") != 0;
    torch::Tensor x = at::embedding(w, batch.input_ids),
                  update = torch::matmul(at::embedding(b, batch.input_ids, 0), a) * 2;
    if (dora)
      x = (x + update) *
          (parts.at("magnitude") / torch::linalg_vector_norm(w + torch::matmul(b, a).detach() * 2, 2, 0));
    else x = x + update;
    const torch::Tensor h =
        torch::tanh(torch::addmm(archive.tensor("c_fc.bias"), x.mean(1), archive.tensor("c_fc.weight")));
    const torch::Tensor expected =
        torch::linear(h, archive.tensor("classifier.weight"), archive.tensor("classifier.bias"));
    const torch::Tensor ours = out_of(*model, batch);
    EXPECT_TRUE(close(ours, expected, 1e-12));
    std::vector<torch::Tensor> inputs{a, b};
    if (dora) inputs.push_back(parts.at("magnitude"));
    const auto found = torch::autograd::grad({ours.square().sum()}, inputs),
               wanted = torch::autograd::grad({expected.square().sum()}, inputs);
    for (size_t i = 0; i < inputs.size(); ++i) EXPECT_TRUE(close(found[i], wanted[i], 1e-12)) << method << i;
    EXPECT_EQ(found[1][0].abs().max().item<double>(), 0.0);
    adapted.detach();
  }
}

/// A layer under a name that says nothing, and what makes the output of it.
torch::jit::Module last_layer(const std::string& body, bool stacked = false) {
  torch::manual_seed(6);
  torch::jit::Module out(stacked ? "__torch__.Stacked" : "__torch__.LastLayer");
  out.register_module("table", leaf("Table", {{"weight", random({kWords, kWidth})}}));
  out.register_module("mid", leaf("Mid", {{"weight", random({kWidth, kWidth})}, {"bias", random({kWidth})}}));
  out.register_module("last", leaf("Last", {{"weight", random({3, kWidth})}, {"bias", random({3})}}));
  out.register_parameter("scale", random({1}), false);
  out.define("def forward(self, input_ids: Tensor, attention_mask: Tensor)" + body);
  out.eval();
  return out;
}

std::string heads_of(const TorchScriptArchive& archive, const std::string& output = "") {
  std::string out;
  for (const auto& site : GraphModel(archive, {.inputs = {}, .output = output}, {}).sites())
    if (site.role == "head") out += site.path + " " + site.bias + ";";
  return out;
}

TEST(GraphModelTest, TheLayerThatMakesTheOutputIsTheHeadWhateverItsName) {
  const std::string hidden =
      "    x = torch.tanh(torch.linear(torch.embedding(self.table.weight, input_ids), self.mid.weight, "
      "self.mid.bias))\n";
  const std::string logits = "torch.linear(x.mean([1]), self.last.weight, self.last.bias)";
  const std::vector<std::tuple<std::string, std::string, std::string>> cases{
      {" -> Tensor:\n" + hidden + "    return " + logits + "\n", "", "last.weight last.bias;"},
      {" -> Tensor:\n" + hidden + "    return torch.log_softmax(" + logits + " / 2.0, -1)\n", "",
       "last.weight last.bias;"},
      {" -> Tensor:\n" + hidden +
           "    return (torch.matmul(x.mean([1]), self.last.weight.t()) + self.last.bias) * self.scale\n",
       "", "last.weight last.bias;"},
      {" -> Tensor:\n" + hidden + "    return torch.linear(x.mean([1]), self.last.weight * 2.0, self.last.bias)\n", "",
       "last.weight last.bias;"},
      {" -> Dict[str, Tensor]:\n" + hidden + "    return {'states': x, 'scores': " + logits + "}\n", "scores",
       "last.weight last.bias;"},
      {" -> Dict[str, Tensor]:\n" + hidden + "    return {'states': x, 'scores': " + logits + "}\n", "",
       "mid.weight mid.bias;"},
      {" -> Tuple[Tensor, Tensor]:\n" + hidden + "    return " + logits + ", x\n", "0", "last.weight last.bias;"},
      {" -> Tensor:\n" + hidden + "    return x + torch.linear(x, self.mid.weight, self.mid.bias)\n", "", ""},
      {" -> Tensor:\n" + hidden + "    return torch.layer_norm(x, [6])\n", "", ""}};
  for (const auto& [body, output, expected] : cases) {
    TempFolder folder;
    EXPECT_EQ(heads_of(archive_of(last_layer(body), folder / "m.pt"), output), expected) << body;
  }
}

TEST(GraphModelTest, WhatMakesHiddenStatesIsNoHead) {
  TempFolder folder;
  const auto archive = archive_of(
      last_layer(
          " -> Tensor:\n    return torch.linear(torch.embedding(self.table.weight, input_ids), self.mid.weight)\n"),
      folder / "m.pt");
  GraphModel model(archive, {}, {});
  EXPECT_EQ(choose_sites(model.sites(), {"head"}).size(), 1u);  // as long as nobody knows what comes out
  model.probe(archive);
  EXPECT_EQ(choose_sites(model.sites(), {"all-linear"}).size(), 1u);
  model.take_output_as_logits();
  EXPECT_EQ(choose_sites(model.sites(), {"lm_head"}).size(), 1u);
}

TEST(GraphModelTest, DevicesInTheCodeFollowTheModels) {
  TempFolder folder;
  const auto archive = archive_of(
      one_layer("    return x + torch.ones([1], dtype=x.dtype, device=torch.device('cuda:1'))\n"), folder / "m.pt");
  GraphModel model(archive, {}, {});
  model.probe(archive);
  const torch::Tensor expected = at::embedding(archive.tensor("table.weight"), tiny_batch().input_ids) + 1;
  EXPECT_TRUE(torch::equal(out_of(model, tiny_batch()), expected));
  EXPECT_TRUE(torch::equal(ArchiveForward(archive, {})(tiny_batch()), expected));
  TorchScriptArchive::save(archive.module(), {}, folder / "again.pt");
  EXPECT_TRUE(torch::equal(torch::jit::load((folder / "again.pt").string())
                               .forward({tiny_batch().input_ids, tiny_batch().attention_mask})
                               .toTensor(),
                           expected));
}

TEST(GraphModelTest, InputsMayHaveOtherDtypesLayoutsAndPlaces) {
  TempFolder folder;
  torch::jit::Module module("__torch__.Inputs");
  module.register_module("table", leaf("Table", {{"weight", random({kWords, kWidth})}}));
  module.define(
      "def forward(self, batch: Dict[str, Tensor], hide: Tensor, lengths: Tensor) -> Tensor:\n"
      "    assert batch['ids'].dtype == 3 and hide.dtype == 11\n"
      "    x = torch.embedding(self.table.weight, batch['ids'])\n"
      "    return x.masked_fill(torch.logical_not(hide).unsqueeze(-1), 0.0) + lengths.unsqueeze(-1)\n");
  module.eval();
  const auto archive = archive_of(module, folder / "m.pt");
  ArchiveInterface interface{.inputs = {{"input_ids", "batch.ids"}, {"attention_mask", "hide"}}, .output = ""};
  const std::string failed = error_of([&] { GraphModel(archive, interface, {}).probe(archive); });
  EXPECT_NE(failed.find("assert batch['ids'].dtype"), std::string::npos) << failed;
  interface.forms = {{"input_ids", {torch::kInt32, true}}, {"attention_mask", {torch::kBool, true}}};
  GraphModel model(archive, interface, {});
  EXPECT_TRUE(model.sites().front().reads_ids);
  EXPECT_TRUE(model.takes_padding());
  model.probe(archive);
  const Batch batch = tiny_batch();
  const torch::Tensor keep = batch.attention_mask.unsqueeze(-1).to(torch::kFloat64);
  const torch::Tensor expected = at::embedding(archive.tensor("table.weight"), batch.input_ids) * keep +
                                 batch.attention_mask.sum(1).view({-1, 1, 1});
  EXPECT_TRUE(torch::equal(out_of(model, batch), expected));
  EXPECT_EQ(parse_forms(describe_forms(interface.forms), "test"), interface.forms);
}

TEST(GraphModelTest, AFailingForwardIsNamedByItsLineAndWhatHelpsByATrial) {
  TempFolder folder;
  torch::jit::Module module("__torch__.WantsBool");
  module.register_module("table", leaf("Table", {{"weight", random({kWords, kWidth})}}));
  module.define(
      "def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:\n"
      "    return torch.embedding(self.table.weight, input_ids).masked_fill(attention_mask.unsqueeze(-1), 0.0)\n");
  module.eval();
  const auto archive = archive_of(module, folder / "m.pt");
  GraphModel model(archive, {}, {});
  const std::string said = error_of([&] { model.probe(archive); });
  EXPECT_NE(said.find("masked_fill"), std::string::npos) << said;
  EXPECT_NE(said.find("it runs with model.inputs.attention_mask: {dtype: bool}"), std::string::npos) << said;
  EXPECT_EQ(said.find("baked in"), std::string::npos) << said;
  const auto beyond =
      archive_of(one_layer("    return x + torch.embedding(self.table.weight, input_ids + 9)\n"), folder / "b.pt");
  const std::string ids = error_of([&] { GraphModel(beyond, {}, {}).probe(beyond); });
  EXPECT_NE(ids.find("with every id 0 it runs"), std::string::npos) << ids;
}

}  // namespace
}  // namespace deeplora
