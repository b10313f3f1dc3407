#include "model_files/registration.h"

#include "model_files/exported_file.h"
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

bool never(const fs::path&) { return false; }

const ModelFileKind& kind_of(const fs::path& path) {
  for (const auto& kind : model_file_kinds())
    if (kind.recognises(path)) return kind;
  fail("model ", path.string(), " is of no known kind");
}

}  // namespace

const std::vector<ModelFileKind>& model_file_kinds() {
  static const std::vector<ModelFileKind> kinds{
      {"Hugging Face folder", is_folder, open<HuggingFaceFolder>, never},
      {"exported program", ExportedFile::recognises, open<ExportedFile>, ExportedFile::exported_here},
      {"TorchScript archive", is_file, open<TorchScriptArchive>, TorchScriptArchive::exported_here},
  };
  return kinds;
}

std::shared_ptr<ModelFiles> open_model_files(const fs::path& path, torch::Device device) {
  return kind_of(path).open(path, device);
}

bool is_deeplora_export(const fs::path& path) { return kind_of(path).exported_here(path); }

}  // namespace deeplora
