#include "interchange/names.h"

namespace deeplora {

std::string hugging_face_name(const ModelFiles& archive, const std::string& name) {
  if (const auto& head = archive.class_head()) return head->name_in_class(name);
  const std::string prefix = archive.export_info().value("prefix", std::string());
  return !prefix.empty() && name.starts_with(prefix) ? name.substr(prefix.size()) : name;
}

std::set<std::string> parameter_names(const ModelFiles& archive) {
  std::set<std::string> out;
  for (size_t i = 0; i < archive.parameters(); ++i) out.insert(archive.tensors()[i].name);
  return out;
}

std::vector<std::string> tied_names(const ModelFiles& archive, const std::string& name) {
  std::vector<std::string> out;
  const torch::Tensor& value = archive.tensor(name);
  for (const auto& [other, tensor] : archive.tensors())
    if (other != name && value.numel() > 0 && tensor.sizes() == value.sizes() &&
        tensor.const_data_ptr() == value.const_data_ptr())
      out.push_back(other);
  return out;
}

bool looks_up_by_itself(const std::string& module) {
  return module == "embed_positions" || module.ends_with(".embed_positions");
}

}  // namespace deeplora
