// A run's configuration: YAML file under dotted overrides, read strictly.
#pragma once

#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/error.h"

namespace deeplora {

/// One documented option, for the generated configuration reference.
struct ConfigOption {
  std::string path;           ///< dotted, e.g. "train.lr"
  std::string default_value;  ///< as YAML
  std::string doc;
};

/// A view of one mapping of the configuration. Copies share one tree.
///
/// Every option is announced by read(): the field keeps its default when the key is absent, the resolved value is
/// recorded for dump(), and whatever nobody announced is an error in finish(). Mistakes are collected, so finish()
/// reports all of them in one Error with file:line, the key, expected and found.
class Config {
 public:
  /// Throws Error when the file is missing, is not UTF-8 or not a YAML mapping.
  static Config load(const std::filesystem::path& file);
  static Config parse(const std::string& yaml, const std::string& origin = "configuration");

  /// Applies "train.lr=1e-3"; the value is YAML, list items go by their number (compare.methods.0.lr). Throws Error
  /// when it is not key=value.
  void set(const std::string& assignment);

  /// The mapping under `key` (empty when absent); a present non-mapping is recorded as a mistake.
  Config section(const std::string& key) const;

  /// The mappings of the list under `key`, each a view like a section (none when absent); anything else is recorded as
  /// a mistake.
  std::vector<Config> items(const std::string& key) const;

  /// Puts a text at a path, as if the file had it; messages call the key `named` ("--train (data.train)"). Throws Error
  /// like set().
  void set_text(const std::string& path, const std::string& text, const std::string& named);

  /// The same file and overrides once more, with nothing read yet: the start of a configuration that differs in some
  /// keys.
  Config copy() const;
  /// Lays the keys of the mapping `from` over those of the mapping `to` (dotted paths; list items by their number).
  /// They keep the lines they came from for messages. An absent `from` changes nothing.
  void overlay(const std::string& from, const std::string& to);
  /// set() by the program: messages name the key `source` of the file instead.
  void set_from(const std::string& assignment, const std::string& source);
  /// Takes a key out, as if the file did not have it.
  void erase(const std::string& path);

  /// True when the file or an override names the key (null counts as absent).
  bool has(const std::string& key) const;
  /// Whether set() or set_text() gave that key ("model.path") its value.
  bool is_overridden(const std::string& path) const;
  std::vector<std::string> keys() const;
  /// The single value under `key` as it is written; nothing for lists, mappings and where there is none. Announces
  /// nothing.
  std::optional<std::string> text_at(const std::string& key) const;
  bool is_map(const std::string& key) const;

  /// Reads key into field. T: bool, int64_t, double, std::string, std::filesystem::path, std::vector of int64_t,
  /// double or std::string (a single value is a list of one), std::optional of any of them, and std::map of numbers by
  /// name.
  template <class T>
  void read(const std::string& key, T& field, std::string_view doc) const;

  /// Like read(), for one of a fixed list of words. Where yes and no (or true and false) are among them, all of YAML's
  /// booleans are.
  void read_choice(const std::string& key, std::string& field, const std::vector<std::string>& choices,
                   std::string_view doc) const;

  /// Says that another reader checks what is below `key`: finish() passes it over.
  void ignore(const std::string& key) const;

  /// Records a mistake at `key` unless `ok`: "file:line: train.lr: expected X, found Y".
  void require(bool ok, const std::string& key, const std::string& expected) const;
  /// Records a mistake at `key` in free words.
  void mistake(const std::string& key, const std::string& message) const;
  /// Where the key stands, for messages: "file:12: train.lr" or "--set train.lr".
  std::string where(const std::string& key) const;

  /// Throws one Error with every mistake, unknown keys included (each with the nearest known key).
  void finish() const;

  /// The resolved configuration as YAML in the order of reading, enough to rerun.
  std::string dump() const;
  /// The configuration as given, ignored keys included, with every announced option's resolved value.
  std::string dump_all() const;
  /// Every option announced so far.
  std::vector<ConfigOption> options() const;
  /// Dotted path of this mapping, "" for the whole configuration.
  const std::string& path() const { return path_; }

 private:
  struct State;
  Config(std::shared_ptr<State> state, std::string path) : state_(std::move(state)), path_(std::move(path)) {}
  std::string dumped_over(bool given) const;
  std::string full(const std::string& key) const { return path_.empty() ? key : path_ + "." + key; }
  std::shared_ptr<State> state_;
  std::string path_;
};

/// Every setting of a configuration in YAML: dotted path (list items by their number where they are mappings) and value
/// as one line of YAML, in the order of the text. Settings without a value are left out. Throws Error for text that is
/// no mapping.
std::vector<std::pair<std::string, std::string>> settings_of(const std::string& yaml);

}  // namespace deeplora
