// Oracle: the values before, and where the kernel says a page lies.
#include "model_files/stored_tensors.h"

#include <gtest/gtest.h>
#include <torch/torch.h>

#include <chrono>
#include <fstream>
#include <thread>

#include "model_files/torchscript_file.h"
#include "support/mapped.h"
#include "support/tiny_archive.h"

namespace deeplora {
namespace {

namespace fs = std::filesystem;
using testing::lies_in;
using testing::TempFolder;
using testing::write_tiny_archive;

TEST(StoredTensorsTest, AStorageAndWhoeverSharesItLieInTheFile) {
  TempFolder folder;
  const fs::path file = write_tiny_archive(folder / "m.pt");
  const auto archive = TorchScriptArchive::load(file);
  const torch::Tensor weight = archive.tensor("dense.weight").detach(), turned = weight.t(), before = weight.clone();
  EXPECT_FALSE(lies_in(weight, file));
  ASSERT_TRUE(archive.stored()->take_over(turned));
  for (const torch::Tensor& x : {weight, archive.tensor("dense.weight")}) {
    EXPECT_TRUE(lies_in(x, file));
    EXPECT_TRUE(torch::equal(x, before));
  }
  EXPECT_TRUE(torch::equal(turned, before.t()));
  EXPECT_FALSE(lies_in(archive.tensor("table.weight"), file));
  EXPECT_FALSE(archive.stored()->take_over(weight)) << "it lies there already";
}

TEST(StoredTensorsTest, FindsWhatWasMovedTogether) {
  TempFolder folder;
  const fs::path file = write_tiny_archive(folder / "m.pt");
  const auto archive = TorchScriptArchive::load(file);
  const torch::Tensor weight = archive.tensor("dense.weight").detach(), joined = torch::cat({weight, weight + 1}),
                      part = joined.narrow(0, 0, weight.size(0));
  EXPECT_FALSE(archive.stored()->take_over(part)) << "the file holds half of its storage";
  const torch::Tensor found = archive.stored()->find(part);
  ASSERT_TRUE(found.defined());
  EXPECT_TRUE(lies_in(found, file));
  EXPECT_EQ(found.sizes(), part.sizes());
  EXPECT_TRUE(torch::equal(found, weight));
  EXPECT_FALSE(archive.stored()->find(joined.narrow(0, weight.size(0), weight.size(0))).defined());
  EXPECT_FALSE(archive.stored()->find(part.t()).defined()) << "not as it lies in the file";
}

TEST(StoredTensorsTest, WritingToATensorLeavesTheFileAsItIs) {
  TempFolder folder;
  const fs::path file = write_tiny_archive(folder / "m.pt");
  const auto archive = TorchScriptArchive::load(file);
  const torch::Tensor weight = archive.tensor("dense.weight").detach(), before = weight.clone();
  ASSERT_TRUE(archive.stored()->take_over(weight));
  weight.mul_(2);
  EXPECT_TRUE(torch::equal(archive.tensor("dense.weight"), 2 * before));
  EXPECT_TRUE(torch::equal(TorchScriptArchive::load(file).tensor("dense.weight"), before));
  EXPECT_FALSE(archive.stored()->find(weight).defined()) << "the file has other values";
}

TEST(StoredTensorsTest, WeightsThatWereWidenedAreLeftToTheFile) {
  TempFolder folder;
  const fs::path file = folder / "m.pt";
  torch::jit::Module module = testing::tiny_module();
  module.to(torch::kBFloat16);
  TorchScriptArchive::save(module, {}, file);
  const auto archive = TorchScriptArchive::load(file);
  const torch::Tensor before = archive.tensor("dense.weight").detach().clone(),
                      table = archive.tensor("table.weight").detach();
  archive.leave_widened({{"dense.weight", before.to(torch::kFloat32)}, {"table.weight", table}, {"stranger", before}});
  EXPECT_TRUE(lies_in(archive.tensor("dense.weight"), file));
  EXPECT_TRUE(torch::equal(archive.tensor("dense.weight"), before));
  EXPECT_FALSE(lies_in(table, file)) << "the model reads it";
}

TEST(StoredTensorsTest, LivesAsLongAsWhatLooksIntoIt) {
  TempFolder folder;
  const fs::path file = write_tiny_archive(folder / "m.pt");
  torch::Tensor weight, before;
  {
    const auto archive = TorchScriptArchive::load(file);
    weight = archive.tensor("dense.weight").detach();
    before = weight.clone();
    ASSERT_TRUE(archive.stored()->take_over(weight));
  }
  fs::remove(file);  // its pages stay with those who have them mapped
  EXPECT_TRUE(torch::equal(weight, before));
}

TEST(StoredTensorsDeathTest, AFileThatIsCutOffIsAnErrorInOneLine) {
  TempFolder folder;
  const fs::path file = write_tiny_archive(folder / "m.pt");
  const auto archive = TorchScriptArchive::load(file);
  const torch::Tensor weight = archive.tensor("dense.weight").detach();
  ASSERT_TRUE(archive.stored()->take_over(weight));
  fs::resize_file(file, 0);
  EXPECT_EXIT(static_cast<void>(weight.const_data_ptr<float>()[0] > 0 ? std::puts("") : 0),
              ::testing::ExitedWithCode(1), "^error: a model file was cut off");
}

TEST(StoredTensorsTest, AFileThatIsWrittenOverIsNoticed) {
  TempFolder folder;
  const fs::path file = write_tiny_archive(folder / "m.pt");
  const auto archive = TorchScriptArchive::load(file);
  const auto in_memory = TorchScriptArchive::load(file);
  ASSERT_TRUE(archive.stored()->take_over(archive.tensor("dense.weight")));
  fs::rename(file, folder / "moved.pt");
  archive.check_untouched();
  std::this_thread::sleep_for(std::chrono::milliseconds(20));  // the system's clock of files ticks
  {
    std::fstream out(folder / "moved.pt", std::ios::in | std::ios::out | std::ios::binary);
    out << 'P';
  }
  in_memory.check_untouched();  // its weights are copies
  const std::string said = testing::error_of([&] { archive.check_untouched(); });
  EXPECT_NE(said.find("m.pt was written over while it was in use"), std::string::npos) << said;
}

TEST(StoredTensorsTest, AFileThatIsRemovedOrReplacedIsStillThere) {
  TempFolder folder;
  const fs::path file = write_tiny_archive(folder / "m.pt");
  const auto gone = TorchScriptArchive::load(file);
  const torch::Tensor weight = gone.tensor("dense.weight").detach(), before = weight.clone();
  fs::remove(file);
  std::ofstream(file) << "no archive at all";
  EXPECT_TRUE(gone.stored()->take_over(weight));
  EXPECT_TRUE(torch::equal(weight, before));
}

}  // namespace
}  // namespace deeplora
