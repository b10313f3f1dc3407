#include "text/component.h"

#include <algorithm>

#include "text/unicode.h"

namespace deeplora {

Component::Component(const nlohmann::json& value, std::string where) : value_(&value), where_(std::move(where)) {
  check(value.is_object(), where_, ": expected an object with type, found ", shown(value));
  type_ = json_value<std::string>(value, "type", "", where_);
}

void Component::known(std::initializer_list<const char*> keys) const {
  for (const auto& [key, value] : value_->items()) {
    const bool there =
        key == "type" || std::any_of(keys.begin(), keys.end(), [&key = key](const char* one) { return key == one; });
    if (there) continue;
    std::vector<std::string> names(keys.begin(), keys.end());
    fail(where(), ": '", key,
         "' is not supported; known: ", names.empty() ? std::string("no key at all") : join(names));
  }
}

char32_t Component::character(const char* key) const {
  const auto text = at<std::string>(key);
  const auto codes = to_code_points(text, cat(where(), ": ", key));
  check(codes.size() == 1, where(), ": ", key, ": expected one character, found '", text, "'");
  return codes[0];
}

std::vector<Component> Component::list(const char* key) const {
  const nlohmann::json& items = json_member(*value_, key, where());
  check(items.is_array(), where(), ": ", key, ": expected a list, found ", shown(items));
  std::vector<Component> out;
  for (size_t i = 0; i < items.size(); ++i) out.emplace_back(items[i], cat(where_, ".", key, "[", i, "]"));
  return out;
}

bool Component::has_regex() const {
  const nlohmann::json& pattern = json_member(*value_, "pattern", where());
  check(pattern.is_object() && pattern.size() == 1 && (pattern.contains("Regex") || pattern.contains("String")),
        where(), ": pattern is ", shown(pattern), R"(; expected {"String": "..."} or {"Regex": "..."})");
  return pattern.contains("Regex");
}

std::string Component::pattern() const {
  const char* kind = has_regex() ? "Regex" : "String";
  auto out = json_at<std::string>((*value_)["pattern"], kind, where());
  check_utf8(out, cat(where(), ": pattern"));
  return out;
}

void Component::refuse(std::initializer_list<const char*> known_types) const {
  const std::vector<std::string> names(known_types.begin(), known_types.end());
  fail(where_, " '", type_, "' is not supported; known: ", join(names));
}

}  // namespace deeplora
