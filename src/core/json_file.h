// JSON objects that come with models and runs. Every value is asked for by its type; one of another type is an Error
// that names file, key, what was expected and what was found.
#pragma once

#include <cmath>
#include <concepts>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"
#include "core/json_text.h"

namespace deeplora {

/// How a T stands in JSON: its name, alone or in a list, and read(), which is false for a value that is no T.
template <class T>
struct JsonType;

template <>
struct JsonType<bool> {
  static std::string name(bool several) { return several ? "truth values" : "true or false"; }
  template <class Json>
  static bool read(const Json& value, bool& out) {
    if (value.is_boolean()) out = value.template get<bool>();
    return value.is_boolean();
  }
};

template <std::floating_point T>
struct JsonType<T> {
  static std::string name(bool several) { return several ? "numbers" : "a number"; }
  template <class Json>
  static bool read(const Json& value, T& out) {
    if (value.is_number()) out = value.template get<T>();
    return value.is_number();
  }
};

template <std::integral T>
struct JsonType<T> {
  static std::string name(bool several) { return several ? "whole numbers" : "a whole number"; }
  template <class Json>
  static bool read(const Json& value, T& out) {
    const auto take = [&out](auto number) {
      const bool fits = std::in_range<T>(number);
      if (fits) out = static_cast<T>(number);
      return fits;
    };
    if (value.is_number_unsigned()) return take(value.template get<uint64_t>());
    if (value.is_number_integer()) return take(value.template get<int64_t>());
    if (!value.is_number_float()) return false;
    // Some writers know one kind of number only: 2.0 is a whole number too, as far as a double holds them.
    const double number = value.template get<double>();
    return std::abs(number) <= 9007199254740992.0 && number == std::trunc(number) && take(static_cast<int64_t>(number));
  }
};

template <>
struct JsonType<std::string> {
  static std::string name(bool several) { return several ? "texts" : "a text"; }
  template <class Json>
  static bool read(const Json& value, std::string& out) {
    if (value.is_string()) out = value.template get<std::string>();
    return value.is_string();
  }
};

template <class T>
struct JsonType<std::vector<T>> {
  static std::string name(bool several) { return (several ? "lists of " : "a list of ") + JsonType<T>::name(true); }
  template <class Json>
  static bool read(const Json& value, std::vector<T>& out) {
    if (!value.is_array()) return false;
    for (const auto& item : value) {
      T one{};
      if (!JsonType<T>::read(item, one)) return false;
      out.push_back(std::move(one));
    }
    return true;
  }
};

template <class T>
struct JsonType<std::map<std::string, T>> {
  static std::string name(bool several) {
    return (several ? "objects of " : "an object of ") + JsonType<T>::name(true);
  }
  template <class Json>
  static bool read(const Json& value, std::map<std::string, T>& out) {
    if (!value.is_object()) return false;
    for (const auto& [key, item] : value.items())
      if (!JsonType<T>::read(item, out[key])) return false;
    return true;
  }
};

/// A value as errors show it: one line of printable characters.
template <class Json>
std::string shown(const Json& value) {
  constexpr size_t kMost = 60;
  std::string out = value.dump(-1, ' ', /*ensure_ascii=*/true, Json::error_handler_t::replace);
  return out.size() <= kMost ? out : out.substr(0, kMost) + "...";
}

/// `value` as a T; Error "where: expected ..., found ..." when it is none.
template <class T, class Json>
T json_as(const Json& value, const std::string& where) {
  T out{};
  if (!JsonType<T>::read(value, out)) fail(where, ": expected ", JsonType<T>::name(false), ", found ", shown(value));
  return out;
}

/// The value under `key` of `object`, or `fallback` when it is absent or null. `where` names the file in errors.
template <class T, class Json>
T json_value(const Json& object, const std::string& key, T fallback, const std::string& where) {
  check(object.is_object(), where, ": expected an object with ", key, ", found ", shown(object));
  const auto found = object.find(key);
  return found == object.end() || found->is_null() ? std::move(fallback) : json_as<T>(*found, cat(where, ": ", key));
}

/// The value under `key` of `object` whatever it is; Error when it is absent.
template <class Json>
const Json& json_member(const Json& object, const std::string& key, const std::string& where) {
  const auto found = object.is_object() ? object.find(key) : object.end();
  check(found != object.end(), where, ": ", key, " is missing");
  return *found;
}

/// The value under `key` of `object`; Error when it is absent or no T.
template <class T, class Json>
T json_at(const Json& object, const std::string& key, const std::string& where) {
  return json_as<T>(json_member(object, key, where), cat(where, ": ", key));
}

/// The text of a file as JSON. Throws Error, naming `file`, when it is none or nests too deep.
template <class Json>
Json parse_json(const std::string& file, std::string_view text) {
  check(!nests_too_deep(text), file, ": nests deeper than ", kDeepestJson, " levels");
  try {
    return Json::parse(text);
  } catch (const typename Json::exception& e) {
    fail(file, ": not valid JSON: ", e.what());
  }
}

/// A JSON object that names itself in errors.
template <class Json>
struct BasicJsonFile {
  std::string name;
  Json root = Json::object();

  /// Throws Error unless `text` is a JSON object.
  static BasicJsonFile parse(std::string name, std::string_view text) {
    BasicJsonFile out{std::move(name), {}};
    out.root = parse_json<Json>(out.name, text);
    check(out.root.is_object(), out.name, ": expected a JSON object, found ", out.root.type_name());
    return out;
  }

  /// True when `key` is there and not null.
  bool has(const std::string& key) const {
    const auto found = root.find(key);
    return found != root.end() && !found->is_null();
  }
  template <class T>
  T value(const std::string& key, T fallback) const {
    return json_value<T>(root, key, std::move(fallback), name);
  }
  template <class T>
  T at(const std::string& key) const {
    return json_at<T>(root, key, name);
  }
  /// The object under `key`; empty when that is absent or null.
  BasicJsonFile section(const std::string& key) const {
    BasicJsonFile out{cat(name, ": ", key)};
    if (has(key)) out.root = *root.find(key);
    check(out.root.is_object(), out.name, ": expected an object, found ", shown(out.root));
    return out;
  }
};

using JsonFile = BasicJsonFile<nlohmann::json>;
/// Keys in the order of the file: for files of runs, whose order is part of a checksum or a report. Slow with many
/// keys.
using OrderedJsonFile = BasicJsonFile<nlohmann::ordered_json>;

}  // namespace deeplora
