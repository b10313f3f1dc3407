// Oracle: torch::jit::load() of the same file.
#include "model_files/archive_in_place.h"

#include <caffe2/serialize/inline_container.h>
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <fstream>
#include <random>

#include "model_files/torchscript_file.h"
#include "support/mapped.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {

namespace fs = std::filesystem;
using testing::lies_in;
using testing::TempFolder;

constexpr int64_t kLarge = 1 << 16;  // bytes

/// Weights of several types, many of them of one size, some tied, some small; a constant of the code as large as they.
torch::jit::Module drawn_module(std::mt19937& random) {
  const auto any = [&](int64_t most) { return static_cast<int64_t>(random() % static_cast<uint64_t>(most)); };
  torch::manual_seed(static_cast<uint64_t>(random()));
  torch::jit::Module out("__torch__.Drawn");
  const int64_t side = 128 + 8 * any(8), count = 4 + any(12);
  std::vector<torch::Tensor> values;
  for (int64_t i = 0; i < count; ++i) {
    const torch::ScalarType type = std::vector{torch::kFloat32, torch::kBFloat16, torch::kFloat64}[size_t(any(3))];
    torch::Tensor value = torch::randn({any(4) == 0 ? 3 : side, side * 2}).to(type);
    if (!values.empty() && any(4) == 0) value = values[size_t(any(std::ssize(values)))];
    if (any(5) == 0) value = value.slice(0, 1).detach();  // in the middle of a larger storage
    values.push_back(value);
    if (any(3) == 0) out.register_buffer(cat("b", i), value);
    else out.register_parameter(cat("p", i), value.detach(), false);
  }
  out.define("def forward(self, x: Tensor) -> Tensor:\n    return x + 1\n");
  out.eval();
  return out;
}

void expect_same(const torch::jit::Module& ours, const torch::jit::Module& theirs) {
  const auto both = [&](const auto& a, const auto& b) {
    auto other = b.begin();
    for (const auto& [name, value] : a) {
      ASSERT_TRUE(other != b.end());
      EXPECT_EQ(name, (*other).name);
      EXPECT_EQ(value.scalar_type(), (*other).value.scalar_type());
      EXPECT_EQ(value.strides(), (*other).value.strides());
      EXPECT_TRUE(torch::equal(value, (*other).value)) << name;
      EXPECT_EQ(value.storage_offset(), (*other).value.storage_offset());
      ++other;
    }
    EXPECT_FALSE(other != b.end());
  };
  both(ours.named_parameters(), theirs.named_parameters());
  both(ours.named_buffers(), theirs.named_buffers());
}

TEST(ArchiveInPlaceTest, HoldsWhatLibTorchLoads) {
  std::mt19937 random(7);
  TempFolder folder;
  const fs::path file = folder / "m.pt";
  for (int draw = 0; draw < 12; ++draw) {
    TorchScriptArchive::save(drawn_module(random), {{"config.json", std::string(size_t(kLarge), ' ')}}, file);
    const ArchiveInPlace loaded = load_in_place(file);
    const auto theirs = torch::jit::load(file.string());
    expect_same(loaded.module, theirs);
    for (const auto& [name, value] : loaded.module.named_parameters())
      EXPECT_EQ(lies_in(value, file), int64_t(value.storage().nbytes()) >= kLarge) << name << " " << value.sizes();
    // Whoever shares a storage shares it still.
    for (const auto& a : loaded.module.named_parameters())
      for (const auto& b : loaded.module.named_parameters()) {
        const auto same = [](const torch::jit::Module& m, const std::string& x, const std::string& y) {
          return m.attr(x).toTensor().storage().data() == m.attr(y).toTensor().storage().data();
        };
        EXPECT_EQ(same(loaded.module, a.name, b.name), same(theirs, a.name, b.name)) << a.name << " " << b.name;
      }
  }
}

TEST(ArchiveInPlaceTest, WritingToAWeightLeavesTheFileAsItIs) {
  TempFolder folder;
  const fs::path file = folder / "m.pt";
  torch::jit::Module module("__torch__.One");
  module.register_parameter("weight", torch::randn({256, 256}), false);
  module.define("def forward(self, x: Tensor) -> Tensor:\n    return x @ self.weight\n");
  TorchScriptArchive::save(module, {}, file);
  const torch::Tensor before = module.attr("weight").toTensor().clone();
  ArchiveInPlace loaded = load_in_place(file);
  loaded.module.attr("weight").toTensor().mul_(2);
  EXPECT_TRUE(torch::equal(loaded.module.attr("weight").toTensor(), 2 * before));
  EXPECT_TRUE(torch::equal(load_in_place(file).module.attr("weight").toTensor(), before));
  fs::remove(file);
  EXPECT_TRUE(torch::equal(loaded.module.attr("weight").toTensor(), 2 * before));
}

/// The same archive with its tensors in another order, as other writers may have them.
void write_shuffled(const fs::path& from, const fs::path& to, std::mt19937& random) {
  caffe2::serialize::PyTorchStreamReader reader(from.string());
  caffe2::serialize::PyTorchStreamWriter writer(to.string());
  std::vector<std::string> records = reader.getAllRecords();
  std::shuffle(records.begin(), records.end(), random);
  for (const auto& name : records) {
    if (name.starts_with(".") || name == "version" || name == "byteorder") continue;
    auto [data, size] = reader.getRecord(name);
    writer.writeRecord(name, data.get(), size);
  }
  writer.writeEndOfFile();
}

TEST(ArchiveInPlaceTest, AnotherOrderInTheFileChangesNothing) {
  std::mt19937 random(11);
  TempFolder folder;
  const fs::path file = folder / "m.pt", other = folder / "other.pt";
  bool read = false;
  for (int draw = 0; draw < 8; ++draw) {
    TorchScriptArchive::save(drawn_module(random), {}, file);
    write_shuffled(file, other, random);
    const ArchiveInPlace loaded = load_in_place(other);
    expect_same(loaded.module, torch::jit::load(file.string()));
    for (const auto& [unused, value] : loaded.module.named_parameters())
      if (int64_t(value.storage().nbytes()) >= kLarge) {
        const torch::Tensor found = loaded.stored->find(value.contiguous());
        EXPECT_TRUE(found.defined() ? torch::equal(found, value) : value.nbytes() != value.storage().nbytes());
        read |= !lies_in(value, other);
      }
  }
  EXPECT_TRUE(read) << "no draw was out of order";
}

}  // namespace
}  // namespace deeplora
