#include "graph/torchscript_forward.h"
#include "model_files/torchscript_file.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <cmath>
#include <fstream>
#include <limits>

#include "core/files.h"
#include "model_files/torchscript_code.h"
#include "support/tiny_archive.h"

namespace deeplora {
namespace {

using testing::error_of;
using testing::TempFolder;
using testing::tiny_batch;
using testing::write_tiny_archive;

TEST(ArchiveTest, ListsWeightsInputsAndExtraFiles) {
  TempFolder folder;
  const auto archive = TorchScriptArchive::load(
      write_tiny_archive(folder / "m.pt", {{"config.json", R"({"model_type": "tiny"})"}, {"vocab.txt", "a\nb\n"}}));
  EXPECT_EQ(archive.names(), (std::vector<std::string>{"table.weight", "dense.weight", "dense.bias"}));
  EXPECT_EQ(archive.inputs(), (std::vector<std::string>{"input_ids", "attention_mask"}));
  EXPECT_EQ(archive.parameter_count(), 66 + 36 + 6);
  EXPECT_EQ(archive.config().at<std::string>("model_type"), "tiny");
  EXPECT_EQ(archive.extra("vocab.txt"), "a\nb\n");
  EXPECT_EQ(archive.extra("nothing"), std::nullopt);
  EXPECT_NE(error_of([&] { archive.tensor("dense.wight"); }).find("did you mean 'dense.weight'"), std::string::npos);
}

TEST(ArchiveTest, SetTensorKeepsShapeAndCodeAndChangesTheFingerprint) {
  TempFolder folder;
  auto archive = TorchScriptArchive::load(write_tiny_archive(folder / "m.pt"));
  auto same = TorchScriptArchive::load(folder / "m.pt");
  EXPECT_EQ(archive.fingerprint(), same.fingerprint());
  same.set_tensor("dense.bias", torch::zeros({6}));
  TorchScriptArchive::save(same.module(), same.extras(), folder / "changed.pt");
  const auto changed = TorchScriptArchive::load(folder / "changed.pt");
  EXPECT_NE(archive.fingerprint(), changed.fingerprint());
  EXPECT_TRUE(torch::equal(changed.tensor("dense.bias"), torch::zeros({6})));
  EXPECT_NE(
      error_of([&] { archive.set_tensor("dense.bias", torch::zeros({5})); }).find("expected shape [6], found [5]"),
      std::string::npos);
}

TEST(ArchiveTest, AWeightThatIsNotFiniteIsNamedWithThePlaceInIt) {
  TempFolder folder;
  auto archive = TorchScriptArchive::load(write_tiny_archive(folder / "m.pt"));
  archive.check_finite();
  torch::Tensor weight = archive.tensor("dense.weight").detach().clone();
  weight[2][4] = std::numeric_limits<float>::infinity();
  weight[5][1] = std::nan("");
  archive.set_tensor("dense.weight", weight);
  const std::string said = error_of([&] { archive.check_finite(); });
  for (const char* word : {"m.pt", "dense.weight holds inf at [2, 4]", "2 of 36"})
    EXPECT_NE(said.find(word), std::string::npos) << said;
}

TEST(ArchiveTest, WhatIsNotFiniteIsFoundInEveryType) {
  TempFolder folder;
  const auto archive = TorchScriptArchive::load(write_tiny_archive(folder / "m.pt"));
  for (const auto type : {torch::kFloat64, torch::kFloat32, torch::kHalf, torch::kBFloat16}) {
    auto module = archive.module();  // shares the tensors
    module.to(type);
    TorchScriptArchive::save(module, archive.extras(), folder / "typed.pt");
    for (const double bad : {std::nan(""), -std::numeric_limits<double>::infinity(), 65504.0, 1e-7}) {
      auto typed = TorchScriptArchive::load(folder / "typed.pt");
      ASSERT_EQ(typed.tensor("dense.weight").scalar_type(), type);
      torch::Tensor weight = typed.tensor("dense.weight").detach().to(torch::kFloat64);
      weight[5][5] = bad;
      typed.set_tensor("dense.weight", weight);
      const std::string said = error_of([&] { typed.check_finite(); });
      EXPECT_EQ(said == "no error", std::isfinite(bad)) << bad << " " << type << " " << said;
      EXPECT_TRUE(std::isfinite(bad) || said.find("at [5, 5] (1 of 36 values") != std::string::npos) << said;
    }
  }
}

TEST(ArchiveTest, AnArchiveThatWasReplacedIsNotTheSame) {
  TempFolder folder;
  const auto before = TorchScriptArchive::load(write_tiny_archive(folder / "m.pt"));
  auto after = TorchScriptArchive::load(folder / "m.pt");
  after.check_same(before);
  after = TorchScriptArchive::load(folder / "m.pt");
  after.set_tensor("dense.bias", torch::zeros({6}));
  EXPECT_NE(error_of([&] { after.check_same(before); }).find("changed while it was in use"), std::string::npos);
}

TEST(ArchiveTest, FilesThatAreNoArchiveAreErrorsThatSayWhat) {
  TempFolder folder;
  EXPECT_NE(error_of([&] { TorchScriptArchive::load(folder / "none.pt"); }).find("does not exist"), std::string::npos);
  write_file_atomically(folder / "text.pt", "hello");
  EXPECT_NE(error_of([&] { TorchScriptArchive::load(folder / "text.pt"); }).find("not a TorchScript file"),
            std::string::npos);
  torch::save(torch::ones({3}), (folder / "tensor.pt").string());
  EXPECT_NE(error_of([&] { TorchScriptArchive::load(folder / "tensor.pt"); }), "no error");
  const std::string whole = read_file(write_tiny_archive(folder / "m.pt"));
  for (const size_t cut : {whole.size() / 4, whole.size() / 2, whole.size() - 40}) {
    write_file_atomically(folder / "cut.pt", whole.substr(0, cut));
    EXPECT_NE(error_of([&] { TorchScriptArchive::load(folder / "cut.pt"); }).find("truncated or damaged"),
              std::string::npos)
        << cut;
  }
}

TEST(ArchiveTest, CodeThatRunsAtLoadingIsFoundWithoutRunningIt) {
  TempFolder folder;
  EXPECT_NO_THROW(check_loads_without_running(write_tiny_archive(folder / "m.pt")));
  torch::jit::Module module = testing::tiny_module();
  module.define(R"(
def __getstate__(self) -> int:
    return 1
def __setstate__(self, state: int) -> None:
    assert state == 2, "it ran"
)");
  TorchScriptArchive::save(module, {}, folder / "runs.pt");
  EXPECT_NE(error_of([&] { check_loads_without_running(folder / "runs.pt"); }).find("runs code while it is loaded"),
            std::string::npos);
}

TEST(ArchiveTest, ExtraFilesAreCheckedBeforeTheyAreRead) {
  TempFolder folder;
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  write_tiny_archive(folder / "deep.pt", {{"config.json", deep}});
  EXPECT_NE(error_of([&] { TorchScriptArchive::load(folder / "deep.pt"); }).find("config.json: nests deeper than"),
            std::string::npos);
  write_tiny_archive(folder / "escape.pt", {{"../../outside.txt", "x"}});
  EXPECT_NE(error_of([&] { TorchScriptArchive::load(folder / "escape.pt"); }).find("could leave its folder"),
            std::string::npos);
}

TEST(ArchiveForwardTest, ChoosesOutputsByKeyAndNamesTheRest) {
  TempFolder folder;
  const auto archive = TorchScriptArchive::load(write_tiny_archive(folder / "m.pt"));
  const auto first = ArchiveForward(archive, {})(tiny_batch());
  EXPECT_EQ(first.sizes(), (std::vector<int64_t>{2, 4, 6}));
  EXPECT_TRUE(torch::equal(first, ArchiveForward(archive, {.inputs = {}, .output = "hidden"})(tiny_batch())));
  EXPECT_NE(error_of([&] {
              ArchiveForward(archive, {.inputs = {}, .output = "logits"})(tiny_batch());
            }).find("a dict with hidden"),
            std::string::npos);
  EXPECT_NE(error_of([&] {
              ArchiveForward(archive, {.inputs = {{"input_ids", "tokens"}}, .output = ""});
            }).find("no input 'tokens'"),
            std::string::npos);
}

TEST(ArchiveForwardTest, AFailingForwardIsOneLine) {
  TempFolder folder;
  const auto archive = TorchScriptArchive::load(write_tiny_archive(folder / "m.pt"));
  Batch batch = tiny_batch();
  batch.input_ids = batch.input_ids + 100;
  const std::string message = error_of([&] { ArchiveForward(archive, {})(batch); });
  EXPECT_NE(message.find("index out of range"), std::string::npos) << message;
  EXPECT_EQ(message.find('\n'), std::string::npos) << message;
}

}  // namespace
}  // namespace deeplora
