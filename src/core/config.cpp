#include "core/config.h"

#include <algorithm>
#include <array>
#include <map>
#include <optional>
#include <set>
#include <utility>

#include "core/files.h"
#include "core/foreign_names.h"
#include "core/yaml_value.h"

namespace deeplora {

struct Config::State {
  std::string origin;
  YamlValue root = YamlValue::map();
  YamlValue given = YamlValue::map();             // file and overrides alone, for copy()
  std::map<std::string, std::string> overridden;  // path -> how messages call it: --set train.lr
  std::map<std::string, std::string> renamed;     // of overlay(): path -> where the file has it
  std::vector<std::string> mistakes;
  std::set<std::string> seen_mistakes;
  struct Resolved {
    std::string path;
    YamlValue value;
    std::string default_value;
    std::string doc;
  };
  std::vector<Resolved> resolved;
  std::map<std::string, size_t> index;  // path -> position in resolved
  std::set<std::string> sections{""}, lists, ignored;

  void add_mistake(const std::string& text) {
    if (seen_mistakes.insert(text).second) mistakes.push_back(text);
  }

  /// The value at a path, null pointer when it is absent; a null of YAML's counts as absent.
  const YamlValue* find(const std::string& path) const {
    const YamlValue* found = root.find(path);
    return found && !found->is_null() ? found : nullptr;
  }

  void record(const std::string& path, YamlValue value, std::string default_value, std::string_view doc) {
    const auto [at, inserted] = index.emplace(path, resolved.size());
    if (inserted) resolved.push_back({path, std::move(value), std::move(default_value), std::string(doc)});
    else resolved[at->second].value = std::move(value);
  }
};

namespace {

template <class T>
struct Kind;
template <>
struct Kind<bool> {
  static constexpr const char* name = "true or false";
};
template <>
struct Kind<int64_t> {
  static constexpr const char* name = "a whole number";
};
template <>
struct Kind<double> {
  static constexpr const char* name = "a number";
};
template <>
struct Kind<std::string> {
  static constexpr const char* name = "a text";
};
template <>
struct Kind<std::filesystem::path> {
  static constexpr const char* name = "a path";
};

template <class T>
bool convert(const YamlValue& value, T& out) {
  if constexpr (std::is_same_v<T, std::string> || std::is_same_v<T, std::filesystem::path>) {
    if (value.is_scalar()) out = value.text;
    return value.is_scalar();
  } else {
    return read_yaml(value, out);
  }
}

template <class T>
bool convert(const YamlValue& value, std::vector<T>& out) {
  std::vector<T> read;
  const auto take = [&](const YamlValue& item) {
    T one{};
    if (!convert(item, one)) return false;
    read.push_back(std::move(one));
    return true;
  };
  if (!(value.is_list() ? std::all_of(value.items.begin(), value.items.end(), take) : take(value))) return false;
  out = std::move(read);
  return true;
}

bool convert(const YamlValue& value, std::map<std::string, double>& out) {
  if (!value.is_map()) return false;
  std::map<std::string, double> read;
  for (size_t i = 0; i < value.items.size(); ++i)
    if (!convert(value.items[i], read[value.keys[i]])) return false;
  out = std::move(read);
  return true;
}

template <class T>
bool convert(const YamlValue& value, std::optional<T>& out) {
  T read{};
  if (!convert(value, read)) return false;
  out = std::move(read);
  return true;
}

template <class T>
std::string kind_name(const T*) {
  return Kind<T>::name;
}
template <class T>
std::string kind_name(const std::vector<T>*) {
  return cat("a list (each ", Kind<T>::name, ")");
}
std::string kind_name(const std::map<std::string, double>*) {
  return "a number for each name, {name: 1.5} (names with dots in quotes)";
}
template <class T>
std::string kind_name(const std::optional<T>*) {
  return kind_name(static_cast<const T*>(nullptr));
}

/// Whether a value of a type, or of its items, is free text.
template <class T>
struct IsText : std::bool_constant<std::is_same_v<T, std::string> || std::is_same_v<T, std::filesystem::path>> {};
template <class T>
struct IsText<std::vector<T>> : IsText<T> {};
template <class T>
struct IsText<std::optional<T>> : IsText<T> {};

YamlValue plain(std::string text) {
  YamlValue out = YamlValue::scalar(std::move(text));
  out.quoted = false;
  return out;
}
YamlValue to_yaml(bool value) { return plain(value ? "true" : "false"); }
YamlValue to_yaml(int64_t value) { return plain(std::to_string(value)); }
YamlValue to_yaml(double value) { return plain(number_text(value)); }
YamlValue to_yaml(const std::string& value) { return YamlValue::scalar(value); }
YamlValue to_yaml(const std::filesystem::path& value) { return YamlValue::scalar(value.string()); }
template <class T>
YamlValue to_yaml(const std::vector<T>& values) {
  YamlValue out = YamlValue::list();
  for (const auto& value : values) out.items.push_back(to_yaml(value));
  return out;
}
YamlValue to_yaml(const std::map<std::string, double>& values) {
  YamlValue out = YamlValue::map();
  for (const auto& [name, value] : values) out.at_key(name) = to_yaml(value);
  return out;
}
template <class T>
YamlValue to_yaml(const std::optional<T>& value) {
  return value ? to_yaml(*value) : YamlValue();
}

/// The mapping that a whole file is, empty for an empty one. Throws Error for anything else.
YamlValue load_mapping(const std::string& yaml, const std::string& origin) {
  check(is_valid_utf8(yaml), origin, ": not valid UTF-8; save the file as UTF-8");
  YamlValue root = parse_yaml(yaml, origin);
  if (root.is_null()) return YamlValue::map();
  check(root.is_map(), origin, ": expected 'key: value' lines, found ", root.is_list() ? "a list" : "a single value");
  return root;
}

/// Puts a value at a path, making the maps on the way. `said` begins the messages: "--set a.b=1".
void assign(YamlValue& root, const std::string& path, YamlValue value, const std::string& said) {
  YamlValue* node = &root;
  for (size_t start = 0;;) {
    const size_t dot = path.find('.', start);
    const std::string key = path.substr(start, dot == std::string::npos ? dot : dot - start);
    check(!key.empty(), said, ": an empty key");
    YamlValue* next = nullptr;
    if (node->is_list()) {
      next = node->find(key);
      check(next != nullptr, said, ": '", path.substr(0, start - 1), "' is a list of ", node->items.size(),
            " items, counted from 0; there is no item ", key);
    } else {
      next = &node->at_key(key);
      if (dot != std::string::npos && next->is_null()) *next = YamlValue::map();
    }
    if (dot == std::string::npos) {
      *next = std::move(value);
      return;
    }
    check(!next->is_scalar() && !next->is_null(), said, ": '", path.substr(0, dot), "' holds a value, not keys");
    node = next;
    start = dot + 1;
  }
}

/// Key and value of "train.lr=1e-3". Throws Error when it is none.
std::pair<std::string, YamlValue> parse_assignment(const std::string& assignment) {
  const size_t equals = assignment.find('=');
  check(equals != std::string::npos && equals > 0, "--set ", assignment,
        ": expected key=value, e.g. --set train.lr=1e-3");
  check(is_valid_utf8(assignment), "--set ", assignment.substr(0, equals), ": not valid UTF-8");
  const std::string path = assignment.substr(0, equals);
  return {path, parse_yaml_setting(assignment.substr(equals + 1), "--set " + path)};
}

}  // namespace

Config Config::parse(const std::string& yaml, const std::string& origin) {
  auto state = std::make_shared<State>();
  state->origin = origin;
  state->root = state->given = load_mapping(yaml, origin);
  return Config(state, "");
}

Config Config::load(const std::filesystem::path& file) {
  return parse(read_file(file, "configuration"), file.string());
}

void Config::set(const std::string& assignment) {
  const auto [path, value] = parse_assignment(assignment);
  assign(state_->root, path, value, "--set " + assignment);
  assign(state_->given, path, value, "--set " + assignment);
  state_->overridden[path] = "--set " + path;
}

void Config::set_text(const std::string& path, const std::string& text, const std::string& named) {
  check(is_valid_utf8(text), named, ": not valid UTF-8");
  assign(state_->root, path, YamlValue::scalar(text), named);
  assign(state_->given, path, YamlValue::scalar(text), named);
  state_->overridden[path] = named;
}

std::vector<Config> Config::items(const std::string& key) const {
  const std::string path = full(key);
  const YamlValue* list = state_->find(path);
  std::vector<Config> out;
  if (!list) return out;
  state_->lists.insert(path);
  if (!list->is_list()) {
    mistake(key, cat("expected a list with keys in every item, found ", yaml_line(*list)));
    return out;
  }
  for (size_t i = 0; i < list->items.size(); ++i) out.push_back(Config(state_, path).section(cat(i)));
  return out;
}

Config Config::copy() const {
  auto state = std::make_shared<State>();
  state->origin = state_->origin;
  state->root = state->given = state_->given;
  state->overridden = state_->overridden;
  return Config(state, "");
}

void Config::overlay(const std::string& from, const std::string& to) {
  const YamlValue* found = state_->find(from);
  if (!found || !found->is_map()) return;
  const YamlValue source = *found;
  const YamlValue* target = state_->find(to);
  if (!target || !target->is_map()) set_from(to + "={}", from);
  for (size_t i = 0; i < source.keys.size(); ++i) {
    state_->root.find(to)->at_key(source.keys[i]) = source.items[i];
    state_->renamed[to + "." + source.keys[i]] = from + "." + source.keys[i];
  }
}

void Config::set_from(const std::string& assignment, const std::string& source) {
  const auto [path, value] = parse_assignment(assignment);
  assign(state_->root, path, value, "--set " + assignment);
  state_->renamed[path] = source;
}

void Config::ignore(const std::string& key) const { state_->ignored.insert(full(key)); }

void Config::erase(const std::string& path) {
  const size_t dot = path.rfind('.');
  YamlValue* parent = state_->root.find(dot == std::string::npos ? "" : path.substr(0, dot));
  if (parent && parent->is_map()) parent->remove_key(dot == std::string::npos ? path : path.substr(dot + 1));
}

Config Config::section(const std::string& key) const {
  const std::string path = full(key);
  state_->sections.insert(path);
  const YamlValue* value = state_->find(path);
  if (value && !value->is_map()) mistake(key, cat("expected keys below it, found ", yaml_line(*value)));
  return Config(state_, path);
}

bool Config::is_overridden(const std::string& path) const { return state_->overridden.contains(path); }

bool Config::has(const std::string& key) const { return state_->find(full(key)) != nullptr; }

std::vector<std::string> Config::keys() const {
  const YamlValue* value = state_->find(path_);
  return value && value->is_map() ? value->keys : std::vector<std::string>();
}

std::optional<std::string> Config::text_at(const std::string& key) const {
  const YamlValue* value = state_->find(full(key));
  return value && value->is_scalar() ? std::optional(value->text) : std::nullopt;
}

bool Config::is_map(const std::string& key) const {
  const YamlValue* value = state_->find(full(key));
  return value && value->is_map();
}

template <class T>
void Config::read(const std::string& key, T& field, std::string_view doc) const {
  const std::string path = full(key), default_value = yaml_line(to_yaml(field));
  const YamlValue* value = state_->root.find(path);
  const bool shouted = value && value->is_null() && value->text.starts_with('N');
  if (shouted && IsText<T>::value)
    mistake(key, cat("expected ", kind_name(static_cast<const T*>(nullptr)), ", found ", value->text,
                     ", which YAML takes for no value; write \"", value->text,
                     "\" in quotes for the text, null for the default"));
  if (value && !value->is_null() && !convert(*value, field))
    mistake(key, cat("expected ", kind_name(static_cast<const T*>(nullptr)), ", found ", yaml_line(*value),
                     IsText<T>::value ? "" : number_hint(*value)));
  state_->record(path, to_yaml(field), default_value, doc);
}

#define DEEPLORA_CONFIG_READ(...) \
  template void Config::read<__VA_ARGS__>(const std::string&, __VA_ARGS__&, std::string_view) const;
DEEPLORA_CONFIG_READ(bool)
DEEPLORA_CONFIG_READ(int64_t)
DEEPLORA_CONFIG_READ(double)
DEEPLORA_CONFIG_READ(std::string)
DEEPLORA_CONFIG_READ(std::filesystem::path)
DEEPLORA_CONFIG_READ(std::vector<int64_t>)
DEEPLORA_CONFIG_READ(std::vector<double>)
DEEPLORA_CONFIG_READ(std::vector<std::string>)
DEEPLORA_CONFIG_READ(std::map<std::string, double>)
DEEPLORA_CONFIG_READ(std::optional<bool>)
DEEPLORA_CONFIG_READ(std::optional<int64_t>)
DEEPLORA_CONFIG_READ(std::optional<double>)
DEEPLORA_CONFIG_READ(std::optional<std::string>)
#undef DEEPLORA_CONFIG_READ

void Config::read_choice(const std::string& key, std::string& field, const std::vector<std::string>& choices,
                         std::string_view doc) const {
  const auto known = [&](const std::string& word) {
    return std::find(choices.begin(), choices.end(), word) != choices.end();
  };
  read(key, field, doc);
  if (known(field)) return;
  // Where yes and no are among the words, every spelling of YAML's is one of them: header: true.
  bool flag = false;
  if (read_yaml(YamlValue::scalar(field), flag))
    for (const char* word : flag ? std::array{"yes", "true"} : std::array{"no", "false"})
      if (known(word)) {
        field = word;
        state_->record(full(key), to_yaml(field), {}, {});
        return;
      }
  mistake(key, cat("expected one of ", join(choices), ", found '", field, "'", did_you_mean(field, choices)));
}

void Config::require(bool ok, const std::string& key, const std::string& expected) const {
  if (ok) return;
  const YamlValue* value = state_->root.find(full(key));
  mistake(key, cat("expected ", expected, ", found ", value ? yaml_line(*value) : std::string("nothing")));
}

void Config::mistake(const std::string& key, const std::string& message) const {
  state_->add_mistake(cat(where(key), ": ", message));
}

std::string Config::where(const std::string& key) const {
  std::string path = full(key);
  if (const auto from = state_->renamed.find(path); from != state_->renamed.end()) path = from->second;
  if (const auto set = state_->overridden.find(path); set != state_->overridden.end()) return set->second;
  for (const auto& [set, named] : state_->overridden)
    if (path.rfind(set + ".", 0) == 0) return "--set " + path;
  const YamlValue* value = state_->root.find(path);
  return cat(state_->origin, value && value->line > 0 ? cat(":", value->line) : "", ": ", path);
}

namespace {

/// Calls visit(key, value) for the entries of a mapping, or of a list by their number.
template <class Visit>
void for_entries(const YamlValue& value, const Visit& visit) {
  for (size_t i = 0; i < value.items.size(); ++i) visit(value.is_map() ? value.keys[i] : cat(i), value.items[i]);
}

struct Unknown {
  std::string path;
  bool twice;  ///< known, but another spelling of it was read
};

/// The known key that another trainer's option means: in the same section, else wherever ours is.
std::string meant_key(const std::string& parent, const std::string& key, const std::map<std::string, size_t>& known) {
  const std::string ours = key_meant_by(key);
  if (ours.empty()) return "";
  const std::string beside = (parent.empty() ? "" : parent + ".") + ours.substr(ours.rfind('.') + 1);
  if (known.count(ours) > 0) return ours;
  return known.count(beside) > 0 ? beside : "";
}

void find_unknown(const YamlValue& root, const YamlValue& value, const std::string& path,
                  const std::set<std::string>& sections, const std::map<std::string, size_t>& options,
                  std::vector<Unknown>& unknown) {
  for_entries(value, [&](const std::string& key, const YamlValue& item) {
    const std::string child = (path.empty() ? "" : path + ".") + key;
    const bool known = options.count(child) > 0 || sections.count(child) > 0;
    if (known && root.find(child) != &item) unknown.push_back({child, true});
    else if (options.count(child)) return;
    else if (known) find_unknown(root, item, child, sections, options, unknown);
    else unknown.push_back({child, false});
  });
}

}  // namespace

void Config::finish() const {
  std::vector<Unknown> unknown;
  std::set<std::string> sections = state_->sections;
  sections.insert(state_->lists.begin(), state_->lists.end());
  find_unknown(state_->root, state_->root, "", sections, state_->index, unknown);
  std::erase_if(unknown, [&](const Unknown& key) { return state_->ignored.count(key.path) > 0; });
  for (const auto& [path, twice] : unknown) {
    if (twice) {
      state_->add_mistake(cat(Config(state_, "").where(path), ": given twice, once as a key with dots in quotes"));
      continue;
    }
    const size_t dot = path.rfind('.');
    const std::string parent = dot == std::string::npos ? "" : path.substr(0, dot);
    const std::string key = dot == std::string::npos ? path : path.substr(dot + 1);
    std::vector<std::string> siblings, elsewhere;
    const auto consider = [&](const std::string& known) {
      const size_t at = known.rfind('.');
      const std::string above = at == std::string::npos ? "" : known.substr(0, at);
      if (above == parent && !known.empty()) siblings.push_back(at == std::string::npos ? known : known.substr(at + 1));
      if (at != std::string::npos && known.substr(at + 1) == key) elsewhere.push_back(known);
    };
    for (const auto& [known, unused] : state_->index) consider(known);
    for (const auto& known : state_->sections) consider(known);
    const std::string meant = meant_key(parent, key, state_->index);
    std::string hint = meant.empty() ? did_you_mean(key, siblings) : cat(" (did you mean '", meant, "'?)");
    if (hint.empty() && !elsewhere.empty()) hint = cat(" (did you mean '", elsewhere.front(), "'?)");
    if (hint.empty() && !siblings.empty()) hint = cat("; known here: ", join(siblings));
    state_->add_mistake(cat(Config(state_, "").where(path), ": unknown key", hint));
  }
  if (state_->mistakes.empty()) return;
  throw Error(join(state_->mistakes, "; ", 12));
}

std::string Config::dumped_over(bool given) const {
  YamlValue tree = given ? state_->root : YamlValue::map();
  for (const auto& entry : state_->resolved) {
    if (entry.value.is_null()) continue;
    YamlValue* node = tree.find(entry.path);
    if (!node) {
      node = &tree;
      for (size_t start = 0; start != std::string::npos;) {
        const size_t dot = entry.path.find('.', start);
        const std::string key = entry.path.substr(start, dot == std::string::npos ? dot : dot - start);
        const bool in_list = start > 0 && state_->lists.count(entry.path.substr(0, start - 1)) > 0;
        node->kind = in_list ? YamlValue::Kind::list : YamlValue::Kind::map;
        if (!in_list) node = &node->at_key(key);
        else if (YamlValue* item = node->find(key)) node = item;
        else node = &node->items.emplace_back();
        start = dot == std::string::npos ? dot : dot + 1;
      }
    }
    *node = entry.value;
  }
  return yaml_lines(tree);
}

std::string Config::dump() const { return dumped_over(false); }

std::string Config::dump_all() const { return dumped_over(true); }

std::vector<ConfigOption> Config::options() const {
  std::vector<ConfigOption> out;
  for (const auto& entry : state_->resolved) out.push_back({entry.path, entry.default_value, entry.doc});
  return out;
}

namespace {

void collect_settings(const YamlValue& value, const std::string& path,
                      std::vector<std::pair<std::string, std::string>>& out) {
  const bool open = value.is_map() || (value.is_list() && !value.items.empty() && value.items[0].is_map());
  if (open)
    for_entries(value, [&](const std::string& key, const YamlValue& item) {
      collect_settings(item, path.empty() ? key : path + "." + key, out);
    });
  else if (!value.is_null()) out.emplace_back(path, yaml_line(value));
}

}  // namespace

std::vector<std::pair<std::string, std::string>> settings_of(const std::string& yaml) {
  std::vector<std::pair<std::string, std::string>> out;
  collect_settings(load_mapping(yaml, "configuration"), "", out);
  return out;
}

}  // namespace deeplora
