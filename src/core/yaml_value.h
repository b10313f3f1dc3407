// A YAML document as a tree of values, and what its scalars mean. The only place that knows yaml-cpp.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"

namespace deeplora {

/// One value with everything below it. A copy shares nothing with its original: an alias (*x) is a copy of what its
/// anchor (&x) marks.
struct YamlValue {
  enum class Kind { null, scalar, list, map };
  Kind kind = Kind::null;
  std::string text;               ///< of a scalar; of a null the word it was written with ("", "~", "null", "NULL")
  bool quoted = false;            ///< a scalar in quotes or in a block (| or >)
  int line = 0;                   ///< 1-based; 0 for values that no file has
  std::vector<std::string> keys;  ///< of a map, one for each item
  std::vector<YamlValue> items;   ///< of a list or map

  static YamlValue map();
  static YamlValue list();
  /// What prints as `text` does: quoted where it would read back as something else.
  static YamlValue scalar(std::string text);
  bool is_null() const { return kind == Kind::null; }
  bool is_scalar() const { return kind == Kind::scalar; }
  bool is_list() const { return kind == Kind::list; }
  bool is_map() const { return kind == Kind::map; }

  /// The value at a dotted path ("train.lr", "methods.0.name"; "" is this one), null pointer when there is none. A key
  /// that itself holds dots is found where no keys below each other make the path.
  const YamlValue* find(std::string_view path) const;
  YamlValue* find(std::string_view path) { return const_cast<YamlValue*>(std::as_const(*this).find(path)); }
  /// The item of a map under `key`, made when it is not there.
  YamlValue& at_key(const std::string& key);
  void remove_key(const std::string& key);
};

/// The one document of a text; null for an empty text. A key with dots is the path it names: `train.lr: 1` is `train:
/// {lr: 1}`; in quotes it is one key. Throws Error naming `origin` and the line for text that is not YAML, a second
/// document, a key given twice (in whichever spelling), a merge key (<<), a key that is no text, a tag, and values that
/// nest too deep or multiply without an end.
YamlValue parse_yaml(const std::string& text, const std::string& origin);

/// A value from the command line: YAML, with two differences. A plain value is never cut at a #, and several words on
/// one line that make no YAML of their own are one text. Throws Error as parse_yaml() does.
YamlValue parse_yaml_setting(const std::string& text, const std::string& origin);

/// Lines of `key: value`; lists of single values on one line.
std::string yaml_lines(const YamlValue& value);
/// Everything on one line.
std::string yaml_line(const YamlValue& value);

/// true, false, yes, no, on, off, y, n: lower case, Capitalised or UPPER CASE. False when the scalar is none of them.
bool read_yaml(const YamlValue& value, bool& out);
/// Decimal digits, 0x and hexadecimal digits, or a number that is whole (1e3). False for others, and for what int64_t
/// does not hold.
bool read_yaml(const YamlValue& value, int64_t& out);
/// A whole number, 1.5, .5, 1e-3, .inf, -.inf, .nan. False for others, and for what a double cannot tell from 0 or
/// infinity.
bool read_yaml(const YamlValue& value, double& out);
/// Why a scalar that looks like a number is none, as a hint behind "found ..."; "" when there is nothing to say.
std::string number_hint(const YamlValue& value);

/// The shortest text with at least 6 digits that reads back as the same number: 0.002, 1e-05, .inf.
std::string number_text(double value);

}  // namespace deeplora
