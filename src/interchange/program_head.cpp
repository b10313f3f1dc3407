#include "interchange/program_head.h"

#include <algorithm>
#include <set>

#include "model_files/exported_module.h"

namespace deeplora {
namespace {

using nlohmann::json;

json tensor_named(const std::string& name) { return {{"as_tensor", {{"name", name}}}}; }

json whole(int64_t value) { return {{"as_int", value}}; }

/// The file's number of a floating-point type, and of truth values.
int64_t number_of_type(torch::ScalarType type) {
  for (const int64_t number : {6, 7, 8, 13, 12, 5})
    if (exported_dtype(number, "head") == type) return number;
  fail("a head of type ", c10::toString(type), " has no place in an exported program");
}

/// Strides of a dense tensor, written as PyTorch writes products of sizes.
json dense_strides(const json& sizes) {
  json out = json::array();
  json step = {{"as_int", 1}};
  for (size_t i = sizes.size(); i-- > 0;) {
    out.insert(out.begin(), step);
    const json& size = sizes[i];
    const auto text = [](const json& x) {
      return x.contains("as_int") ? cat("Integer(", x["as_int"].get<int64_t>(), ")")
                                  : x["as_expr"]["expr_str"].get<std::string>();
    };
    if (step.contains("as_int") && size.contains("as_int"))
      step = {{"as_int", step["as_int"].get<int64_t>() * size["as_int"].get<int64_t>()}};
    else if (step == whole(1)) step = size;
    else step = {{"as_expr", {{"expr_str", cat("Mul(", text(step), ", ", text(size), ")")}, {"hint", nullptr}}}};
  }
  return out;
}

/// Adds nodes to a graph.
class HeadWriter {
 public:
  HeadWriter(json& graph, const std::string& device) : graph_(graph), device_(device) {
    for (const auto& [name, unused] : graph["tensor_values"].items()) names_.insert(name);
    for (const auto& [name, unused] : graph["sym_int_values"].items()) names_.insert(name);
  }

  /// A name that nothing in the graph has.
  std::string fresh(const std::string& wish) {
    std::string out = wish;
    for (int i = 1; !names_.insert(out).second; ++i) out = cat(wish, "_", i);
    return out;
  }

  void describe(const std::string& name, torch::ScalarType type, const json& sizes, bool trained = false) {
    graph_["tensor_values"][name] = {{"dtype", number_of_type(type)},
                                     {"sizes", sizes},
                                     {"requires_grad", trained},
                                     {"device", {{"type", device_}, {"index", nullptr}}},
                                     {"strides", dense_strides(sizes)},
                                     {"storage_offset", {{"as_int", 0}}},
                                     {"layout", 7}};
  }

  /// Its result's name. `inputs`: parameter, argument, and whether it is given by name.
  struct Input {
    const char* name;
    json argument;
    bool by_name = false;
  };
  std::string add(const std::string& op, const std::vector<Input>& inputs, torch::ScalarType type, const json& sizes) {
    const std::string name = fresh("head_" + op.substr(0, op.find('.')));
    json given = json::array();
    for (const auto& input : inputs)
      given.push_back({{"name", input.name}, {"arg", input.argument}, {"kind", input.by_name ? 2 : 1}});
    graph_["nodes"].push_back({{"target", "torch.ops.aten." + op},
                               {"inputs", given},
                               {"outputs", json::array({tensor_named(name)})},
                               {"metadata", json::object()},
                               {"is_hop_single_tensor_return", nullptr},
                               {"name", name}});
    describe(name, type, sizes);
    return name;
  }

 private:
  json& graph_;
  std::string device_;
  std::set<std::string> names_;
};

/// Which of the result's leaves model.output names: "" the first tensor.
size_t leaf_of(const ExportedFile& base, const std::string& path) {
  const ExportedProgram& program = base.program();
  const auto is_tensor = [&](size_t leaf) { return program.graph.outputs.at(leaf).type == "as_tensor"; };
  size_t leaf = 0;
  if (path.empty()) {
    while (leaf + 1 < program.graph.outputs.size() && !is_tensor(leaf)) ++leaf;
  } else {
    const ExportedTree* tree = &program.result;
    for (size_t start = 0; start <= path.size();) {
      const size_t dot = std::min(path.find('.', start), path.size());
      const std::string key = path.substr(start, dot - start);
      size_t child = 0;
      while (child < tree->children.size() && (tree->keys.empty() ? cat(child) : tree->keys[child]) != key)
        leaf += tree->children[child++].leaves();
      check(child < tree->children.size(), "model.output: '", path, "' does not fit the model's result");
      tree = &tree->children[child];
      start = dot + 1;
    }
    check(tree->leaf(), "model.output: '", path, "' is not a tensor");
  }
  check(leaf < program.graph.outputs.size() && is_tensor(leaf), "the model's result holds no tensor there");
  return leaf;
}

/// The graph's value that stands for an input of a batch; empty where the program takes none.
std::string value_of_input(const ExportedFile& base, const ArchiveInterface& interface, const std::string& input) {
  const auto renamed = interface.inputs.find(input);
  const auto found = base.arguments().find(renamed == interface.inputs.end() ? input : renamed->second);
  return found == base.arguments().end() ? "" : found->second;
}

/// The pooled states [B, D] in the head's precision; of `states` [B, T, D] and a mask or ids [B, T].
class PoolingWriter {
 public:
  PoolingWriter(HeadWriter& out, const json& tensors, std::string states, torch::ScalarType type)
      : out_(out), type_(type), states_(std::move(states)) {
    sizes_ = tensors.at(states_).at("sizes");
    check(sizes_.size() == 3 && sizes_[2].contains("as_int"), "the model's output has sizes ", sizes_.dump(),
          "; a new head reads [B, T, D] of a fixed D");
    rows_ = json::array({sizes_[0], sizes_[1]});
    row_column_ = json::array({sizes_[0], sizes_[1], whole(1)});
    pooled_ = json::array({sizes_[0], sizes_[2]});
    column_ = json::array({sizes_[0], whole(1)});
    states_ = convert(states_, sizes_);
  }

  std::string run(Pooling pooling, const std::string& truth) {
    switch (pooling) {
      case Pooling::mean: return mean(kept(truth));
      case Pooling::cls:
        return out_.add("select.int", {{"self", tensor_named(states_)}, {"dim", whole(1)}, {"index", whole(0)}}, type_,
                        pooled_);
      case Pooling::max: return most(kept(truth));
      case Pooling::last: return last(truth);
      case Pooling::none: return states_;
    }
    return {};
  }

  /// x [B, D] / |x|, as torch.nn.functional.normalize has it.
  std::string normalized(const std::string& x) {
    const json two = {{"as_float", 2.0}}, yes = {{"as_bool", true}}, least = {{"as_float", 1e-12}};
    const std::string length =
        out_.add("linalg_vector_norm.default",
                 {{"self", tensor_named(x)}, {"ord", two}, {"dim", {{"as_ints", json::array({1})}}}, {"keepdim", yes}},
                 type_, column_);
    const std::string divisor =
        out_.add("clamp.default", {{"self", tensor_named(length)}, {"min", least}}, type_, column_);
    return out_.add("div.Tensor", {{"self", tensor_named(x)}, {"other", tensor_named(divisor)}}, type_, pooled_);
  }

  /// Where x [B, T] is not `number`.
  std::string differs(const std::string& x, int64_t number) {
    return out_.add("ne.Scalar", {{"self", tensor_named(x)}, {"other", whole(number)}}, torch::kBool, rows_);
  }
  std::string ones_like(const std::string& x) {
    return out_.add("full_like.default",
                    {{"self", tensor_named(x)},
                     {"fill_value", whole(1)},
                     {"dtype", {{"as_scalar_type", number_of_type(torch::kInt64)}}, true}},
                    torch::kInt64, rows_);
  }
  /// Sizes of the head's result, with C outputs.
  json logits_sizes(Pooling pooling, int64_t outputs) const {
    json out = pooling == Pooling::none ? rows_ : json::array({sizes_[0]});
    out.push_back(whole(outputs));
    return out;
  }

 private:
  std::string convert(const std::string& x, const json& sizes) {
    return out_.add("_to_copy.default",
                    {{"self", tensor_named(x)}, {"dtype", {{"as_scalar_type", number_of_type(type_)}}, true}}, type_,
                    sizes);
  }
  /// 1 for cells that count, else 0: [B, T, 1]
  std::string kept(const std::string& truth) {
    return out_.add("unsqueeze.default", {{"self", tensor_named(convert(truth, rows_))}, {"dim", whole(-1)}}, type_,
                    row_column_);
  }
  std::string sum(const std::string& x, const json& sizes) {
    return out_.add("sum.dim_IntList", {{"self", tensor_named(x)}, {"dim", {{"as_ints", json::array({1})}}}}, type_,
                    sizes);
  }
  std::string mean(const std::string& kept) {
    const std::string masked =
        out_.add("mul.Tensor", {{"self", tensor_named(states_)}, {"other", tensor_named(kept)}}, type_, sizes_);
    const std::string count =
        out_.add("clamp.default", {{"self", tensor_named(sum(kept, column_))}, {"min", whole(1)}}, type_, column_);
    return out_.add("div.Tensor", {{"self", tensor_named(sum(masked, pooled_))}, {"other", tensor_named(count)}}, type_,
                    pooled_);
  }
  std::string most(const std::string& kept) {
    const std::string left_out =
        out_.add("eq.Scalar", {{"self", tensor_named(kept)}, {"other", whole(0)}}, torch::kBool, row_column_);
    const std::string masked = out_.add(
        "masked_fill.Scalar",
        {{"self", tensor_named(states_)}, {"mask", tensor_named(left_out)}, {"value", {{"as_float", "-Infinity"}}}},
        type_, sizes_);
    return out_.add("amax.default", {{"self", tensor_named(masked)}, {"dim", {{"as_ints", json::array({1})}}}}, type_,
                    pooled_);
  }
  /// The largest place that counts: places from 1 on, 0 where a cell does not count.
  std::string last(const std::string& truth) {
    const std::string places =
        out_.add("cumsum.default", {{"self", tensor_named(ones_like(truth))}, {"dim", whole(1)}}, torch::kInt64, rows_);
    const std::string counted =
        out_.add("mul.Tensor", {{"self", tensor_named(places)}, {"other", tensor_named(truth)}}, torch::kInt64, rows_);
    std::string index = out_.add("argmax.default",
                                 {{"self", tensor_named(counted)}, {"dim", whole(1)}, {"keepdim", {{"as_bool", true}}}},
                                 torch::kInt64, column_);
    json spread = json::array({sizes_[0], whole(1), sizes_[2]});
    index = out_.add("unsqueeze.default", {{"self", tensor_named(index)}, {"dim", whole(-1)}}, torch::kInt64,
                     json::array({sizes_[0], whole(1), whole(1)}));
    const json width = json::array({-1, 1, sizes_[2].at("as_int")});
    index = out_.add("expand.default", {{"self", tensor_named(index)}, {"size", {{"as_ints", width}}}}, torch::kInt64,
                     spread);
    const std::string row =
        out_.add("gather.default", {{"self", tensor_named(states_)}, {"dim", whole(1)}, {"index", tensor_named(index)}},
                 type_, spread);
    return out_.add("squeeze.dim", {{"self", tensor_named(row)}, {"dim", whole(1)}}, type_, pooled_);
  }

  HeadWriter& out_;
  torch::ScalarType type_;
  std::string states_;
  json sizes_, rows_, row_column_, pooled_, column_;
};

/// A parameter as an input of the graph, behind the last of those that are there.
std::string add_parameter(json& module, HeadWriter& writer, const std::string& path, const torch::Tensor& value) {
  std::string wish = "p_" + path;
  std::replace(wish.begin(), wish.end(), '.', '_');
  const std::string name = writer.fresh(wish);
  json sizes = json::array();
  for (const int64_t size : value.sizes()) sizes.push_back(whole(size));
  writer.describe(name, value.scalar_type(), sizes, /*trained=*/true);
  json& specs = module["signature"]["input_specs"];
  size_t place = 0;
  for (size_t i = 0; i < specs.size(); ++i)
    if (specs[i].contains("parameter")) place = i + 1;
  const auto at = static_cast<std::ptrdiff_t>(place);
  const json spec = {{"parameter", {{"arg", {{"name", name}}}, {"parameter_name", path}}}};
  specs.insert(specs.begin() + at, spec);
  json& inputs = module["graph"]["inputs"];
  inputs.insert(inputs.begin() + at, tensor_named(name));
  return name;
}

/// A tensor as the program's only result.
void set_result(json& module, const std::string& result) {
  module["graph"]["outputs"] = json::array({tensor_named(result)});
  module["signature"]["output_specs"] = json::array({{{"user_output", {{"arg", tensor_named(result)}}}}});
  for (json& call : module["module_call_graph"])
    if (call["fqn"] == "") {
      call["signature"]["outputs"] = json::array();
      call["signature"]["out_spec"] = "[1, {\"type\": null, \"context\": null, \"children_spec\": []}]";
    }
}

}  // namespace

std::string head_module_name(const ExportedFile& base) {
  std::string out = kHeadModule;
  const auto taken = [&](const std::string& module) {
    for (const auto& name : base.names())
      if (name == module || name.starts_with(module + ".")) return true;
    return false;
  };
  for (int i = 1; taken(out); ++i) out = cat("new_", kHeadModule, i == 1 ? "" : cat("_", i));
  return out;
}

void append_end(json& program, const ExportedFile& base, const ArchiveInterface& interface, const StatesEnd& end,
                std::optional<int64_t> padding) {
  json& module = program["graph_module"];
  json& graph = module["graph"];
  const std::string states = base.program().graph.outputs.at(leaf_of(base, interface.output)).items.at(0).name;
  const std::string device = base.tensors().empty() ? "cpu" : base.program().graph.tensors.at(states).device;
  HeadWriter writer(graph, device.substr(0, device.find(':')));
  const torch::ScalarType type = end.head ? end.head->weight.scalar_type() : end.type;
  PoolingWriter pooling(writer, graph["tensor_values"], states, type);
  const std::string mask = value_of_input(base, interface, "attention_mask"),
                    ids = value_of_input(base, interface, "input_ids");
  const Pooling kind = end.form.pooling;
  std::string truth;  // of cells that count; without pooling nobody asks
  if (kind != Pooling::none && !mask.empty()) truth = pooling.differs(mask, 0);
  else if (kind != Pooling::none)
    truth = padding ? pooling.differs(ids, *padding) : pooling.differs(pooling.ones_like(ids), 0);
  std::string pooled = pooling.run(kind, truth);
  if (end.form.normalize) pooled = pooling.normalized(pooled);
  if (!end.head) return set_result(module, pooled);
  const std::string name = head_module_name(base);
  const std::string weight = add_parameter(module, writer, name + ".weight", end.head->weight),
                    bias = add_parameter(module, writer, name + ".bias", end.head->bias);
  const json outputs = pooling.logits_sizes(kind, end.head->weight.size(0));
  set_result(
      module,
      writer.add("linear.default",
                 {{"input", tensor_named(pooled)}, {"weight", tensor_named(weight)}, {"bias", tensor_named(bias)}},
                 type, outputs));
}

}  // namespace deeplora
