// A TorchScript file as users have it: code, weights, and extra files (config.json, tokenizer).
#pragma once

#include <torch/script.h>

#include <filesystem>
#include <map>
#include <optional>
#include <string>
#include <vector>

#include "core/json_file.h"
#include "core/optimizer.h"
#include "model_files/stored_tensors.h"

namespace deeplora {

class TorchScriptArchive {
 public:
  /// Reads the file without running its forward. Throws Error when it is missing, truncated, not a zip archive, or a
  /// torch.save checkpoint or torch.export program instead of TorchScript (each with what to do).
  static TorchScriptArchive load(const std::filesystem::path& file, torch::Device device = torch::kCPU);

  const std::filesystem::path& file() const { return file_; }
  const torch::jit::Module& module() const { return module_; }

  /// Parameters, then buffers, under their archive names. Values are the module's own tensors.
  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  std::vector<std::string> names() const;
  bool has(const std::string& name) const { return index_.count(name) != 0; }
  /// The tensor of that name; Error with the nearest name otherwise.
  const torch::Tensor& tensor(const std::string& name) const;
  /// Overwrites the values in place (cast to the archive's dtype); Error unless the shape is the same.
  void set_tensor(const std::string& name, const torch::Tensor& value);
  /// Throws Error, naming the weight and the place in it, when a parameter holds a NaN or an infinity (buffers may: masks do).
  void check_finite() const;
  /// Throws Error unless the weights are those of `other`: an export reads its archive again, and somebody may have replaced the file.
  void check_same(const TorchScriptArchive& other) const;
  /// The file, for weights that are to be left in it.
  const std::shared_ptr<const StoredTensors>& stored() const { return stored_; }
  /// Leaves those of the archive's tensors to the file of which `taken`, under their names, are copies in another dtype: a model that widened half precision
  /// does not read them again.
  void leave_widened(const std::vector<NamedTensor>& taken) const;
  /// Floating-point and other parameters together (buffers not counted).
  int64_t parameter_count() const;

  /// Argument names of forward, without self.
  const std::vector<std::string>& inputs() const { return inputs_; }
  /// Return type of forward as TorchScript prints it ("Tensor", "Dict[str, Tensor]").
  std::string output_type() const;

  /// Content of the extra file, if it is there.
  std::optional<std::string> extra(const std::string& name) const;
  const std::map<std::string, std::string>& extras() const { return extras_; }
  /// That extra file as a JSON object; empty when it is not there. Throws Error when it is something else.
  JsonFile json(const std::string& name) const;
  /// config.json (Hugging Face), or an empty object.
  const JsonFile& config() const { return config_; }
  /// export.json of tools/export_torchscript.py, or an empty object.
  const JsonFile& export_info() const { return export_info_; }
  /// deeplora.json: what our own export wrote (task, labels), or an empty object.
  const JsonFile& deeplora_info() const { return deeplora_info_; }

  /// 16 hexadecimal digits over names, shapes, dtypes and bytes of all tensors: the identity of the weights.
  const std::string& fingerprint() const;

  /// Writes module and extra files through a temporary file. Throws Error on a full disk or missing permission.
  static void save(const torch::jit::Module& module, const std::map<std::string, std::string>& extras,
                   const std::filesystem::path& file);

 private:
  std::filesystem::path file_;
  torch::jit::Module module_;
  std::shared_ptr<const StoredTensors> stored_;
  std::vector<NamedTensor> tensors_;
  std::map<std::string, size_t> index_;
  std::vector<std::string> inputs_;
  std::map<std::string, std::string> extras_;
  JsonFile config_, export_info_, deeplora_info_;
  mutable std::string fingerprint_;
};

/// True for outputs that are logits of every token, by export.json or, where that is silent, by config.json's architecture
/// ("...ForCausalLM", "...LMHeadModel", "...ForConditionalGeneration") with a forward() of one tensor.
bool gives_logits(const TorchScriptArchive& archive);

/// First line of a LibTorch error without its stack, for messages.
std::string short_reason(const std::exception& error);

}  // namespace deeplora
