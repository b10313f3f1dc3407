// One component of tokenizer.json ("normalizer", "decoder", ...) and where it stands, for errors.
#pragma once

#include <initializer_list>
#include <string>
#include <vector>

#include "core/json_file.h"

namespace deeplora {

/// A JSON object with a "type". Every key that it may have is named once by known(); any other is an Error that names
/// it.
class Component {
 public:
  /// `where`: "tokenizer.json: normalizer".
  Component(const nlohmann::json& value, std::string where);

  const std::string& type() const { return type_; }
  /// The place and the type: "tokenizer.json: normalizer Replace".
  std::string where() const { return where_ + " " + type_; }
  const std::string& place() const { return where_; }
  const nlohmann::json& json() const { return *value_; }

  /// Throws Error when there is a key besides "type" and these.
  void known(std::initializer_list<const char*> keys) const;
  template <class T>
  T value(const char* key, T fallback) const {
    return json_value<T>(*value_, key, std::move(fallback), where());
  }
  template <class T>
  T at(const char* key) const {
    return json_at<T>(*value_, key, where());
  }
  /// One code point under `key`. Throws Error for anything else.
  char32_t character(const char* key) const;
  /// The components listed under `key`, as "where.key[0]".
  std::vector<Component> list(const char* key) const;
  /// {"String": text} or {"Regex": text} under "pattern".
  bool has_regex() const;
  std::string pattern() const;
  /// Error: this type is not known here; `known`: the types that are.
  [[noreturn]] void refuse(std::initializer_list<const char*> known_types) const;

 private:
  const nlohmann::json* value_;
  std::string where_, type_;
};

}  // namespace deeplora
