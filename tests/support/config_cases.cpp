#include "tests/support/config_cases.h"

#include <nlohmann/json.hpp>

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"

namespace deeplora {
namespace {

template <class T>
void read_as(const Config& config, const std::string& key) {
  T value{};
  config.read(key, value, "a value");
}

void read_word(const Config& config, const std::string& key, const std::string& words) {
  std::vector<std::string> choices;
  for (size_t start = 0; start <= words.size(); start = words.find('|', start) + 1) {
    choices.push_back(words.substr(start, words.find('|', start) - start));
    if (words.find('|', start) == std::string::npos) break;
  }
  std::string word = choices.front();
  config.read_choice(key, word, choices, "a word");
}

void read_key(const Config& config, const std::string& key, const std::string& type) {
  if (type == "flag") read_as<bool>(config, key);
  else if (type == "whole") read_as<int64_t>(config, key);
  else if (type == "maybe whole") read_as<std::optional<int64_t>>(config, key);
  else if (type == "number") read_as<double>(config, key);
  else if (type == "text") read_as<std::string>(config, key);
  else if (type == "path") read_as<std::filesystem::path>(config, key);
  else if (type == "wholes") read_as<std::vector<int64_t>>(config, key);
  else if (type == "numbers") read_as<std::vector<double>>(config, key);
  else if (type == "texts") read_as<std::vector<std::string>>(config, key);
  else read_word(config, key, type);
}

/// Goes down to the sections and lists that a path names.
void read_path(const Config& config, const std::string& path, const std::string& type) {
  const size_t dot = path.find('.');
  if (dot == std::string::npos) return read_key(config, path, type);
  const std::string key = path.substr(0, dot), rest = path.substr(dot + 1);
  if (!rest.starts_with("*.")) return read_path(config.section(key), rest, type);
  for (const Config& item : config.items(key)) read_path(item, rest.substr(2), type);
}

nlohmann::json answer(const nlohmann::ordered_json& question) {
  try {
    Config config = Config::parse(question.at("yaml").get<std::string>(), "case.yaml");
    for (const auto& assignment : question.at("sets")) config.set(assignment.get<std::string>());
    for (const auto& key : question.at("keys").items()) read_path(config, key.key(), key.value().get<std::string>());
    config.finish();
    return {{"dump", config.dump()}};
  } catch (const Error& e) {
    return {{"error", e.what()}};
  }
}

}  // namespace

void read_config_cases(std::istream& in, std::ostream& out) {
  for (std::string line; std::getline(in, line);) out << answer(nlohmann::ordered_json::parse(line)).dump() << "\n";
}

}  // namespace deeplora
