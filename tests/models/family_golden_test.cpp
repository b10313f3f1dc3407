// Oracle: transformers in float64 (tests/golden/make/families.py wrote the folders and what it computes from them).
#include <gtest/gtest.h>
#include <torch/torch.h>

#include <algorithm>
#include <filesystem>
#include <set>

#include "lm/parity.h"
#include "model_files/huggingface_folder.h"
#include "model_files/tensor_file.h"
#include "models/registration.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {

using testing::TempFolder;
namespace fs = std::filesystem;

ModelFamilies all_families() {
  ModelFamilies families("model family");
  register_model_families(families);
  return families;
}

std::shared_ptr<LanguageModel> native_model(const ModelFiles& files) {
  const ModelFamilies families = all_families();
  for (const auto& name : families.names())
    if (families.at(name).recognises(files)) return families.at(name).build(files, {});
  return nullptr;
}

/// A copy of the folder whose weights are float64.
fs::path widened(const fs::path& folder, const TempFolder& place) {
  const fs::path out = place / folder.filename().string();
  fs::create_directory(out);
  fs::copy(folder / "config.json", out);
  std::vector<NamedTensor> weights;
  for (const auto& [name, value] : load_tensors(folder / "model.safetensors").tensors)
    weights.push_back({name, value.is_floating_point() ? value.to(torch::kFloat64) : value});
  save_tensors(out / "model.safetensors", weights, {});
  return out;
}

std::vector<fs::path> golden_folders() {
  std::vector<fs::path> out;
  for (const auto& entry : fs::directory_iterator(fs::path(DEEPLORA_TEST_DATA) / "golden" / "families"))
    if (entry.is_directory()) out.push_back(entry.path());
  std::sort(out.begin(), out.end());
  return out;
}

TEST(FamilyGoldenTest, FoldersAreComputedAsTransformersDoes) {
  const torch::NoGradGuard no_grad;
  const TempFolder place;
  std::set<std::string> met;
  for (const fs::path& folder : golden_folders()) {
    SCOPED_TRACE(folder.filename().string());
    const auto given = load_tensors(folder / "expected.safetensors").tensors;
    const auto find = [&given](const char* name) { return given.count(name) ? given.at(name) : torch::Tensor(); };
    Batch batch;
    batch.input_ids = find("input_ids");
    batch.attention_mask = find("attention_mask");
    batch.token_type_ids = find("token_type_ids");
    batch.decoder_input_ids = find("decoder_input_ids");
    for (const auto& [path, most] : {std::pair{folder, 1e-5}, {widened(folder, place), 1e-10}}) {
      const HuggingFaceFolder files = HuggingFaceFolder::load(path);
      const auto model = native_model(files);
      ASSERT_TRUE(model);
      met.insert(model->family());
      model->eval();
      EXPECT_LT(relative_difference(output_of(model->forward(batch)), given.at("expected"), output_mask(batch)), most);
    }
  }
  for (const auto& name : all_families().names()) EXPECT_TRUE(met.count(name)) << "no folder for " << name;
}

}  // namespace
}  // namespace deeplora
