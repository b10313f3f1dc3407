// A Hugging Face folder: config.json, safetensors in one file or in shards, tokenizer files. No Python is needed to
// read one.
#pragma once

#include "model_files/model_files.h"

namespace deeplora {

class HuggingFaceFolder : public ModelFiles {
 public:
  /// Maps the weights and reads the small files. Weights keep their dtype and look into the mapped files, so that
  /// nothing is copied; on another `device` they are copies. Throws Error, with what to do, for a folder without
  /// config.json or without safetensors (pytorch_model.bin alone among them), a missing or cut off shard, and an index
  /// that names tensors that are not there.
  ///
  /// Names are those of today's transformers: the `gamma` and `beta` of old checkpoints' norms read `weight` and
  /// `bias`. A language model's output layer that config.json ties to its word table is not among the tensors, unless
  /// the file holds other values for it than for the table: then it is a layer of its own, as in transformers 5.
  static HuggingFaceFolder load(const std::filesystem::path& folder, torch::Device device = torch::kCPU);

  std::string kind() const override { return "Hugging Face folder"; }
  /// The first of config.json's `architectures`, or its model_type.
  std::string output_type() const override;

 private:
  void read_small_files();
  void read_weights(torch::Device device);
  /// head.safetensors of our own exports; its tensors are parameters "head.weight" and "head.bias".
  std::vector<NamedTensor> read_head_beside(torch::Device device);
  void name_inputs();
};

/// True when config.json, or the default of its model_type, ties the output layer to the word table.
bool ties_word_embeddings(const JsonFile& config);

}  // namespace deeplora
