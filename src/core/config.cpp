#include "core/config.h"

#include <yaml-cpp/yaml.h>

#include <cmath>
#include <map>
#include <set>

#include "core/files.h"

namespace deeplora {

namespace {

/// The child of a mapping, or of a list by its number; undefined when there is none.
constexpr int kDeepest = 64, kMostNodes = 100'000;

/// Visits every value as printing and copying will. An anchor that holds itself has no end, aliases of aliases multiply.
void check_tree(const YAML::Node& node, const std::string& origin, int depth, int& nodes) {
  const auto here = [&] { return cat(origin, ":", std::max(node.Mark().line, 0) + 1); };
  check(depth <= kDeepest, here(), ": values nest deeper than ", kDeepest, " levels (or an anchor holds itself)");
  check(++nodes <= kMostNodes, here(), ": more than ", kMostNodes, " values (aliases counted as often as they are used)");
  if (node.IsSequence())
    for (const auto& item : node) check_tree(item, origin, depth + 1, nodes);
  if (!node.IsMap()) return;
  std::set<std::string> keys;
  for (const auto& entry : node) {
    check(entry.first.IsScalar(), here(), ": a key is no text; expected 'key: value' lines");
    check(keys.insert(entry.first.Scalar()).second, cat(origin, ":", entry.first.Mark().line + 1), ": the key '", entry.first.Scalar(), "' is given twice");
    check_tree(entry.second, origin, depth + 1, nodes);
  }
}

/// One value from YAML text. Throws YAML::Exception for text that is none, Error for values that no one means.
YAML::Node load_yaml(const std::string& text, const std::string& origin) {
  const YAML::Node root = YAML::Load(text);
  int nodes = 0;
  if (root.IsDefined()) check_tree(root, origin, 0, nodes);
  return root;
}

YAML::Node child_of(const YAML::Node& node, const std::string& key) {
  if (node.IsMap()) return node[key];
  size_t index = 0;
  if (node.IsSequence() && YAML::convert<size_t>::decode(YAML::Node(key), index) && index < node.size()) return node[index];
  return YAML::Node(YAML::NodeType::Undefined);
}

}  // namespace

struct Config::State {
  std::string origin;
  std::string text;                      // as parsed, for copy()
  std::vector<std::string> assignments;  // of set(), in order
  YAML::Node root{YAML::NodeType::Map};
  std::set<std::string> overridden;
  std::map<std::string, std::string> renamed;  // of overlay(): path -> where the file has it
  std::vector<std::string> mistakes;
  std::set<std::string> seen_mistakes;
  struct Resolved {
    std::string path;
    YAML::Node value;
    std::string default_value;
    std::string doc;
  };
  std::vector<Resolved> resolved;
  std::map<std::string, size_t> index;     // path -> position in resolved
  std::set<std::string> sections{""}, lists, ignored;

  void add_mistake(const std::string& text) {
    if (seen_mistakes.insert(text).second) mistakes.push_back(text);
  }

  YAML::Node find(const std::string& path) const {
    YAML::Node node;
    node.reset(root);
    size_t start = 0;
    while (start <= path.size() && !path.empty()) {
      const size_t dot = path.find('.', start);
      const std::string key = path.substr(start, dot == std::string::npos ? dot : dot - start);
      const YAML::Node next = child_of(node, key);
      if (!next.IsDefined()) return YAML::Node(YAML::NodeType::Undefined);
      node.reset(next);
      if (dot == std::string::npos) break;
      start = dot + 1;
    }
    return node;
  }

  void record(const std::string& path, const YAML::Node& value, const std::string& default_value, std::string_view doc) {
    const auto [at, inserted] = index.emplace(path, resolved.size());
    if (inserted) resolved.push_back({path, value, default_value, std::string(doc)});
    else resolved[at->second].value = value;
  }
};

namespace {

std::string shown(const YAML::Node& node) {
  YAML::Emitter out;
  out.SetMapFormat(YAML::Flow);
  out.SetSeqFormat(YAML::Flow);
  out << node;
  return out.c_str();
}

template <class T>
struct Kind;
constexpr double kLargestExact = 9007199254740992.0;  // 2^53: beyond it a number is not the whole number that was written
template <> struct Kind<bool> { static constexpr const char* name = "true or false"; };
template <> struct Kind<int64_t> { static constexpr const char* name = "a whole number"; };
template <> struct Kind<double> { static constexpr const char* name = "a number"; };
template <> struct Kind<std::string> { static constexpr const char* name = "a text"; };
template <> struct Kind<std::filesystem::path> { static constexpr const char* name = "a path"; };

template <class T>
bool convert(const YAML::Node& node, T& out) {
  if (!node.IsScalar()) return false;
  if constexpr (std::is_same_v<T, std::filesystem::path>) {
    out = node.as<std::string>();
    return true;
  } else if constexpr (std::is_same_v<T, int64_t>) {
    if (YAML::convert<int64_t>::decode(node, out)) return true;
    double number = 0;  // 1e3 is a whole number too
    if (!YAML::convert<double>::decode(node, number) || !(std::abs(number) <= kLargestExact) || number != std::trunc(number)) return false;
    out = static_cast<int64_t>(number);
    return true;
  } else {
    return YAML::convert<T>::decode(node, out);
  }
}

template <class T>
bool convert(const YAML::Node& node, std::vector<T>& out) {
  std::vector<T> read;
  if (node.IsSequence()) {
    for (const auto& item : node) {
      T value{};
      if (!convert(item, value)) return false;
      read.push_back(std::move(value));
    }
  } else {
    T value{};
    if (!convert(node, value)) return false;
    read.push_back(std::move(value));
  }
  out = std::move(read);
  return true;
}

template <class T>
bool convert(const YAML::Node& node, std::optional<T>& out) {
  T value{};
  if (!convert(node, value)) return false;
  out = std::move(value);
  return true;
}

template <class T>
std::string kind_name(const T*) { return Kind<T>::name; }
template <class T>
std::string kind_name(const std::vector<T>*) { return cat("a list (each ", Kind<T>::name, ")"); }
template <class T>
std::string kind_name(const std::optional<T>*) { return kind_name(static_cast<const T*>(nullptr)); }

YAML::Node to_yaml(bool value) { return YAML::Node(value); }
YAML::Node to_yaml(int64_t value) { return YAML::Node(value); }
YAML::Node to_yaml(double value) {
  for (int digits = 6; digits < 18; ++digits) {  // the shortest text that reads back as the same number
    std::ostringstream out;
    out.precision(digits);
    out << value;
    if (std::stod(out.str()) == value) return YAML::Node(out.str());
  }
  return YAML::Node(value);
}
YAML::Node to_yaml(const std::string& value) {
  YAML::Node node(value);
  double number = 0;
  bool flag = false;
  // Quote texts that would read back as another type.
  if (value.empty() || value == "~" || value == "null" || YAML::convert<double>::decode(node, number) || YAML::convert<bool>::decode(node, flag))
    node.SetTag("!");
  return node;
}
YAML::Node to_yaml(const std::filesystem::path& value) { return YAML::Node(value.string()); }
template <class T>
YAML::Node to_yaml(const std::vector<T>& values) {
  YAML::Node node(YAML::NodeType::Sequence);
  node.SetStyle(YAML::EmitterStyle::Flow);
  for (const auto& value : values) node.push_back(to_yaml(value));
  return node;
}
template <class T>
YAML::Node to_yaml(const std::optional<T>& value) {
  return value ? to_yaml(*value) : YAML::Node(YAML::NodeType::Null);
}

/// The mapping that a whole file is, empty for an empty one. Throws Error for anything else.
YAML::Node load_mapping(const std::string& yaml, const std::string& origin) {
  check(is_valid_utf8(yaml), origin, ": not valid UTF-8; save the file as UTF-8");
  YAML::Node root(YAML::NodeType::Map);
  try {
    const YAML::Node found = load_yaml(yaml, origin);
    if (found.IsDefined() && !found.IsNull()) {
      check(found.IsMap(), origin, ": expected 'key: value' lines, found ", found.IsSequence() ? "a list" : "a single value");
      root.reset(found);
    }
  } catch (const YAML::Exception& e) {
    fail(origin, ":", e.mark.line + 1, ": not valid YAML: ", e.msg);
  }
  return root;
}

}  // namespace

Config Config::parse(const std::string& yaml, const std::string& origin) {
  auto state = std::make_shared<State>();
  state->origin = origin;
  state->text = yaml;
  state->root = load_mapping(yaml, origin);
  return Config(state, "");
}

Config Config::load(const std::filesystem::path& file) {
  return parse(read_file(file, "configuration"), file.string());
}

void Config::set(const std::string& assignment) {
  const size_t equals = assignment.find('=');
  check(equals != std::string::npos && equals > 0, "--set ", assignment, ": expected key=value, e.g. --set train.lr=1e-3");
  const std::string path = assignment.substr(0, equals);
  YAML::Node value;
  try {
    value = load_yaml(assignment.substr(equals + 1), "--set " + path);
  } catch (const YAML::Exception& e) {
    fail("--set ", assignment, ": the value is not valid YAML: ", e.msg);
  }
  YAML::Node node;
  node.reset(state_->root);
  size_t start = 0;
  for (;;) {
    const size_t dot = path.find('.', start);
    const std::string key = path.substr(start, dot == std::string::npos ? dot : dot - start);
    check(!key.empty(), "--set ", assignment, ": an empty key");
    if (node.IsSequence()) {
      YAML::Node item = child_of(node, key);
      check(item.IsDefined(), "--set ", assignment, ": '", path.substr(0, start - 1), "' is a list of ", node.size(), " items, counted from 0; there is no item ", key);
      if (dot == std::string::npos) {
        node[std::stoul(key)] = value;
        break;
      }
      check(item.IsMap(), "--set ", assignment, ": '", path.substr(0, dot), "' holds a value, not keys");
      node.reset(item);
      start = dot + 1;
      continue;
    }
    if (dot == std::string::npos) {
      node[key] = value;
      break;
    }
    YAML::Node next = node[key];
    if (!next.IsDefined() || next.IsNull()) {
      node[key] = YAML::Node(YAML::NodeType::Map);
      next.reset(node[key]);
    }
    check(next.IsMap() || next.IsSequence(), "--set ", assignment, ": '", path.substr(0, dot), "' holds a value, not keys");
    node.reset(next);
    start = dot + 1;
  }
  state_->overridden.insert(path);
  state_->assignments.push_back(assignment);
}

std::vector<Config> Config::items(const std::string& key) const {
  const std::string path = full(key);
  const YAML::Node node = state_->find(path);
  std::vector<Config> out;
  if (!node.IsDefined() || node.IsNull()) return out;
  state_->lists.insert(path);
  if (!node.IsSequence()) {
    mistake(key, cat("expected a list with keys in every item, found ", shown(node)));
    return out;
  }
  for (size_t i = 0; i < node.size(); ++i) {
    const std::string item = cat(i);
    out.push_back(Config(state_, path).section(item));
  }
  return out;
}

Config Config::copy() const {
  Config out = parse(state_->text, state_->origin);
  for (const auto& assignment : state_->assignments) out.set(assignment);
  return out;
}

void Config::overlay(const std::string& from, const std::string& to) {
  const YAML::Node source = state_->find(from);
  if (!source.IsDefined() || !source.IsMap()) return;
  YAML::Node target = state_->find(to);
  if (!target.IsDefined() || !target.IsMap()) {
    set_from(to + "={}", from);
    target.reset(state_->find(to));
  }
  for (const auto& entry : source) {
    const auto key = entry.first.as<std::string>();
    target[key] = entry.second;
    state_->renamed[to + "." + key] = from + "." + key;
  }
}

void Config::set_from(const std::string& assignment, const std::string& source) {
  set(assignment);
  state_->assignments.pop_back();
  const std::string path = assignment.substr(0, assignment.find('='));
  state_->overridden.erase(path);
  state_->renamed[path] = source;
}

void Config::ignore(const std::string& key) const {
  state_->ignored.insert(full(key));
}

void Config::erase(const std::string& path) {
  const size_t dot = path.rfind('.');
  YAML::Node parent = state_->find(dot == std::string::npos ? "" : path.substr(0, dot));
  if (parent.IsDefined() && parent.IsMap()) parent.remove(dot == std::string::npos ? path : path.substr(dot + 1));
}

Config Config::section(const std::string& key) const {
  const std::string path = full(key);
  state_->sections.insert(path);
  const YAML::Node node = state_->find(path);
  if (node.IsDefined() && !node.IsNull() && !node.IsMap()) mistake(key, cat("expected keys below it, found ", shown(node)));
  return Config(state_, path);
}

bool Config::has(const std::string& key) const {
  const YAML::Node node = state_->find(full(key));
  return node.IsDefined() && !node.IsNull();
}

std::vector<std::string> Config::keys() const {
  std::vector<std::string> out;
  const YAML::Node node = path_.empty() ? state_->root : state_->find(path_);
  if (node.IsDefined() && node.IsMap())
    for (const auto& entry : node) out.push_back(entry.first.as<std::string>());
  return out;
}

template <class T>
void Config::read(const std::string& key, T& field, std::string_view doc) const {
  const YAML::Node default_value = to_yaml(field);
  const YAML::Node node = state_->find(full(key));
  if (node.IsDefined() && !node.IsNull() && !convert(node, field))
    mistake(key, cat("expected ", kind_name(static_cast<const T*>(nullptr)), ", found ", shown(node)));
  state_->record(full(key), to_yaml(field), shown(default_value), doc);
}

#define DEEPLORA_CONFIG_READ(...) template void Config::read<__VA_ARGS__>(const std::string&, __VA_ARGS__&, std::string_view) const;
DEEPLORA_CONFIG_READ(bool)
DEEPLORA_CONFIG_READ(int64_t)
DEEPLORA_CONFIG_READ(double)
DEEPLORA_CONFIG_READ(std::string)
DEEPLORA_CONFIG_READ(std::filesystem::path)
DEEPLORA_CONFIG_READ(std::vector<int64_t>)
DEEPLORA_CONFIG_READ(std::vector<double>)
DEEPLORA_CONFIG_READ(std::vector<std::string>)
DEEPLORA_CONFIG_READ(std::optional<bool>)
DEEPLORA_CONFIG_READ(std::optional<int64_t>)
DEEPLORA_CONFIG_READ(std::optional<double>)
DEEPLORA_CONFIG_READ(std::optional<std::string>)
#undef DEEPLORA_CONFIG_READ

void Config::read_choice(const std::string& key, std::string& field, const std::vector<std::string>& choices,
                         std::string_view doc) const {
  read(key, field, doc);
  if (std::find(choices.begin(), choices.end(), field) == choices.end())
    mistake(key, cat("expected one of ", join(choices), ", found '", field, "'", did_you_mean(field, choices)));
}

void Config::require(bool ok, const std::string& key, const std::string& expected) const {
  if (ok) return;
  const YAML::Node node = state_->find(full(key));
  mistake(key, cat("expected ", expected, ", found ", node.IsDefined() ? shown(node) : std::string("nothing")));
}

void Config::mistake(const std::string& key, const std::string& message) const {
  state_->add_mistake(cat(where(key), ": ", message));
}

std::string Config::where(const std::string& key) const {
  std::string path = full(key);
  if (const auto from = state_->renamed.find(path); from != state_->renamed.end()) path = from->second;
  for (const auto& set : state_->overridden)
    if (path == set || path.rfind(set + ".", 0) == 0) return "--set " + path;
  const YAML::Node node = state_->find(path);
  if (node.IsDefined() && node.Mark().line >= 0 && !node.Mark().is_null())
    return cat(state_->origin, ":", node.Mark().line + 1, ": ", path);
  return cat(state_->origin, ": ", path);
}

namespace {

// Entries of a mapping, or of a list of mappings by their number.
std::vector<std::pair<std::string, YAML::Node>> entries_of(const YAML::Node& node) {
  std::vector<std::pair<std::string, YAML::Node>> out;
  if (node.IsMap())
    for (const auto& entry : node) out.emplace_back(entry.first.as<std::string>(), entry.second);
  if (node.IsSequence())
    for (size_t i = 0; i < node.size(); ++i) out.emplace_back(cat(i), node[i]);
  return out;
}

void find_unknown(const YAML::Node& node, const std::string& path, const std::set<std::string>& sections,
                  const std::map<std::string, size_t>& options, std::vector<std::string>& unknown) {
  for (const auto& [key, value] : entries_of(node)) {
    const std::string child = (path.empty() ? "" : path + ".") + key;
    if (options.count(child)) continue;
    if (sections.count(child)) find_unknown(value, child, sections, options, unknown);
    else unknown.push_back(child);
  }
}

}  // namespace

void Config::finish() const {
  std::vector<std::string> unknown;
  std::set<std::string> sections = state_->sections;
  sections.insert(state_->lists.begin(), state_->lists.end());
  find_unknown(state_->root, "", sections, state_->index, unknown);
  std::erase_if(unknown, [&](const std::string& path) { return state_->ignored.count(path) > 0; });
  for (const auto& path : unknown) {
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
    std::string hint = did_you_mean(key, siblings);
    if (hint.empty() && !elsewhere.empty()) hint = cat(" (did you mean '", elsewhere.front(), "'?)");
    if (hint.empty() && !siblings.empty()) hint = cat("; known here: ", join(siblings));
    state_->add_mistake(cat(Config(state_, "").where(path), ": unknown key", hint));
  }
  if (state_->mistakes.empty()) return;
  throw Error(join(state_->mistakes, "; ", 12));
}

std::string Config::dumped_over(bool given) const {
  YAML::Node tree = given ? YAML::Clone(state_->root) : YAML::Node(YAML::NodeType::Map);
  for (const auto& entry : state_->resolved) {
    if (entry.value.IsNull()) continue;
    YAML::Node node;
    node.reset(tree);
    size_t start = 0;
    for (size_t dot = entry.path.find('.'); dot != std::string::npos; dot = entry.path.find('.', start)) {
      const bool in_list = start > 0 && state_->lists.count(entry.path.substr(0, start - 1)) > 0;
      const std::string key = entry.path.substr(start, dot - start);
      YAML::Node next = in_list ? node[std::stoul(key)] : node[key];
      node.reset(next);
      start = dot + 1;
    }
    node[entry.path.substr(start)] = entry.value;
  }
  YAML::Emitter out;
  out << tree;
  return std::string(out.c_str()) + "\n";
}

std::string Config::dump() const {
  return dumped_over(false);
}

std::string Config::dump_all() const {
  return dumped_over(true);
}

std::vector<ConfigOption> Config::options() const {
  std::vector<ConfigOption> out;
  for (const auto& entry : state_->resolved) out.push_back({entry.path, entry.default_value, entry.doc});
  return out;
}

namespace {

void collect_settings(const YAML::Node& node, const std::string& path, std::vector<std::pair<std::string, std::string>>& out) {
  const auto below = [&](const std::string& key) { return path.empty() ? key : path + "." + key; };
  if (node.IsMap()) {
    for (const auto& entry : node) collect_settings(entry.second, below(entry.first.Scalar()), out);
  } else if (node.IsSequence() && node.size() > 0 && node[0].IsMap()) {
    for (size_t i = 0; i < node.size(); ++i) collect_settings(node[i], below(std::to_string(i)), out);
  } else if (!node.IsNull()) {
    out.emplace_back(path, shown(node));
  }
}

}  // namespace

std::vector<std::pair<std::string, std::string>> settings_of(const std::string& yaml) {
  std::vector<std::pair<std::string, std::string>> out;
  collect_settings(load_mapping(yaml, "configuration"), "", out);
  return out;
}

}  // namespace deeplora
