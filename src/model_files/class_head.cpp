#include "model_files/class_head.h"

#include <algorithm>
#include <map>

namespace deeplora {

std::string ClassHead::name_in_class(const std::string& name) const {
  const auto is_beside = [&](const Weight& weight) {
    return !weight.in_base && (weight.name == name || weight.name.starts_with(name + "."));
  };
  if (std::any_of(weights.begin(), weights.end(), is_beside)) return name.substr(above.size());
  return base + (name.starts_with(prefix) ? name.substr(prefix.size()) : name);
}

bool has_head_of_another_task(const JsonFile& config) {
  const auto names = config.value("architectures", std::vector<std::string>());
  if (names.empty()) return false;
  for (const char* other : {"ForTokenClassification", "ForMultipleChoice", "ModernBertForQuestionAnswering"})
    if (names.front().ends_with(other)) return true;
  return false;
}

bool has_token_head(const JsonFile& config) {
  const auto names = config.value("architectures", std::vector<std::string>());
  return !names.empty() && names.front().ends_with("ForTokenClassification");
}

std::optional<std::vector<std::string>> class_names(const JsonFile& config) {
  if (!config.has("id2label")) return std::nullopt;
  const JsonFile names = config.section("id2label");
  std::map<std::string, std::string> named;
  for (const auto& [number, name] : names.root.items())
    named[number] = name.is_string() ? name.get<std::string>() : name.dump();  // some write numbers
  std::vector<std::string> out;
  while (named.count(cat(out.size())) != 0) out.push_back(named.at(cat(out.size())));
  check(out.size() == named.size(), config.name, ": id2label: expected the classes 0 to ", named.size() - 1, ", found ",
        shown(config.root["id2label"]));
  return out;
}

std::pair<nlohmann::ordered_json, nlohmann::ordered_json> class_name_maps(const std::vector<std::string>& names) {
  auto by_id = nlohmann::ordered_json::object(), by_name = nlohmann::ordered_json::object();
  for (size_t i = 0; i < names.size(); ++i) {
    by_id[cat(i)] = names[i];
    by_name[names[i]] = i;
  }
  return {by_id, by_name};
}

}  // namespace deeplora
