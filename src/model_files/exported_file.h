// A program of torch.export as torch.export.save writes it (.pt2): a zip of a graph in JSON, raw weights and extra
// files.
#pragma once

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <memory>
#include <string>

#include "model_files/code_files.h"
#include "model_files/exported_program.h"

namespace deeplora {

class ExportedFile : public CodeFiles {
 public:
  /// Reads the graph and maps the weights, which stay in their file; nothing is run or unpickled. Reads what
  /// PyTorch 2.9 and later write. Throws Error, with what to do, for files of older versions, compiled packages
  /// (AOTInductor), pickled tensors, operators and control flow that have no counterpart (by name), and for anything
  /// that is damaged.
  static ExportedFile load(const std::filesystem::path& path, torch::Device device = torch::kCPU);
  /// Whether such a program lies there, by its content.
  static bool recognises(const std::filesystem::path& path);
  /// Whether `deeplora export` wrote it.
  static bool exported_here(const std::filesystem::path& path);

  std::string kind() const override { return "exported program"; }
  std::pair<std::string, std::string> merged_form() const override { return {"pt2", ".pt2"}; }
  std::string how_to_export() const override {
    return "export it again with torch.export.export(..., dynamic_shapes=...), a batch of two in the example";
  }
  /// The program's name in its file ("model").
  const std::string& model() const { return model_; }
  const ExportedProgram& program() const { return *program_; }
  /// The graph's value behind an argument ("input_ids"), or an entry of a dict argument ("batch.ids").
  const std::map<std::string, std::string>& arguments() const { return arguments_; }
  /// Tensors by name, and where in the file their values lie: "data/weights/weight_3".
  const std::map<std::string, ExportedPayload>& payloads() const { return payloads_; }

 private:
  std::string model_;
  std::shared_ptr<const ExportedProgram> program_;
  std::map<std::string, std::string> arguments_;
  std::map<std::string, ExportedPayload> payloads_;
};

/// Names of an archive's files in it, without its own folder in front.
inline constexpr const char *kExportedWeights = "data/weights/", *kExportedConstants = "data/constants/";

}  // namespace deeplora
