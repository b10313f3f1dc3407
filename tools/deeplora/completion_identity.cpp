#include "completion_identity.h"

#include <cctype>
#include <string_view>

#include "core/config.h"

namespace deeplora {

nlohmann::ordered_json deciding_settings(const std::string& resolved, const std::set<std::string>& also_free) {
  static const std::set<std::string> kFree = {"completion.title", "completion.threads", "completion.log_every", "completion.save_every",
                                              "completion.keep_checkpoints"};
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [path, value] : settings_of(resolved))
    if (kFree.count(path) == 0 && also_free.count(path) == 0) out[path] = value;
  return out;
}

std::string file_name_of(const std::string& name) {
  std::string out;
  for (const char c : name) out += std::isalnum(static_cast<unsigned char>(c)) || std::string_view("=.+-_").find(c) != std::string_view::npos ? c : '_';
  return out;
}

}  // namespace deeplora
