#include "interchange/merge.h"

#include <torch/torch.h>

#include <set>

#include "core/files.h"
#include "interchange/peft.h"
#include "lm/parity.h"
#include "model_files/registration.h"
#include "model_files/tensor_file.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// "Optional[Tensor] = None" and the like, for a compiled forward with the archive's own arguments.
std::string signature(const TorchScriptArchive& archive) {
  std::string out = "self";
  for (const auto& argument : archive.module().get_method("forward").function().getSchema().arguments()) {
    if (argument.name() == "self") continue;
    out += cat(", ", argument.name(), ": ", argument.type()->annotation_str());
    if (!argument.default_value()) continue;
    const c10::IValue& value = *argument.default_value();
    if (value.isNone()) out += " = None";
    else if (value.isBool()) out += value.toBool() ? " = True" : " = False";
    else if (value.isInt()) out += cat(" = ", value.toInt());
    else if (value.isDouble()) out += cat(" = ", value.toDouble());
    else fail("cannot export a head: the model's input '", argument.name(), "' has a default that cannot be written");
  }
  return out;
}

/// The path from forward's result to its chosen tensor as TorchScript: "[0]", "['last_hidden_state']".
std::string selector(c10::IValue result, const std::string& output) {
  std::string code;
  size_t start = 0;
  while (!output.empty() && start <= output.size()) {
    const size_t dot = std::min(output.find('.', start), output.size());
    const std::string key = output.substr(start, dot - start);
    const bool index = !key.empty() && std::all_of(key.begin(), key.end(), ::isdigit);
    code += index && !result.isGenericDict() ? "[" + key + "]" : "['" + key + "']";
    if (result.isTuple()) result = result.toTupleRef().elements().at(std::stoul(key));
    else if (result.isGenericDict()) result = result.toGenericDict().at(key);
    start = dot + 1;
  }
  while (output.empty() && !result.isTensor()) {
    if (result.isTuple()) {
      result = result.toTupleRef().elements().at(0);
      code += "[0]";
    } else if (result.isTensorList()) {
      return code + "[0]";
    } else {
      const auto first = result.toGenericDict().begin();
      code += "['" + first->key().toStringRef() + "']";
      result = first->value();
    }
  }
  return code;
}

std::string pooling_code(Pooling pooling) {
  switch (pooling) {
    case Pooling::mean: return "    pooled = (hidden * keep).sum(1) / keep.sum(1).clamp(min=1)\n";
    case Pooling::cls: return "    pooled = hidden[:, 0]\n";
    case Pooling::max: return "    pooled = hidden.masked_fill(keep == 0, float('-inf')).amax(1)\n";
    case Pooling::last:
      return "    last = (mask.sum(1) - 1).clamp(min=0)\n    pooled = hidden[torch.arange(hidden.size(0), device=hidden.device), last]\n";
  }
  return {};
}

/// The archive's module inside a new one that pools and multiplies with the head.
torch::jit::Module with_head(const TorchScriptArchive& archive, const ArchiveInterface& interface, const ModelWithHead& head, const Batch& probe) {
  torch::NoGradGuard no_grad;
  const ArchiveForward forward(archive, interface);
  torch::jit::Module base = archive.module();
  const c10::IValue result = base.forward(forward.arguments(probe));
  torch::jit::Module out("__torch__.deeplora.ModelWithHead");
  out.register_module("base", base);
  const auto [weight, bias] = head.folded();
  const torch::ScalarType dtype = forward.select(result).scalar_type();
  out.register_parameter("head_weight", weight.to(torch::kCPU, dtype), false);
  out.register_parameter("head_bias", bias.to(torch::kCPU, dtype), false);
  const auto renamed = interface.inputs.find("attention_mask");
  const std::string mask_name = renamed == interface.inputs.end() ? "attention_mask" : renamed->second;
  const auto ids_renamed = interface.inputs.find("input_ids");
  const std::string ids_name = ids_renamed == interface.inputs.end() ? "input_ids" : ids_renamed->second;
  const bool has_mask = std::find(archive.inputs().begin(), archive.inputs().end(), mask_name) != archive.inputs().end();
  const std::string code = cat("def forward(", signature(archive), ") -> Tensor:\n", "    result = self.base.forward(", join(archive.inputs(), ", ", 99), ")\n",
                               "    hidden = result", selector(result, interface.output), "\n", "    mask = ",
                               has_mask ? mask_name : cat("torch.ones_like(", ids_name, ")"), "\n",
                               "    keep = mask.to(hidden.dtype).unsqueeze(-1)\n", pooling_code(head.options().pooling),
                               "    return torch.linear(pooled, self.head_weight, self.head_bias)\n");
  try {
    out.define(code);
  } catch (const std::exception& e) {
    fail("cannot compile the new head around the model: ", short_reason(e));
  }
  out.eval();
  return out;
}

double put_merged_weights(ModelFiles& target, const std::vector<NamedTensor>& merged) {
  double rounding = 0;
  for (const auto& [name, value] : merged) {
    target.set_tensor(name, value);
    const torch::Tensor stored = target.tensor(name).to(value.device(), value.scalar_type());
    rounding = std::max(rounding, (stored - value).abs().max().item<double>());
  }
  return rounding;
}

}  // namespace

MergeReport export_torchscript(const TorchScriptArchive& archive, const ArchiveInterface& interface, AdaptedModel& adapted,
                               const nlohmann::ordered_json& info, const fs::path& output) {
  torch::NoGradGuard no_grad;
  LanguageModel& live = adapted.model();
  const bool was_training = live.is_training();
  live.eval();
  const Batch probe = probe_batch(archive, live);
  const torch::Device device = archive.tensors().empty() ? torch::Device(torch::kCPU) : archive.tensors().front().value.device();
  const torch::Tensor expected = output_of(live.forward(probe.to(device)));
  live.train(was_training);

  MergeReport report;
  const auto merged = adapted.merged_weights();
  report.merged_weights = static_cast<int64_t>(merged.size());
  TorchScriptArchive target = TorchScriptArchive::load(archive.file());
  target.check_same(archive);
  report.rounding = put_merged_weights(target, merged);
  const torch::jit::Module module = adapted.new_head() ? with_head(target, interface, *adapted.new_head(), probe) : target.module();
  auto extras = archive.extras();
  extras["deeplora.json"] = info.dump(2);
  ArchiveInterface merged_interface = interface;
  if (adapted.new_head()) merged_interface.output.clear();
  write_file_atomically(output, [&](const fs::path& temporary) {
    TorchScriptArchive::save(module, extras, temporary);
    const TorchScriptArchive written = TorchScriptArchive::load(temporary);
    const torch::Tensor found = ArchiveForward(written, merged_interface)(probe);
    check(found.sizes() == expected.sizes(), "the merged model gives shape ", found.sizes(), ", the live model ", expected.sizes());
    report.difference = relative_difference(found, expected, output_mask(probe));
    check(report.difference <= dtype_tolerance(archive, 3e-2, 2e-1), "the merged model's output differs from the live model's by ", report.difference,
          " (relative); nothing was written");
  });
  return report;
}

MergeReport export_safetensors(const ModelFiles& archive, const AdaptedModel& adapted, const fs::path& output) {
  torch::NoGradGuard no_grad;
  MergeReport report;
  const auto merged = adapted.merged_weights();
  report.merged_weights = static_cast<int64_t>(merged.size());
  const auto target = open_model_files(archive.file());
  target->check_same(archive);
  report.rounding = put_merged_weights(*target, merged);
  std::vector<NamedTensor> tensors;
  std::set<std::string> names;
  for (const auto& [name, value] : target->tensors()) {
    const std::string hf = hugging_face_name(archive, name);
    if (names.insert(hf).second) tensors.push_back({hf, value});
  }
  if (adapted.new_head()) {
    const auto [weight, bias] = adapted.new_head()->folded();
    tensors.push_back({"head.weight", weight});
    tensors.push_back({"head.bias", bias});
  }
  if (output.extension() == ".safetensors") {
    save_tensors(output, tensors, {{"format", "pt"}});
    return report;
  }
  write_folder_atomically(output, [&](const fs::path& folder) {
    save_tensors(folder / "model.safetensors", tensors, {{"format", "pt"}});
    for (const auto& [name, content] : archive.extras())
      if (fs::path(name).filename() == name && name != "export.json" && name != "deeplora.json")  // never outside the folder
        write_file_atomically(folder / name, content);
  });
  return report;
}

ModelOutput ArchiveModel::forward(const Batch& batch) {
  const torch::Tensor out = forward_(batch);
  return out.dim() == 3 && !logits_ ? ModelOutput{.hidden = out, .logits = {}} : ModelOutput{.hidden = {}, .logits = out};
}

std::vector<NamedTensor> ArchiveModel::base_parameters() {
  return archive_.tensors();
}

}  // namespace deeplora
