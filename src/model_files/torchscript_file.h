// A TorchScript file as users have it: code, weights, and extra files (config.json, tokenizer).
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "model_files/code_files.h"

namespace deeplora {

class TorchScriptArchive : public CodeFiles {
 public:
  /// Reads the file without running its forward. Throws Error when it is missing, truncated, not a zip archive, or a
  /// torch.save checkpoint or torch.export program instead of TorchScript (each with what to do).
  /// Constants that its code reads as weights are parameters like others. Devices that the code names follow `device`,
  /// or stay what they are.
  enum class CodeDevices { follow, stay };
  static TorchScriptArchive load(const std::filesystem::path& file, torch::Device device = torch::kCPU,
                                 CodeDevices devices = CodeDevices::follow);

  std::string kind() const override { return "TorchScript archive"; }
  std::pair<std::string, std::string> merged_form() const override { return {"torchscript", ".pt"}; }
  std::string how_to_export() const override {
    return "export it again at dynamic shapes (torch.jit.script, or tools/export_torchscript.py)";
  }

  /// Whether `deeplora export` wrote the file; reads no weights. Throws Error as load() does for what is no archive.
  static bool exported_here(const std::filesystem::path& file);

  /// Writes module and extra files through a temporary file. Throws Error on a full disk or missing permission.
  static void save(const torch::jit::Module& module, const std::map<std::string, std::string>& extras,
                   const std::filesystem::path& file);

 private:
  void read_module(torch::Device device);
};

/// True for outputs that are logits of every token, by export.json or, where that is silent, by config.json's
/// architecture
/// ("...ForCausalLM", "...LMHeadModel", "...ForConditionalGeneration") with a forward() of one tensor.
bool gives_logits(const ModelFiles& files);

/// First line of a LibTorch error without its stack, for messages.
std::string short_reason(const std::exception& error);
/// "aten::_weight_int8pack_mm" of LibTorch's error for an operator that has no backward pass; empty for other errors.
std::string without_derivative(const std::exception& error);
/// " at 'x = self.emb(ids)' (model.py:12)": the archive's own line that a TorchScript failure names; empty where it
/// names none.
std::string source_line(const std::exception& error);

}  // namespace deeplora
