// A small TorchScript archive compiled from source: embedding and one linear layer, hidden states out.
#pragma once

#include <torch/script.h>

#include <filesystem>
#include <map>
#include <string>

#include "adapters/registration.h"
#include "lm/language_model.h"
#include "model_files/torchscript_file.h"
#include "support/errors.h"
#include "support/temp_folder.h"

namespace deeplora::testing {

/// forward(input_ids, attention_mask) -> Dict with "hidden" [B, T, 6]; weights table.weight [11, 6], dense.weight [6,
/// 6].
inline torch::jit::Module tiny_module() {
  torch::manual_seed(3);
  torch::jit::Module table("__torch__.Table"), dense("__torch__.Dense"), out("__torch__.Tiny");
  table.register_parameter("weight", torch::randn({11, 6}), false);
  dense.register_parameter("weight", torch::randn({6, 6}), false);
  dense.register_parameter("bias", torch::randn({6}), false);
  out.register_module("table", table);
  out.register_module("dense", dense);
  out.define(R"(
def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Dict[str, Tensor]:
    x = torch.embedding(self.table.weight, input_ids)
    return {"hidden": torch.tanh(torch.linear(x, self.dense.weight, self.dense.bias))}
)");
  out.eval();
  return out;
}

inline std::filesystem::path write_tiny_archive(const std::filesystem::path& file,
                                                const std::map<std::string, std::string>& extras = {}) {
  TorchScriptArchive::save(tiny_module(), extras, file);
  return file;
}

inline Batch tiny_batch() {
  Batch batch;
  batch.input_ids = torch::tensor({{1, 2, 3, 4}, {5, 6, 0, 0}}, torch::kInt64);
  batch.attention_mask = torch::tensor({{1, 1, 1, 1}, {1, 1, 0, 0}}, torch::kInt64);
  return batch;
}

/// The factory of a registered method from its keys as YAML.
inline AdapterFactory factory_of(const std::string& method, const std::string& yaml) {
  AdapterMethods methods("adapter method");
  register_adapter_methods(methods);
  const Config config = Config::parse(yaml);
  auto factory = methods.at(method).configure(config);
  config.finish();
  return factory;
}

}  // namespace deeplora::testing
