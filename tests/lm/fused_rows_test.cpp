// Adapters at some rows of a fused query-key-value weight. Oracles: the same adapter at the unfused projections of a
// second model that holds the same numbers, the archive's own module with W + delta written into it, and the attention
// modules of transformers.
#include "lm/fused_rows.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <fstream>

#include "graph/graph_model.h"
#include "interchange/peft.h"
#include "lm/adapt.h"
#include "lm/parity.h"
#include "lm/targets.h"
#include "model_files/tensor_file.h"
#include "models/projection.h"
#include "support/tensors.h"
#include "support/tiny_archive.h"

namespace deeplora {
namespace {

using testing::close;
using testing::error_of;
using testing::factory_of;
using testing::TempFolder;
using testing::tiny_batch;

constexpr int64_t kSide = 6, kHeads = 2, kHeadWidth = 3;

torch::jit::Module named(const char* name, const torch::Tensor& weight, const torch::Tensor& bias = {}) {
  torch::jit::Module out(std::string("__torch__.") + name);
  out.register_parameter("weight", weight, false);
  if (bias.defined()) out.register_parameter("bias", bias, false);
  return out;
}

/// [3 x heads x head width, ...] from blocks to rows by head, as GPT-NeoX keeps them.
torch::Tensor by_head(const torch::Tensor& blocks) {
  return blocks.unflatten(0, {3, kHeads, kHeadWidth}).transpose(0, 1).flatten(0, 2).contiguous();
}

enum class Form { unfused, conv1d /* GPT-2 */, heads /* GPT-NeoX */ };

/// The same function three times: q, k, v = x W^T + b, then tanh(q) sigmoid(k) + v.
TorchScriptArchive archive_in(const TempFolder& folder, Form form) {
  torch::manual_seed(21);
  const torch::Tensor table = torch::randn({11, kSide}, torch::kFloat64),
                      w = torch::randn({3 * kSide, kSide}, torch::kFloat64) * 0.5,
                      b = torch::randn({3 * kSide}, torch::kFloat64);
  torch::jit::Module out(cat("__torch__.Form", static_cast<int>(form)));
  out.register_module("table", named("Table", table));
  std::string body, config = "{}";
  if (form == Form::unfused) {
    const char* names[] = {"query", "key", "value"};
    for (int64_t i = 0; i < 3; ++i)
      out.register_module(
          names[i], named("Unfused", w.narrow(0, i * kSide, kSide).clone(), b.narrow(0, i * kSide, kSide).clone()));
    for (const char* name : names)
      body += cat("    ", name, " = torch.linear(x, self.", name, ".weight, self.", name, ".bias)\n");
  } else if (form == Form::conv1d) {
    out.register_module("c_attn", named("Conv1D", w.t().contiguous(), b));
    body =
        "    y = torch.addmm(self.c_attn.bias, x.view(-1, 6), self.c_attn.weight).view([x.size(0), x.size(1), 18])\n"
        "    query, key, value = torch.split(y, 6, 2)\n";
    config = R"({"model_type": "gpt2", "n_head": 2, "n_embd": 6})";
  } else {
    out.register_module("query_key_value", named("Heads", by_head(w), by_head(b)));
    body =
        "    y = torch.linear(x, self.query_key_value.weight, self.query_key_value.bias).view([x.size(0), x.size(1), "
        "2, 9])\n"
        "    query, key, value = torch.split(y, 3, 3)\n"
        "    query, key, value = query.flatten(2), key.flatten(2), value.flatten(2)\n";
    config = R"({"model_type": "gpt_neox", "num_attention_heads": 2, "hidden_size": 6})";
  }
  out.define(
      "def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Tensor:\n    x = "
      "torch.embedding(self.table.weight, input_ids)\n" +
      body + "    return torch.tanh(query) * torch.sigmoid(key) + value\n");
  out.eval();
  const auto file = folder / cat("form", static_cast<int>(form), ".pt");
  TorchScriptArchive::save(out, {{"config.json", config}}, file);
  return TorchScriptArchive::load(file);
}

struct Adapted {
  TorchScriptArchive archive;
  std::shared_ptr<GraphModel> model;
  std::unique_ptr<AdaptedModel> adapted;
  std::map<std::string, torch::Tensor> factors;  ///< "query/A"

  Adapted(const TempFolder& folder, Form form, const std::string& method, const std::string& yaml,
          const std::vector<std::string>& targets)
      : archive(archive_in(folder, form)),
        model(std::make_shared<GraphModel>(archive, ArchiveInterface{}, ModelOptions{})) {
    auto sites = model->sites();
    find_row_blocks(sites, archive.config(), FusedLayout::automatic);
    adapted = std::make_unique<AdaptedModel>(model, nullptr);
    adapted->add_adapters(choose_sites(sites, targets), factory_of(method, yaml), 1, torch::kCPU, nullptr);
    for (const auto& attached : adapted->adapters())
      for (const auto& [name, value] : attached.adapter->tensors()) factors[attached.site.role + "/" + name] = value;
    model->eval();
  }
  torch::Tensor output() { return output_of(model->forward(tiny_batch())); }
};

TEST(FusedRowsTest, AnAdapterAtSomeRowsIsWhatItIsAtAnUnfusedProjection) {
  for (const char* method : {"lora", "rslora", "deep-lora", "dora"})
    for (const Form form : {Form::conv1d, Form::heads}) {
      TempFolder folder;
      Adapted fused(folder, form, method, "rank: 2", {"query-value"}),
          plain(folder, Form::unfused, method, "rank: 2", {"query-value"});
      ASSERT_EQ(fused.factors.size(), plain.factors.size());
      torch::manual_seed(4);
      for (auto& [name, value] : plain.factors) {
        torch::NoGradGuard no_grad;
        value.copy_(torch::randn_like(value) * 0.5);
        ASSERT_TRUE(fused.factors.count(name)) << name;
        fused.factors.at(name).copy_(value);
      }
      const torch::Tensor expected = plain.output(), found = fused.output();
      EXPECT_TRUE(close(found, expected, 1e-12)) << method;
      expected.pow(2).sum().backward();
      found.pow(2).sum().backward();
      for (auto& [name, value] : plain.factors)
        EXPECT_TRUE(close(fused.factors.at(name).grad(), value.grad(), 1e-12)) << method << " " << name;
    }
}

TEST(FusedRowsTest, MergingChangesTheseRowsOnly) {
  for (const Form form : {Form::conv1d, Form::heads}) {
    TempFolder folder;
    Adapted fused(folder, form, "lora", "rank: 2", {"query", "value", "embedding"});
    torch::NoGradGuard no_grad;
    for (auto& [name, value] : fused.factors) value.normal_();
    const torch::Tensor live = fused.output();
    const auto merged = fused.adapted->merged_weights();
    ASSERT_EQ(merged.size(), 2u);
    TorchScriptArchive written = TorchScriptArchive::load(fused.archive.file());
    for (const auto& [name, value] : merged) written.set_tensor(name, value);
    EXPECT_TRUE(close(ArchiveForward(written, {})(tiny_batch()), live, 1e-12));
    const std::string name = form == Form::conv1d ? "c_attn.weight" : "query_key_value.weight";
    torch::Tensor change = written.tensor(name) - fused.archive.tensor(name);
    change = form == Form::conv1d ? change.t().unflatten(0, {3, kSide})
                                  : change.unflatten(0, {kHeads, 3, kHeadWidth}).transpose(0, 1).flatten(1, 2);
    EXPECT_EQ(change[1].abs().max().item<double>(), 0);
    EXPECT_GT(change[0].abs().max().item<double>(), 0.1);
    EXPECT_GT(change[2].abs().max().item<double>(), 0.1);
    fused.adapted->detach();
    EXPECT_TRUE(close(fused.output(), ArchiveForward(fused.archive, {})(tiny_batch()), 1e-12));
    fused.adapted->attach();
    EXPECT_TRUE(torch::equal(fused.output(), live));
  }
}

TEST(FusedRowsTest, AnotherTargetThatTakesTheWholeWeightWins) {
  TempFolder folder;
  Adapted fused(folder, Form::conv1d, "lora", "rank: 2", {"query", "all-linear"});
  ASSERT_EQ(fused.adapted->adapters().size(), 1u);
  EXPECT_EQ(fused.adapted->adapters()[0].site.path, "c_attn.weight");
  Adapted one(folder, Form::conv1d, "lora", "rank: 2", {"*c_attn.key"});
  ASSERT_EQ(one.adapted->adapters().size(), 1u);
  EXPECT_EQ(one.adapted->adapters()[0].site.path, "c_attn.key.weight");
}

TEST(FusedRowsTest, StateIsKeptByProjection) {
  TempFolder folder;
  Adapted first(folder, Form::heads, "deep-lora", "{rank: 2, depth: 3}", {"query-value"}),
      second(folder, Form::heads, "deep-lora", "{rank: 2, depth: 3}", {"query-value"});
  std::map<std::string, torch::Tensor> values;
  for (const auto& [name, value] : first.adapted->state()) values[name] = torch::randn_like(value);
  EXPECT_TRUE(values.count("adapter/query_key_value.query.weight/W1")) << values.begin()->first;
  first.adapted->load_state(values, "test");
  second.adapted->load_state(values, "test");
  EXPECT_TRUE(torch::equal(first.output(), second.output()));
}

TEST(FusedRowsTest, GradientAtTheWholeWeightReachesItWhileBlocksAreAdapted) {
  // What compressed starts ask for. Oracle: the unfused model's gradients, put together.
  TempFolder folder;
  Adapted fused(folder, Form::heads, "lora", "rank: 2", {"query-value"}),
      plain(folder, Form::unfused, "lora", "rank: 2", {"query-value"});
  std::vector<torch::Tensor> parts(3);
  for (auto& site : plain.model->sites())
    if (site.kind == SiteKind::linear)
      parts[site.role == "query" ? 0 : site.role == "key" ? 1 : 2] = site.weight.set_requires_grad(true);
  const auto expected = torch::autograd::grad({plain.output().pow(2).sum()}, parts);
  const torch::Tensor whole = fused.adapted->adapters()[0].site.archive_weight();
  whole.set_requires_grad(true);
  const torch::Tensor found = torch::autograd::grad({fused.output().pow(2).sum()}, {whole})[0];
  EXPECT_TRUE(close(found, by_head(torch::cat(expected, 0)), 1e-12));
  EXPECT_TRUE(close(fused.adapted->adapters()[1].site.block.of(found), expected[2], 1e-12));
}

TEST(FusedRowsTest, PeftPairsHaveZerosInTheOtherRows) {
  for (const Form form : {Form::conv1d, Form::heads}) {
    TempFolder folder;
    Adapted fused(folder, form, "deep-lora", "rank: 2", {"query-value"});
    torch::NoGradGuard no_grad;
    for (auto& [name, value] : fused.factors) value.normal_();
    save_peft_folder(folder / "peft", fused.archive, *fused.adapted, {.task = "classification"});
    const auto files = load_tensors(folder / "peft/adapter_model.safetensors").tensors;
    std::string names;
    for (const auto& [key, unused] : files) names += key + " ";
    ASSERT_EQ(files.size(), 2u) << names;
    const std::string module = cat("base_model.model.", form == Form::conv1d ? "c_attn" : "query_key_value");
    const torch::Tensor a = files.at(module + ".lora_A.weight"), b = files.at(module + ".lora_B.weight");
    EXPECT_EQ(a.size(0), 4);
    // PEFT adds lora_alpha / r x B A to a linear layer's weight, its transpose to a Conv1D's
    const auto settings = nlohmann::json::parse(std::ifstream(folder / "peft/adapter_config.json"));
    const double scale = settings.at("lora_alpha").get<double>() / settings.at("r").get<double>();
    torch::Tensor delta = scale * b.matmul(a);
    const auto [name, merged] = fused.adapted->merged_weights().at(0);
    if (form == Form::conv1d) delta = delta.t();
    EXPECT_TRUE(close(fused.archive.tensor(name) + delta, merged, 1e-10));
  }
}

TEST(FusedRowsTest, ANativeProjectionTakesBlocksToo) {
  torch::manual_seed(8);
  Projection fused("attn.qkv.weight", torch::randn({9, 5}), torch::randn({9}));
  std::vector<AdapterSite> sites{fused->site("query_key_value", SiteKind::linear)};
  find_row_blocks(sites, {}, FusedLayout::blocks);
  const auto chosen = choose_sites(sites, {"value"});
  ASSERT_EQ(chosen.size(), 1u);
  AdapterContext context{.path = chosen[0].path,
                         .kind = SiteKind::linear,
                         .weight = chosen[0].weight,
                         .generator = at::detail::createCPUGenerator(3),
                         .leading_gradient = {}};
  const auto adapter = factory_of("lora", "rank: 2")(context);
  for (const auto& [name, value] : adapter->tensors()) value.detach().normal_();
  chosen[0].attach(adapter);
  const torch::Tensor x = torch::randn({4, 5});
  torch::Tensor weight = fused->weight().clone();
  weight.narrow(0, 6, 3).add_(adapter->delta());
  EXPECT_TRUE(close(fused(x), torch::linear(x, weight, fused->bias()), 1e-5));
  chosen[0].attach(nullptr);
  EXPECT_TRUE(close(fused(x), torch::linear(x, fused->weight(), fused->bias()), 1e-6));
}

TEST(FusedRowsTest, AnUnknownLayoutIsAnErrorThatSaysWhatToDo) {
  AdapterSite site;
  site.path = "layer.qkv.weight";
  site.role = "query_key_value";
  site.weight = torch::zeros({12, 4});
  std::vector<AdapterSite> sites{site};
  find_row_blocks(sites, {"config.json", {{"model_type", "strange"}}}, FusedLayout::automatic);
  const std::string message = error_of([&] { choose_sites(sites, {"query-value"}); });
  EXPECT_NE(message.find("layer.qkv.weight"), std::string::npos) << message;
  EXPECT_NE(message.find("model_type 'strange'"), std::string::npos) << message;
  EXPECT_NE(message.find("adapter.fused_layout"), std::string::npos) << message;
  EXPECT_EQ(choose_sites(sites, {"all-linear"}).size(), 1u);
  std::vector<AdapterSite> wrong{site};
  find_row_blocks(wrong, {"config.json", {{"model_type", "gpt2"}, {"n_head", 2}, {"n_embd", 6}}},
                  FusedLayout::automatic);
  EXPECT_NE(error_of([&] { choose_sites(wrong, {"query"}); }).find("its 12 rows are not"), std::string::npos);
}

TEST(FusedRowsTest, LayoutsOfTheFamilies) {
  // Oracle: the attention modules of transformers. {groups, query rows in each, key rows, value rows}
  struct Case {
    const char* config;
    int64_t rows, groups, query, key;
  };
  const std::vector<Case> cases{
      {R"({"model_type": "phi3", "num_attention_heads": 8, "num_key_value_heads": 2, "hidden_size": 32})", 48, 1, 32,
       8},
      {R"({"model_type": "gpt_bigcode", "n_head": 4, "n_embd": 16, "multi_query": true})", 24, 1, 16, 4},
      {R"({"model_type": "bloom", "n_head": 4, "hidden_size": 16})", 48, 4, 4, 4},
      {R"({"model_type": "falcon", "num_attention_heads": 4, "hidden_size": 16, "multi_query": true})", 24, 1, 16, 4},
      {R"({"model_type": "falcon", "num_attention_heads": 4, "hidden_size": 16, "multi_query": false})", 48, 4, 4, 4},
      {R"({"model_type": "falcon", "num_attention_heads": 4, "num_kv_heads": 2, "hidden_size": 16, "new_decoder_architecture": true})",
       32, 2, 8, 4}};
  for (const auto& c : cases) {
    AdapterSite site;
    site.path = "a.query_key_value.weight";
    site.role = "query_key_value";
    site.weight = torch::zeros({c.rows, 16});
    std::vector<AdapterSite> sites{site};
    find_row_blocks(sites, JsonFile::parse("config.json", c.config), FusedLayout::automatic);
    ASSERT_EQ(sites[0].blocks.size(), 3u) << c.config << sites[0].layout_unknown;
    const RowBlock &query = sites[0].blocks[0], &key = sites[0].blocks[1], &value = sites[0].blocks[2];
    EXPECT_EQ(query.groups, c.groups) << c.config;
    EXPECT_EQ(query.size, c.query) << c.config;
    EXPECT_EQ(key.size, c.key) << c.config;
    EXPECT_EQ(key.offset, c.query) << c.config;
    EXPECT_EQ(value.offset, c.query + c.key) << c.config;
    EXPECT_EQ(value.size, c.key) << c.config;
  }
}

}  // namespace
}  // namespace deeplora
