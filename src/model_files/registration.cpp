#include "model_files/registration.h"

#include "model_files/huggingface_folder.h"
#include "model_files/torchscript_file.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

template <class Kind>
std::shared_ptr<ModelFiles> open(const fs::path& path, torch::Device device) {
  return std::make_shared<Kind>(Kind::load(path, device));
}

bool is_folder(const fs::path& path) {
  std::error_code ignored;
  return fs::is_directory(path, ignored);
}

bool is_file(const fs::path& path) { return !is_folder(path); }

}  // namespace

const std::vector<ModelFileKind>& model_file_kinds() {
  static const std::vector<ModelFileKind> kinds{
      {"Hugging Face folder", is_folder, open<HuggingFaceFolder>},
      {"TorchScript archive", is_file, open<TorchScriptArchive>},
  };
  return kinds;
}

std::shared_ptr<ModelFiles> open_model_files(const fs::path& path, torch::Device device) {
  for (const auto& kind : model_file_kinds())
    if (kind.recognises(path)) return kind.open(path, device);
  fail("model ", path.string(), " is of no known kind");
}

}  // namespace deeplora
