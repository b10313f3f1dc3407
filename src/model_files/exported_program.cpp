#include "model_files/exported_program.h"

#include <limits>

#include "core/json_file.h"

namespace deeplora {
namespace {

using nlohmann::json;

constexpr int64_t kSchema = 8;          // since PyTorch 2.6
constexpr size_t kMostNesting = 16;     // of graphs in graphs, and of arguments in dictionaries
constexpr size_t kMostDimensions = 64;  // LibTorch's own bound
constexpr uint64_t kMostBytes = uint64_t{1} << 46;

/// The key of a union and what stands under it: the file has {"as_int": 3}.
std::pair<std::string, const json*> union_of(const json& value, const std::string& where) {
  check(value.is_object() && value.size() == 1, where,
        ": expected one of several kinds as an object of one key, found ", shown(value));
  return {value.begin().key(), &value.begin().value()};
}

double number_of(const json& value, const std::string& where) {
  if (!value.is_string()) return json_as<double>(value, where);
  const std::string text = value.get<std::string>();  // JSON has no other way to write them
  if (text == "Infinity") return std::numeric_limits<double>::infinity();
  if (text == "-Infinity") return -std::numeric_limits<double>::infinity();
  if (text == "NaN") return std::numeric_limits<double>::quiet_NaN();
  fail(where, ": expected a number, found ", shown(value));
}

ExportedSize size_of(const json& value, const std::string& where) {
  const auto [kind, held] = union_of(value, where);
  if (kind == "as_int") return {json_as<int64_t>(*held, where), {}};
  check(kind == "as_expr", where, ": expected a size, found ", kind);
  return {{}, json_at<std::string>(*held, "expr_str", where)};
}

std::vector<ExportedSize> sizes_of(const json& values, const std::string& where) {
  check(values.is_array() && values.size() <= kMostDimensions, where, ": expected at most ", kMostDimensions, " sizes");
  std::vector<ExportedSize> out;
  for (const auto& value : values) out.push_back(size_of(value, where));
  return out;
}

std::string device_of(const json& value, const std::string& where) {
  const std::string type = json_at<std::string>(value, "type", where);
  const auto index = json_value<int64_t>(value, "index", -1, where);
  return index < 0 ? type : cat(type, ":", index);
}

ExportedTensor tensor_of(const json& value, const std::string& where) {
  ExportedTensor out;
  out.dtype = json_at<int64_t>(value, "dtype", where);
  out.sizes = sizes_of(json_member(value, "sizes", where), where);
  out.strides = sizes_of(json_member(value, "strides", where), where);
  out.offset = size_of(json_member(value, "storage_offset", where), where);
  out.device = device_of(json_member(value, "device", where), where);
  check(out.sizes.size() == out.strides.size(), where, ": ", out.sizes.size(), " sizes and ", out.strides.size(),
        " strides");
  return out;
}

ExportedItem named(const json& value, const std::string& where) {
  return {json_at<std::string>(value, "name", where), {}};
}

/// {"as_name": "add"} or {"as_int": 3}
ExportedItem symbol_of(const json& value, const std::string& where) {
  const auto [kind, held] = union_of(value, where);
  if (kind == "as_name") return {json_as<std::string>(*held, where), {}};
  if (kind == "as_int") return {{}, json_as<int64_t>(*held, where)};
  if (kind == "as_bool") return {{}, json_as<bool>(*held, where)};
  check(kind == "as_float", where, ": expected a number or its name, found ", kind);
  return {{}, number_of(*held, where)};
}

ExportedItem optional_tensor(const json& value, const std::string& where) {
  const auto [kind, held] = union_of(value, where);
  return kind == "as_tensor" ? named(*held, where) : ExportedItem{};
}

/// One value of a kind that also comes in lists ("as_int" and "as_ints").
ExportedItem item_of(const std::string& kind, const json& value, const std::string& where) {
  if (kind == "as_tensor" || kind == "as_custom_obj") return named(value, where);
  if (kind == "as_optional_tensor") return optional_tensor(value, where);
  if (kind == "as_sym_int" || kind == "as_sym_float" || kind == "as_sym_bool") return symbol_of(value, where);
  if (kind == "as_bool") return {{}, json_as<bool>(value, where)};
  if (kind == "as_float") return {{}, number_of(value, where)};
  if (kind == "as_string" || kind == "as_operator") return {{}, json_as<std::string>(value, where)};
  if (kind == "as_device") return {{}, device_of(value, where)};
  return {{}, json_as<int64_t>(value, where)};  // as_int, as_scalar_type, as_memory_format, as_layout
}

ExportedGraph graph_of(const json& value, const std::string& where, size_t depth);

ExportedArgument argument_of(const json& value, const std::string& where, size_t depth) {
  const auto [kind, held] = union_of(value, where);
  ExportedArgument out;
  out.type = kind;
  if (kind == "as_none") {
    out.items.emplace_back();
  } else if (kind == "as_graph") {
    const json& graph = json_member(*held, "graph", where);
    out.graph = std::make_shared<const ExportedGraph>(graph_of(graph, where, depth + 1));
  } else if (kind == "as_complex") {
    for (const char* part : {"real", "imag"})
      out.items.push_back({{}, number_of(json_member(*held, part, where), where)});
  } else if (kind == "as_string_to_argument" || kind.ends_with("_lists") || kind == "as_nested_tensors") {
    return out;  // no operator of a model has such: whoever meets one refuses it by its kind
  } else if (kind.ends_with("s") && held->is_array()) {
    out.list = true;
    for (const auto& item : *held) out.items.push_back(item_of(kind.substr(0, kind.size() - 1), item, where));
  } else {
    out.items.push_back(item_of(kind, *held, where));
  }
  return out;
}

std::vector<ExportedArgument> arguments_of(const json& values, const std::string& where, size_t depth) {
  check(values.is_array(), where, ": expected a list of arguments, found ", shown(values));
  std::vector<ExportedArgument> out;
  for (const auto& value : values) out.push_back(argument_of(value, where, depth));
  return out;
}

/// "a,b;c,d" -> of the last entry, which is "key,path,class", the path.
std::string innermost_module(const std::string& stack) {
  const size_t entry = stack.rfind(';') == std::string::npos ? 0 : stack.rfind(';') + 1;
  const size_t begin = stack.find(',', entry);
  if (begin == std::string::npos) return {};
  return stack.substr(begin + 1, stack.find(',', begin + 1) - begin - 1);
}

ExportedNode node_of(const json& value, const std::string& where, size_t depth) {
  ExportedNode out;
  out.target = json_at<std::string>(value, "target", where);
  const std::string here = cat(where, ": ", out.target);
  const json& inputs = json_member(value, "inputs", here);
  check(inputs.is_array(), here, ": expected a list of inputs");
  for (const auto& input : inputs) {
    out.inputs.push_back(argument_of(json_member(input, "arg", here), here, depth));
    out.inputs.back().name = json_value<std::string>(input, "name", "", here);
  }
  out.outputs = arguments_of(json_member(value, "outputs", here), here, depth);
  const auto metadata = value.find("metadata");
  if (metadata != value.end() && metadata->is_object())
    out.module = innermost_module(json_value<std::string>(*metadata, "nn_module_stack", "", here));
  return out;
}

ExportedGraph graph_of(const json& value, const std::string& where, size_t depth) {
  check(depth <= kMostNesting, where, ": graphs nest deeper than ", kMostNesting, " levels");
  ExportedGraph out;
  out.inputs = arguments_of(json_member(value, "inputs", where), where, depth);
  out.outputs = arguments_of(json_member(value, "outputs", where), where, depth);
  const json& nodes = json_member(value, "nodes", where);
  check(nodes.is_array(), where, ": expected a list of nodes");
  for (const auto& node : nodes) out.nodes.push_back(node_of(node, where, depth));
  const json& tensors = json_member(value, "tensor_values", where);
  check(tensors.is_object(), where, ": expected an object of tensors");
  for (const auto& [name, tensor] : tensors.items())
    out.tensors.emplace(name, tensor_of(tensor, cat(where, ": ", name)));
  return out;
}

/// Of an input or output: {"parameter": {"arg": {"name": "p"}, "parameter_name": "a.weight"}}.
ExportedSpec spec_of(const json& value, const std::string& where) {
  const auto [kind, held] = union_of(value, where);
  ExportedSpec out;
  out.kind = kind;
  if (kind == "constant_input") {
    out.argument.name = json_at<std::string>(*held, "name", where);
    out.argument.type = "as_none";
    return out;
  }
  const json& argument = json_member(*held, "arg", where);
  if (kind == "user_input" || kind == "user_output") {
    out.argument = argument_of(argument, where, 0);
    return out;
  }
  out.argument.type = "as_tensor";
  out.argument.items = {named(argument, where)};
  for (const char* target :
       {"parameter_name", "buffer_name", "tensor_constant_name", "custom_obj_name", "user_input_name"})
    if (held->contains(target)) out.target = json_at<std::string>(*held, target, where);
  return out;
}

std::vector<ExportedSpec> specs_of(const json& values, const std::string& where) {
  check(values.is_array(), where, ": expected a list, found ", shown(values));
  std::vector<ExportedSpec> out;
  for (const auto& value : values) out.push_back(spec_of(value, where));
  return out;
}

/// The names in a container's context, which is JSON in a text: ["a", "b"], or of a defaultdict or a dataclass a list
/// whose last or first part they are.
std::vector<std::string> keys_of(const json& context, size_t children, const std::string& where) {
  if (!context.is_string()) return {};
  const std::string text = context.get<std::string>();
  if (nests_too_deep(text)) return {};
  json parsed = json::parse(text, nullptr, /*allow_exceptions=*/false);
  std::vector<const json*> lists{&parsed};
  if (parsed.is_array())
    for (const auto& part : parsed) lists.push_back(&part);
  for (const json* list : lists) {
    std::vector<std::string> keys;
    if (list->is_array() && list->size() == children && JsonType<std::vector<std::string>>::read(*list, keys))
      return keys;
  }
  (void)where;
  return {};
}

ExportedTree tree_of(const json& value, const std::string& where, size_t depth) {
  check(depth <= kMostNesting, where, ": arguments nest deeper than ", kMostNesting, " levels");
  ExportedTree out;
  out.type = json_value<std::string>(value, "type", "", where);
  const json& children = json_member(value, "children_spec", where);
  check(children.is_array(), where, ": expected a list of children");
  for (const auto& child : children) out.children.push_back(tree_of(child, where, depth + 1));
  const auto context = value.find("context");
  const bool by_place = out.type == "builtins.tuple" || out.type == "builtins.list";
  if (!out.leaf() && !by_place && context != value.end()) out.keys = keys_of(*context, out.children.size(), where);
  return out;
}

/// A text [1, {...}] : the version of how trees are written, and one.
ExportedTree tree_in(const json& value, const std::string& where) {
  const json parsed = parse_json<json>(where, json_as<std::string>(value, where));
  check(parsed.is_array() && parsed.size() == 2 && parsed[0] == 1, where, ": expected a tree of version 1");
  return tree_of(parsed[1], where, 0);
}

void read_calls(const json& calls, ExportedProgram& out, const std::string& where) {
  check(calls.is_array(), where, ": expected a list of modules");
  for (const auto& call : calls) {
    if (!json_at<std::string>(call, "fqn", where).empty()) continue;
    const json& signature = json_member(call, "signature", where);
    out.arguments = tree_in(json_member(signature, "in_spec", where), where + ": in_spec");
    out.result = tree_in(json_member(signature, "out_spec", where), where + ": out_spec");
    out.argument_names = json_value<std::vector<std::string>>(signature, "forward_arg_names", {}, where);
    return;
  }
  fail(where, ": the program itself is not among its modules");
}

/// A bound; none where there is no end ("int_oo", "Infinity").
std::optional<int64_t> bound_of(const json& range, const char* key, const std::string& where) {
  const auto found = range.find(key);
  if (found == range.end() || !found->is_number_integer()) return std::nullopt;
  return json_as<int64_t>(*found, where);
}

}  // namespace

size_t ExportedTree::leaves() const {
  if (leaf()) return 1;
  size_t out = 0;
  for (const auto& child : children) out += child.leaves();
  return out;
}

ExportedProgram ExportedProgram::parse(const std::string& where, std::string_view text) {
  const JsonFile file = JsonFile::parse(where, text);
  ExportedProgram out;
  out.torch_version = file.value("torch_version", std::string("2.4 or before"));
  const auto schema = file.section("schema_version");
  check(schema.value("major", int64_t{0}) == kSchema, where, ": a program in form ", schema.value("major", int64_t{0}),
        ".", schema.value("minor", int64_t{0}), ", written by PyTorch ", out.torch_version, "; expected form ", kSchema,
        ": save it again by torch.export.save of PyTorch 2.9 or later");
  const json& module = json_member(file.root, "graph_module", where);
  out.graph = graph_of(json_member(module, "graph", where), where, 0);
  const json& signature = json_member(module, "signature", where);
  out.inputs = specs_of(json_member(signature, "input_specs", where), where + ": input_specs");
  out.outputs = specs_of(json_member(signature, "output_specs", where), where + ": output_specs");
  read_calls(json_member(module, "module_call_graph", where), out, where + ": module_call_graph");
  const auto ranges = file.section("range_constraints");
  for (const auto& [symbol, range] : ranges.root.items()) {
    check(range.is_object(), ranges.name, ": ", symbol, ": expected an object");
    out.ranges[symbol] = {bound_of(range, "min_val", ranges.name), bound_of(range, "max_val", ranges.name)};
  }
  out.guards = file.value("guards_code", std::vector<std::string>());
  check(out.inputs.size() == out.graph.inputs.size(), where, ": the graph has ", out.graph.inputs.size(),
        " inputs, the signature names ", out.inputs.size());
  check(out.outputs.size() == out.graph.outputs.size(), where, ": the graph has ", out.graph.outputs.size(),
        " outputs, the signature names ", out.outputs.size());
  return out;
}

std::map<std::string, ExportedPayload> parse_exported_payloads(const std::string& where, std::string_view text) {
  const JsonFile file = JsonFile::parse(where, text);
  std::map<std::string, ExportedPayload> out;
  const JsonFile config = file.section("config");
  for (const auto& [name, value] : config.root.items()) {
    const std::string here = cat(where, ": ", name);
    ExportedPayload payload;
    payload.path = json_at<std::string>(value, "path_name", here);
    payload.parameter = json_value(value, "is_param", false, here);
    payload.pickled = json_value(value, "use_pickle", false, here);
    const auto meta = value.find("tensor_meta");
    if (meta != value.end() && !meta->is_null()) payload.tensor = tensor_of(*meta, here);
    out.emplace(name, std::move(payload));
  }
  return out;
}

ExportedPlace exported_place(const std::filesystem::path& path) {
  std::error_code ignored;
  const std::string text = path.string();
  const size_t mark = text.rfind('#');
  if (mark == std::string::npos || std::filesystem::exists(path, ignored) ||
      !std::filesystem::exists(text.substr(0, mark), ignored))
    return {path, ""};
  return {text.substr(0, mark), text.substr(mark + 1)};
}

uint64_t exported_extent(const ExportedTensor& tensor, uint64_t element_size, const std::string& where) {
  const auto number = [&](const ExportedSize& size) {
    check(size.fixed && *size.fixed >= 0, where, ": expected a whole number from 0, found ",
          size.fixed ? cat(*size.fixed) : "a size that is free");
    const auto value = static_cast<uint64_t>(*size.fixed);
    check(value <= kMostBytes, where, ": ", value, " is more than memory holds");
    return value;
  };
  uint64_t last = number(tensor.offset);
  bool empty = false;
  for (size_t i = 0; i < tensor.sizes.size(); ++i) {
    const uint64_t size = number(tensor.sizes[i]), stride = number(tensor.strides[i]);
    empty |= size == 0;
    if (size < 2) continue;
    check(stride == 0 || size - 1 <= kMostBytes / stride, where, ": its sizes are more than memory holds");
    last += (size - 1) * stride;
    check(last <= kMostBytes, where, ": its sizes are more than memory holds");
  }
  return empty ? 0 : (last + 1) * element_size;
}

}  // namespace deeplora
