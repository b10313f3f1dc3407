// A program of torch.export as torch.export.save writes it (.pt2): a zip of a graph in JSON, raw weights and extra
// files.
#pragma once

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <set>
#include <string>

#include "model_files/code_files.h"
#include "model_files/exported_program.h"

namespace deeplora {

/// What a file of PyTorch 2.8 or 2.7 holds in another way than files of today, for whoever writes it again.
struct OlderLayout {
  std::map<std::string, std::string> records;  ///< those of today that the file lacks, its tensors apart
  std::set<std::string> pickles;               ///< of tensors, which have no place in a file of today
  bool flat = false;                           ///< PyTorch 2.7's: no other record of it is one of today's
};

class ExportedFile : public CodeFiles {
 public:
  /// Reads the graph and maps the weights, which stay in their file; nothing is run or unpickled. Reads what
  /// PyTorch 2.9 and later write, and of 2.8 and 2.7 files whose pickles hold nothing but plain tensors, which are read
  /// as data. Throws Error, with what to do, for files of older versions, compiled packages (AOTInductor), other
  /// pickles, operators and control flow that have no counterpart (by name), and for anything that is damaged.
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
  /// Of a file of PyTorch 2.8 or 2.7, whose payloads() have the paths that a file of today gives them; else none.
  const std::optional<OlderLayout>& older_layout() const { return older_; }

 private:
  std::string model_;
  std::shared_ptr<const ExportedProgram> program_;
  std::map<std::string, std::string> arguments_;
  std::map<std::string, ExportedPayload> payloads_;
  std::optional<OlderLayout> older_;
};

/// Names of an archive's files in it, without its own folder in front.
inline constexpr const char *kExportedWeights = "data/weights/", *kExportedConstants = "data/constants/";

}  // namespace deeplora
