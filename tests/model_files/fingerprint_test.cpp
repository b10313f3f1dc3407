// Oracle: what was changed in the file, and the checksum of all bytes in one row that earlier versions made.
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <chrono>
#include <fstream>
#include <random>
#include <thread>

#include "core/files.h"
#include "core/findings.h"
#include "core/fingerprint.h"
#include "core/parallel.h"
#include "support/tiny_archive.h"

namespace deeplora {
namespace {

namespace fs = std::filesystem;
using testing::TempFolder;

/// Weights of several megabytes and of none.
fs::path write_archive(const fs::path& file, torch::ScalarType type = torch::kFloat32) {
  torch::manual_seed(5);
  torch::jit::Module module("__torch__.Large");
  module.register_parameter("large", torch::randn({1031, 701}).to(type), false);
  module.register_parameter("small", torch::randn({7}).to(type), false);
  module.register_parameter("none", torch::empty({0, 3}).to(type), false);
  module.register_buffer("turned", torch::randn({64, 9}).t().to(type));
  module.define("def forward(self, x: Tensor) -> Tensor:\n    return x + 1\n");
  TorchScriptArchive::save(module, {}, file);
  return file;
}

/// As versions before 0.3 made it.
std::string of_earlier_versions(const ModelFiles& files) {
  Fingerprint print;
  for (const auto& [name, value] : files.tensors()) {
    const torch::Tensor bytes = value.detach().contiguous();
    print.add(std::string_view(name));
    print.add(std::span<const int64_t>(bytes.sizes().data(), bytes.sizes().size()));
    print.add(static_cast<int64_t>(bytes.scalar_type()));
    print.add(bytes.const_data_ptr(), bytes.nbytes());
  }
  return print.hex();
}

TEST(FingerprintTest, IsTheSameForAnyNumberOfThreadsAndChangesWithEveryByte) {
  TempFolder folder;
  const fs::path file = write_archive(folder / "m.pt");
  const int64_t threads = parallel_threads();
  const std::string whole = TorchScriptArchive::load(file).fingerprint();
  use_threads(3);
  EXPECT_EQ(TorchScriptArchive::load(file).fingerprint(), whole);
  use_threads(threads);
  std::mt19937 random(3);
  for (int draw = 0; draw < 10; ++draw) {
    const auto archive = TorchScriptArchive::load(file);
    torch::Tensor value = archive.tensor(draw == 0 ? "small" : draw == 1 ? "turned" : "large");
    torch::Tensor flat = value.view(torch::kInt32).as_strided({value.numel()}, {1});
    flat[static_cast<int64_t>(random() % static_cast<uint64_t>(flat.numel()))].bitwise_xor_(1 << (random() % 23));
    EXPECT_NE(archive.fingerprint(), whole) << draw;
  }
}

TEST(FingerprintTest, OneOfAnEarlierVersionIsRecognisedAndKept) {
  TempFolder folder;
  for (const auto type : {torch::kFloat32, torch::kBFloat16}) {
    const auto files = TorchScriptArchive::load(write_archive(folder / "m.pt", type));
    const std::string today = files.fingerprint(), earlier = of_earlier_versions(files);
    ASSERT_NE(today, earlier);
    EXPECT_TRUE(files.is(today));
    EXPECT_FALSE(files.is("0123456789abcdef"));
    EXPECT_EQ(files.fingerprint(), today);
    EXPECT_TRUE(files.is(earlier));
    EXPECT_EQ(files.fingerprint(), earlier) << "what is compared with it was written by that version";
    TorchScriptArchive::load(folder / "m.pt").check_same(files);
  }
}

TEST(FingerprintTest, AWeightThatIsNotFiniteIsFoundWhereverItLies) {
  TempFolder folder;
  std::mt19937 random(9);
  for (const auto type : {torch::kFloat64, torch::kFloat32, torch::kHalf, torch::kBFloat16}) {
    const fs::path file = write_archive(folder / "m.pt", type);
    for (int draw = 0; draw < 4; ++draw) {
      const auto files = TorchScriptArchive::load(file);
      torch::Tensor value = files.tensor("large");
      const auto place = static_cast<int64_t>(random() % static_cast<uint64_t>(value.numel()));
      value.view(-1)[place] = draw % 2 == 0 ? std::nan("") : -std::numeric_limits<double>::infinity();
      const std::string said = testing::error_of([&] { files.check_finite(); });
      EXPECT_NE(said.find(cat("large holds ", draw % 2 == 0 ? "nan" : "-inf", " at [", place / 701, ", ", place % 701)),
                std::string::npos)
          << said;
    }
    TorchScriptArchive::load(file).check_finite();
  }
}

TEST(FingerprintTest, IsRememberedUntilTheFileChanges) {
  TempFolder folder;
  const fs::path file = write_archive(folder / "m.pt"), cache = folder / "cache";
  const std::string first = TorchScriptArchive::load(file).fingerprint();
  std::this_thread::sleep_for(std::chrono::milliseconds(3100));
  keep_findings(cache);
  EXPECT_EQ(TorchScriptArchive::load(file).fingerprint(), first);
  const fs::path entry = fs::directory_iterator(cache)->path();
  auto kept = nlohmann::json::parse(read_file(entry));
  EXPECT_EQ(kept["found"], first);
  kept["found"] = "0123456789abcdef";
  std::ofstream(entry) << kept.dump();
  EXPECT_EQ(TorchScriptArchive::load(file).fingerprint(), "0123456789abcdef") << "the file was not read again";
  auto changed = TorchScriptArchive::load(file);
  changed.set_tensor("small", torch::full({7}, std::nan("")));
  EXPECT_NE(testing::error_of([&] { changed.check_finite(); }).find("small holds nan"), std::string::npos);
  keep_findings(cache, /*recompute=*/true);
  EXPECT_EQ(TorchScriptArchive::load(file).fingerprint(), first);
  keep_findings(cache);
  EXPECT_EQ(TorchScriptArchive::load(file).fingerprint(), first);
  keep_findings({});
}

}  // namespace
}  // namespace deeplora
