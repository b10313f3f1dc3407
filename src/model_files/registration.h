// The kinds of files that a model may lie in.
#pragma once

#include <filesystem>
#include <memory>
#include <string>
#include <vector>

#include "model_files/model_files.h"

namespace deeplora {

/// How a kind is told apart and opened.
struct ModelFileKind {
  std::string name;                                       ///< as ModelFiles::kind() says it
  bool (*recognises)(const std::filesystem::path& path);  ///< by what lies there, not by its name
  std::shared_ptr<ModelFiles> (*open)(const std::filesystem::path& path, torch::Device device);
  bool (*exported_here)(const std::filesystem::path& path);  ///< whether `deeplora export` wrote it as a model that
                                                             ///< predicts by itself; reads no weights
};

/// In the order in which they are asked.
const std::vector<ModelFileKind>& model_file_kinds();

/// Opens whatever lies at `path`. Throws Error when nothing does, or when no kind fits.
std::shared_ptr<ModelFiles> open_model_files(const std::filesystem::path& path, torch::Device device = torch::kCPU);

/// Whether a model that `deeplora export` wrote, with its task in it, lies at `path`. Throws Error as opening does.
bool is_deeplora_export(const std::filesystem::path& path);

}  // namespace deeplora
