#include "model_files/exported_module.h"

#include <ATen/ScalarOps.h>
#include <ATen/core/dispatch/Dispatcher.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/version.h>

#include <array>
#include <set>
#include <unordered_map>
#include <unordered_set>

#include "core/error.h"
#include "model_files/foreign_operators.h"
#include "model_files/inserted_code.h"
#include "model_files/linear_size.h"
#include "model_files/torchscript_file.h"

namespace deeplora {
namespace {

namespace jit = torch::jit;

/// Values by the names that the file gives them.
using Scope = std::unordered_map<std::string, jit::Value*>;

constexpr const char* kExportAgain = "; export the model without it";

std::string told(const ExportedNode& node) {
  return node.module.empty() ? node.target : cat(node.target, " in ", node.module);
}

bool starts(std::string_view text, std::string_view with) { return text.starts_with(with); }

/// Checks that a traced program carries; they compute nothing.
bool only_asserts(const std::string& name) {
  static const std::set<std::string> names{"_assert_async",
                                           "_assert_scalar",
                                           "_assert_tensor_metadata",
                                           "sym_constrain_range",
                                           "sym_constrain_range_for_size",
                                           "_print"};
  return names.count(name) != 0;
}

/// Operators on numbers, as Python has them.
const std::map<std::string, const char*>& number_operators() {
  static const std::map<std::string, const char*> names{{"_operator.add", "aten::add"},
                                                        {"_operator.sub", "aten::sub"},
                                                        {"_operator.mul", "aten::mul"},
                                                        {"_operator.floordiv", "aten::floordiv"},
                                                        {"_operator.mod", "aten::remainder"},
                                                        {"_operator.truediv", "aten::div"},
                                                        {"_operator.neg", "aten::neg"},
                                                        {"_operator.pow", "aten::pow"},
                                                        {"_operator.eq", "aten::eq"},
                                                        {"_operator.ne", "aten::ne"},
                                                        {"_operator.le", "aten::le"},
                                                        {"_operator.ge", "aten::ge"},
                                                        {"_operator.lt", "aten::lt"},
                                                        {"_operator.gt", "aten::gt"},
                                                        {"_operator.and_", "aten::__and__"},
                                                        {"_operator.or_", "aten::__or__"},
                                                        {"_operator.lshift", "aten::__lshift__"},
                                                        {"_operator.rshift", "aten::__rshift__"},
                                                        {"math.trunc", "aten::Int"},
                                                        {"math.floor", "aten::floor"},
                                                        {"math.ceil", "aten::ceil"},
                                                        {"torch.sym_not", "aten::__not__"},
                                                        {"torch.sym_int", "aten::Int"},
                                                        {"torch.sym_float", "aten::Float"},
                                                        {"torch.sym_max", "prim::max"},
                                                        {"torch.sym_min", "prim::min"},
                                                        {"torch.sym_sqrt", "aten::sqrt"},
                                                        {"torch._sym_sqrt", "aten::sqrt"}};
  return names;
}

int64_t memory_format_of(int64_t number, const std::string& where) {
  constexpr std::array<c10::MemoryFormat, 5> kFormats{c10::MemoryFormat::Contiguous, c10::MemoryFormat::Contiguous,
                                                      c10::MemoryFormat::ChannelsLast,
                                                      c10::MemoryFormat::ChannelsLast3d, c10::MemoryFormat::Preserve};
  check(number > 0 && number < static_cast<int64_t>(kFormats.size()), where, ": unknown memory format ", number);
  return static_cast<int64_t>(kFormats.at(static_cast<size_t>(number)));
}

int64_t layout_of(int64_t number, const std::string& where) {
  check(number == 7, where, ": tensors of layout ", number, "; expected dense ones");
  return static_cast<int64_t>(c10::Layout::Strided);
}

SizeLimit limit_of(const ExportedSize& size, const std::map<std::string, ExportedRange>& ranges) {
  SizeLimit out;
  out.fixed = size.fixed;
  if (size.fixed) return out;
  const auto linear = linear_size(size.expression).value_or(LinearSize{});
  out.symbol = linear.symbol;
  out.times = linear.times, out.plus = linear.plus;
  const auto range = ranges.find(out.symbol);
  if (range == ranges.end()) return out;
  // As in PyTorch: sizes 0 and 1 may always be given.
  if (range->second.least.value_or(0) > 2) out.least = range->second.least;
  out.most = range->second.most;
  return out;
}

/// Submodules, made as names ask for them.
class ModuleTree {
 public:
  ModuleTree() { modules_.emplace("", jit::Module("__torch__.deeplora.ExportedProgram")); }

  void put(const std::string& name, const torch::Tensor& value, bool parameter) {
    const size_t dot = name.rfind('.');
    const std::string inside = dot == std::string::npos ? "" : name.substr(0, dot);
    if (parameter) at(inside).register_parameter(name.substr(inside.empty() ? 0 : dot + 1), value, false);
    else at(inside).register_buffer(name.substr(inside.empty() ? 0 : dot + 1), value);
  }
  jit::Module& root() { return modules_.at(""); }

 private:
  jit::Module& at(const std::string& path) {
    const auto found = modules_.find(path);
    if (found != modules_.end()) return found->second;
    const size_t dot = path.rfind('.');
    jit::Module& above = at(dot == std::string::npos ? "" : path.substr(0, dot));
    jit::Module made(c10::QualifiedName("__torch__.deeplora.Part"), root()._ivalue()->compilation_unit(),
                     /*shouldMangle=*/true);
    above.register_module(path.substr(dot == std::string::npos ? 0 : dot + 1), made);
    return modules_.emplace(path, made).first->second;
  }
  std::map<std::string, jit::Module> modules_;
};

/// Adds operators to a graph.
class GraphWriter {
 public:
  GraphWriter(jit::Graph& graph, torch::Device device, const std::string& where)
      : graph_(graph), device_(device), where_(where) {}

  void add(const ExportedGraph& from, Scope& scope) {
    for (const ExportedNode& node : from.nodes) add(node, scope);
  }

  /// No operator may change that value, nor what shares its memory; `name` is the weight's or the input's.
  void protect(const jit::Value* value, const std::string& name) { weights_[value] = name; }

  jit::Value* constant(const c10::IValue& value) { return graph_.insertConstant(value); }

  jit::Value* value_of(const ExportedItem& item, const Scope& scope, const std::string& where) {
    if (item.name.empty()) return constant(literal(item));
    const auto found = scope.find(item.name);
    check(found != scope.end(), where, ": reads '", item.name, "', which nothing before it makes");
    return found->second;
  }

 private:
  void add(const ExportedNode& node, Scope& scope) {
    const std::string here = cat(where_, ": ", told(node));
    if (starts(node.target, "torch.ops.higher_order.")) return inline_graph(node, scope, here);
    if (starts(node.target, "torch.ops.")) return add_operator(node, scope, here);
    add_number(node, scope, here);
  }

  static c10::IValue literal(const ExportedItem& item) {
    return std::visit(
        [](const auto& held) -> c10::IValue {
          if constexpr (std::is_same_v<std::decay_t<decltype(held)>, std::monostate>) return {};
          else return held;
        },
        item.literal);
  }

  void bind(const ExportedItem& item, jit::Value* value, Scope& scope, const std::string& here) {
    if (item.name.empty()) return;  // None, or a result that nobody reads
    check(scope.emplace(item.name, value).second, here, ": makes '", item.name, "' again");
  }

  // ---- numbers ----

  void add_number(const ExportedNode& node, Scope& scope, const std::string& here) {
    check(node.outputs.size() == 1 && node.outputs[0].items.size() == 1, here, ": expected one result");
    std::vector<jit::Value*> inputs;
    for (const auto& input : node.inputs)
      for (const auto& item : input.items) inputs.push_back(value_of(item, scope, here));
    jit::Value* out = nullptr;
    if (node.target == "_operator.pos" && inputs.size() == 1) {
      out = inputs[0];
    } else if (node.target == "torch.sym_sum" && !inputs.empty()) {
      out = inputs[0];
      for (size_t i = 1; i < inputs.size(); ++i) out = graph_.insert(c10::aten::add, {out, inputs[i]});
    } else if (node.target == "torch.sym_ite" && inputs.size() == 3) {
      out = one_of(inputs[0], inputs[1], inputs[2]);
    } else {
      const auto known = number_operators().find(node.target);
      check(
          known != number_operators().end(), here, ": the program calls this function, which has no counterpart",
          starts(node.target, "torch._functorch.") ? "; save program.run_decompositions() in its place" : kExportAgain);
      std::vector<jit::NamedValue> given(inputs.begin(), inputs.end());
      out = graph_.insert(c10::Symbol::fromQualString(known->second), given);
    }
    const std::string& type = node.outputs[0].type;
    if (type == "as_sym_int" && out->type()->kind() != c10::TypeKind::IntType)
      out = graph_.insert(c10::aten::Int, {out});
    if (type == "as_sym_float" && out->type()->kind() == c10::TypeKind::IntType) out = as_float(out);
    bind(node.outputs[0].items[0], out, scope, here);
  }

  jit::Value* as_float(jit::Value* number) { return graph_.insert(c10::aten::Float, {number}); }

  /// `yes` where the condition holds, else `no`; both are numbers that are there already.
  jit::Value* one_of(jit::Value* condition, jit::Value* yes, jit::Value* no) {
    if (yes->type()->kind() != no->type()->kind()) yes = as_float(yes), no = as_float(no);
    jit::Value* both = graph_.insertNode(graph_.createList(yes->type(), {no, yes}))->output();
    return graph_.insert(c10::aten::__getitem__, {both, graph_.insert(c10::aten::Int, {condition})});
  }

  // ---- graphs in graphs ----

  void inline_graph(const ExportedNode& node, Scope& scope, const std::string& here) {
    const std::string kind = node.target.substr(std::string_view("torch.ops.higher_order.").size());
    const bool gradients = kind == "wrap_with_set_grad_enabled", autocast = kind == "wrap_with_autocast";
    check(gradients || autocast, here, ": the program has control flow or an operator around a graph (", kind,
          "), which cannot be followed", kExportAgain);
    size_t place = 0;
    while (place < node.inputs.size() && !node.inputs[place].graph) ++place;
    check(place < node.inputs.size() && place == (gradients ? 1U : 4U), here, ": expected a graph as its argument");
    const auto& flag = node.inputs[gradients ? 0 : 2].items;
    check(flag.size() == 1 && std::holds_alternative<bool>(flag[0].literal), here, ": expected true or false");
    const bool on = std::get<bool>(flag[0].literal);
    check(gradients || !on, here, ": part of the program runs under autocast; export the model in one precision");
    const ExportedGraph& inner = *node.inputs[place].graph;
    const bool outside = gradients_;
    if (gradients) gradients_ = on;
    const std::vector<jit::Value*> given =
        seen(values_of({node.inputs.begin() + static_cast<std::ptrdiff_t>(place) + 1, node.inputs.end()}, scope, here));
    Scope inside;
    size_t taken = 0;
    for (const auto& input : inner.inputs)
      for (const auto& item : input.items) {
        check(taken < given.size(), here, ": its graph takes more than ", given.size(), " arguments");
        bind(item, given[taken++], inside, here);
      }
    add(inner, inside);
    gradients_ = outside;
    const std::vector<jit::Value*> results = seen(values_of(inner.outputs, inside, here));
    size_t made = 0;
    for (const auto& output : node.outputs)
      for (const auto& item : output.items) {
        check(made < results.size(), here, ": its graph makes no more than ", results.size(), " results");
        bind(item, results[made++], scope, here);
      }
  }

  /// As gradients are seen to come from them here: what was made where none are kept is cut off where they are.
  std::vector<jit::Value*> seen(std::vector<jit::Value*> values) {
    if (!gradients_) return values;
    for (jit::Value*& value : values)
      if (without_gradient_.count(value) != 0 && value->type()->kind() == c10::TypeKind::TensorType)
        value = graph_.insert(c10::aten::detach, {value});
    return values;
  }

  std::vector<jit::Value*> values_of(const std::vector<ExportedArgument>& arguments, const Scope& scope,
                                     const std::string& here) {
    std::vector<jit::Value*> out;
    for (const auto& argument : arguments)
      for (const auto& item : argument.items) out.push_back(value_of(item, scope, here));
    return out;
  }

  // ---- operators of ATen ----

  void add_operator(const ExportedNode& node, Scope& scope, const std::string& here) {
    const std::string path = node.target.substr(std::string_view("torch.ops.").size());
    const size_t first = path.find('.'), last = path.rfind('.');
    check(first != std::string::npos && first < last, here, ": expected torch.ops.LIBRARY.NAME.OVERLOAD");
    const std::string library = path.substr(0, first), overload = path.substr(last + 1);
    std::string name = path.substr(first + 1, last - first - 1);
    if (const auto known = foreign_operator(path)) return write_out(*known, node, scope, here);
    // aten::from_file reads and writes files of its own choice.
    check(library == "aten" && name != "from_file", here, ": an operator of library ", library,
          ", which this program does not run", kExportAgain);
    if (only_asserts(name)) return;
    if (name == "item" || name == "_local_scalar_dense") return add_item(node, scope, here);
    if (name == "copy") return add_copy(node, scope, here);
    if (starts(name, "sym_")) name = name.substr(4);  // the sizes of this run
    const auto found =
        c10::Dispatcher::singleton().findSchema({"aten::" + name, overload == "default" ? "" : overload});
    check(found.has_value(), here, ": LibTorch ", TORCH_VERSION, " has no such operator");
    place_node(node, found->schema(), scope, here);
  }

  /// An operator of another library.
  void write_out(const ForeignOperator& known, const ExportedNode& node, Scope& scope, const std::string& here) {
    std::vector<jit::Value*> inputs;
    for (size_t i = 0; i < known.arguments.size(); ++i) {
      check(i < node.inputs.size() && node.inputs[i].name == known.arguments[i] && node.inputs[i].items.size() == 1,
            here, ": expected the arguments ", join(known.arguments), "; it is another version of the operator");
      inputs.push_back(value_of(node.inputs[i].items[0], scope, here));
    }
    if (!foreign_) foreign_.emplace(foreign_operators_code());
    const std::vector<jit::Value*> made = foreign_->insert(graph_, known.function, inputs);
    check(node.outputs.size() == made.size(), here, ": ", node.outputs.size(), " results, expected ", made.size());
    for (size_t i = 0; i < made.size(); ++i) {
      check(node.outputs[i].items.size() == 1, here, ": expected one result");
      take_result(node.outputs[i].items[0], made[i], scope, here);
    }
  }

  /// copy(x, y), which run_decompositions() makes of writing in place: y in x's shape and type. LibTorch's operator has
  /// no backward pass.
  void add_copy(const ExportedNode& node, Scope& scope, const std::string& here) {
    check(node.inputs.size() >= 2 && node.inputs[0].items.size() == 1 && node.inputs[1].items.size() == 1 &&
              node.outputs.size() == 1 && node.outputs[0].items.size() == 1,
          here, ": expected two tensors and one result");
    jit::Value *like = value_of(node.inputs[0].items[0], scope, here),
               *from = value_of(node.inputs[1].items[0], scope, here);
    from = graph_.insert(c10::aten::type_as, {from, like});
    from = graph_.insert(c10::aten::expand_as, {from, like});
    take_result(node.outputs[0].items[0], graph_.insert(c10::aten::clone, {from}), scope, here);
  }

  /// A number out of a tensor, of the kind that the file says.
  void add_item(const ExportedNode& node, Scope& scope, const std::string& here) {
    check(node.inputs.size() == 1 && node.outputs.size() == 1 && node.inputs[0].items.size() == 1 &&
              node.outputs[0].items.size() == 1,
          here, ": expected one argument and one result");
    const std::string& type = node.outputs[0].type;
    const char* kind = type == "as_sym_float" ? "aten::Float" : type == "as_sym_bool" ? "aten::Bool" : "aten::Int";
    jit::Value* out =
        graph_.insert(c10::Symbol::fromQualString(kind), {value_of(node.inputs[0].items[0], scope, here)});
    bind(node.outputs[0].items[0], out, scope, here);
  }

  void place_node(const ExportedNode& node, const c10::FunctionSchema& schema, Scope& scope, const std::string& here) {
    std::map<std::string, const ExportedArgument*> given;
    for (const auto& input : node.inputs)
      check(given.emplace(input.name, &input).second, here, ": argument '", input.name, "' twice");
    std::vector<jit::Value*> inputs;
    for (const auto& formal : schema.arguments()) {
      const auto argument = given.find(formal.name());
      if (argument == given.end()) {
        check(formal.default_value().has_value(), here, ": argument '", formal.name(), "' is missing");
        inputs.push_back(constant(*formal.default_value()));
      } else {
        inputs.push_back(argument_value(*argument->second, formal, scope, cat(here, ": ", formal.name())));
        given.erase(argument);
      }
    }
    count_truths(schema, inputs, here);
    check(given.empty(), here, ": LibTorch's operator has no argument '", given.empty() ? "" : given.begin()->first,
          "'");
    jit::Node* made = graph_.create(c10::Symbol::fromQualString(schema.name()), inputs, schema.returns().size());
    for (size_t i = 0; i < schema.returns().size(); ++i) made->outputs()[i]->setType(schema.returns()[i].type());
    graph_.insertNode(made);
    if (!made->maybeOperator()) wrap_numbers(*made, schema);
    check(made->maybeOperator() != nullptr, here, ": LibTorch's operator does not take these arguments");
    protect_weights(*made, schema, here);
    take_results(node, *made, scope, here);
  }

  /// TorchScript has no truth values as Scalars: they become 0 and 1 where the result's type does not depend on that,
  /// and are refused elsewhere.
  void count_truths(const c10::FunctionSchema& schema, std::vector<jit::Value*>& inputs, const std::string& here) {
    static const std::set<std::string> indifferent{
        "aten::full",        "aten::full_like", "aten::new_full", "aten::fill",         "aten::fill_",
        "aten::masked_fill", "aten::eq",        "aten::ne",       "aten::masked_fill_", "aten::constant_pad_nd"};
    const bool same_either_way = indifferent.count(schema.name()) != 0;
    bool any = false;
    for (size_t i = 0; i < inputs.size(); ++i) {
      const auto held = jit::toIValue(inputs[i]);
      const c10::TypeKind kind = schema.arguments()[i].type()->kind();
      if (!held || !held->isBool() || (kind != c10::TypeKind::NumberType && kind != c10::TypeKind::TensorType))
        continue;
      check(
          same_either_way, here, ": '", schema.arguments()[i].name(),
          "' is a truth value where a number is expected; write 1 or 0 (or 1.0, 0.0) in the model and export it again");
      inputs[i] = constant(static_cast<int64_t>(held->toBool()));
      any = true;
    }
    const bool untyped =
        any && schema.name() == "aten::full" && inputs.at(2)->type()->kind() == c10::TypeKind::NoneType;
    if (untyped) inputs[2] = constant(static_cast<int64_t>(torch::kBool));
  }

  /// Operators that give a view or a copy, as it comes.
  static bool may_copy(const std::string& name) {
    static const std::set<std::string> names{"aten::to", "aten::contiguous", "aten::reshape", "aten::flatten",
                                             "aten::type_as"};
    return names.count(name) != 0;
  }

  /// Throws Error where an operator works in place on a weight or an input, or on a view of one.
  void protect_weights(const jit::Node& made, const c10::FunctionSchema& schema, const std::string& here) {
    for (size_t i = 0; i < schema.arguments().size(); ++i) {
      const auto weight = weights_.find(made.input(i));
      const c10::AliasInfo* alias = schema.arguments()[i].alias_info();
      if (weight == weights_.end() || alias == nullptr) continue;
      check(!alias->isWrite(), here, ": its forward changes '", weight->second,
            "': the graph backend needs a forward without side effects; call .eval() on the model before torch.export");
      const std::string name = weight->second;
      if (!may_copy(schema.name()))
        for (const jit::Value* output : made.outputs()) weights_[output] = name;
    }
  }

  /// Numbers where the operator takes tensors: Python makes tensors of them that do not decide the result's type.
  void wrap_numbers(jit::Node& made, const c10::FunctionSchema& schema) {
    const jit::WithInsertPoint here(&made);
    for (size_t i = 0; i < made.inputs().size(); ++i) {
      const auto held = jit::toIValue(made.input(i));
      if (schema.arguments()[i].type()->kind() != c10::TypeKind::TensorType || !held || !held->isScalar()) continue;
      torch::Tensor number = c10::scalar_to_tensor(held->toScalar());
      number.unsafeGetTensorImpl()->set_wrapped_number(true);
      made.replaceInput(i, constant(number));
    }
  }

  void take_results(const ExportedNode& node, jit::Node& made, Scope& scope, const std::string& here) {
    if (node.outputs.empty()) return;
    check(node.outputs.size() == made.outputs().size(), here, ": ", node.outputs.size(), " results, LibTorch's has ",
          made.outputs().size());
    for (size_t i = 0; i < node.outputs.size(); ++i) {
      const ExportedArgument& output = node.outputs[i];
      if (!output.list) {
        check(output.items.size() == 1, here, ": expected one result");
        take_result(output.items[0], made.outputs()[i], scope, here);
        continue;
      }
      check(made.outputs()[i]->type()->kind() == c10::TypeKind::ListType, here, ": its result is no list");
      jit::Node* parts = graph_.insertNode(graph_.createListUnpack(made.outputs()[i], output.items.size()));
      for (size_t k = 0; k < output.items.size(); ++k) take_result(output.items[k], parts->outputs()[k], scope, here);
    }
  }

  void take_result(const ExportedItem& item, jit::Value* value, Scope& scope, const std::string& here) {
    if (!gradients_) without_gradient_.insert(value);
    bind(item, value, scope, here);
  }

  // ---- arguments ----

  jit::Value* argument_value(const ExportedArgument& argument, const c10::Argument& formal, const Scope& scope,
                             const std::string& here) {
    check(!argument.items.empty() || argument.list, here, ": an argument of kind ", argument.type,
          " has no counterpart");
    c10::TypePtr type = formal.type();
    if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
    const auto list = type->cast<c10::ListType>();
    if (argument.list) {
      check(list != nullptr, here, ": expected one value, found a list");
      return list_value(argument, list->getElementType(), scope, here);
    }
    if (argument.type == "as_complex") return constant(complex_of(argument, here));
    const bool is_none =
        argument.items[0].name.empty() && std::holds_alternative<std::monostate>(argument.items[0].literal);
    if (!list || is_none) return item_value(argument.type, argument.items[0], type, scope, here);
    // One number for all sides: mean(x, 1), conv2d(x, w, stride=2).
    ExportedArgument several = argument;
    several.items.assign(static_cast<size_t>(std::max(formal.N().value_or(1), 1)), argument.items[0]);
    return list_value(several, list->getElementType(), scope, here);
  }

  static c10::IValue complex_of(const ExportedArgument& argument, const std::string& here) {
    check(argument.items.size() == 2, here, ": expected a complex number");
    return c10::complex<double>(std::get<double>(argument.items[0].literal),
                                std::get<double>(argument.items[1].literal));
  }

  jit::Value* list_value(const ExportedArgument& argument, const c10::TypePtr& element, const Scope& scope,
                         const std::string& here) {
    std::vector<jit::Value*> values;
    bool fixed = true;
    for (const auto& item : argument.items) {
      values.push_back(item_value(argument.type, item, element, scope, here));
      fixed &= item.name.empty();
    }
    if (fixed && element->kind() == c10::TypeKind::IntType) return constant(list_of<int64_t>(values, here));
    if (fixed && element->kind() == c10::TypeKind::FloatType) return constant(list_of<double>(values, here));
    if (fixed && element->kind() == c10::TypeKind::BoolType) return constant(list_of<bool>(values, here));
    return graph_.insertNode(graph_.createList(element, values))->output();
  }

  template <class T>
  static c10::List<T> list_of(const std::vector<jit::Value*>& values, const std::string& here) {
    c10::List<T> out;
    for (const jit::Value* value : values) {
      const auto held = jit::toIValue(value);
      check(held && (held->isInt() || held->isDouble() || held->isBool()), here, ": expected a list of numbers");
      out.push_back(held->to<T>());
    }
    return out;
  }

  jit::Value* item_value(const std::string& kind, const ExportedItem& item, const c10::TypePtr& type,
                         const Scope& scope, const std::string& here) {
    if (!item.name.empty()) return value_of(item, scope, here);
    c10::IValue held = literal(item);
    if (starts(kind, "as_device")) return constant(device_);
    if (starts(kind, "as_scalar_type")) return constant(static_cast<int64_t>(exported_dtype(held.toInt(), here)));
    if (starts(kind, "as_memory_format")) return constant(memory_format_of(held.toInt(), here));
    if (starts(kind, "as_layout")) return constant(layout_of(held.toInt(), here));
    // Python takes 0 for 0.0 and True for 1.
    if (type->kind() == c10::TypeKind::FloatType && held.isInt()) held = static_cast<double>(held.toInt());
    if (type->kind() == c10::TypeKind::IntType && held.isBool()) held = static_cast<int64_t>(held.toBool());
    if (type->kind() == c10::TypeKind::BoolType && held.isInt()) held = held.toInt() != 0;
    return constant(held);
  }

  jit::Graph& graph_;
  torch::Device device_;
  const std::string& where_;
  std::optional<InsertedCode> foreign_;
  bool gradients_ = true;  ///< false inside of torch.no_grad()
  std::unordered_map<const jit::Value*, std::string> weights_;
  std::unordered_set<const jit::Value*> without_gradient_;  ///< made inside of it
};

/// The whole program: inputs, weights, operators, result.
class ProgramWriter {
 public:
  ProgramWriter(const ExportedProgram& program, const ExportedTensors& tensors, torch::Device device,
                const std::string& where)
      : program_(program), tensors_(tensors), where_(where), writer_(*graph_, device, where_) {}

  ExportedModule run() {
    for (const auto& [name, value] : tensors_.parameters) tree_.put(name, value, true);
    for (const auto& [name, value] : tensors_.others) tree_.put(name, value, false);
    self_ = graph_->addInput("self")->setType(tree_.root()._ivalue()->type());
    add_arguments();
    add_weights();
    writer_.add(program_.graph, scope_);
    add_result();
    finish();
    return {tree_.root(), std::move(limits_), std::move(values_)};
  }

 private:
  void add_arguments() {
    std::vector<const ExportedSpec*> leaves;
    for (const auto& spec : program_.inputs)
      if (spec.kind == "user_input" || spec.kind == "constant_input") leaves.push_back(&spec);
    const ExportedTree& all = program_.arguments;
    check(all.children.size() == 2 && all.leaves() == leaves.size() &&
              (all.children[1].keys.size() == all.children[1].children.size()),
          where_, ": its arguments do not fit its inputs");
    const size_t by_place = all.children[0].children.size();
    for (size_t i = 0; i < by_place + all.children[1].children.size(); ++i) {
      const bool named = i >= by_place;
      const ExportedTree& child = all.children[named ? 1 : 0].children[named ? i - by_place : i];
      std::string name = named ? all.children[1].keys[i - by_place] : "";
      if (!named && i < program_.argument_names.size()) name = program_.argument_names[i];
      add_argument(child, name, leaves);
    }
  }

  /// Takes the argument's leaves off the front of `leaves`.
  void add_argument(const ExportedTree& child, std::string name, std::vector<const ExportedSpec*>& leaves) {
    const std::vector<const ExportedSpec*> own(leaves.begin(),
                                               leaves.begin() + static_cast<std::ptrdiff_t>(child.leaves()));
    leaves.erase(leaves.begin(), leaves.begin() + static_cast<std::ptrdiff_t>(own.size()));
    if (name.empty() && child.leaf() && !own[0]->argument.items.empty()) name = own[0]->argument.items[0].name;
    bool tensors = false;
    for (const auto* spec : own) tensors |= takes_tensor(*spec, name);
    if (!tensors) return;  // what the program was made for is in it
    check(names_.insert(name).second, where_, ": two arguments are called '", name, "'");
    if (child.leaf()) {
      jit::Value* input = graph_->addInput(name)->setType(c10::TensorType::get());
      scope_[own[0]->argument.items[0].name] = input;
      writer_.protect(input, name);
      note_limit(name, own[0]->argument.items[0].name);
      arguments_.emplace_back(name, c10::TensorType::get());
      return;
    }
    bool flat = child.keys.size() == own.size() && !child.keys.empty();
    for (const auto& part : child.children) flat &= part.leaf();
    check(flat, where_, ": its argument '", name, "' is a ", child.type,
          " of tensors; expected a tensor or a dict of tensors: export a module whose forward takes them by name");
    const auto type = c10::DictType::create(c10::StringType::get(), c10::TensorType::get());
    jit::Value* input = graph_->addInput(name)->setType(type);
    arguments_.emplace_back(name, type);
    for (size_t i = 0; i < own.size(); ++i) {
      if (!takes_tensor(*own[i], name)) continue;
      const std::string& leaf = own[i]->argument.items[0].name;
      scope_[leaf] = graph_->insert(c10::aten::__getitem__, {input, writer_.constant(child.keys[i])});
      writer_.protect(scope_[leaf], cat(name, ".", child.keys[i]));
      note_limit(cat(name, ".", child.keys[i]), leaf);
    }
  }

  bool takes_tensor(const ExportedSpec& spec, const std::string& name) const {
    if (spec.kind == "constant_input") return false;
    const std::string& type = spec.argument.type;
    check(!type.starts_with("as_sym_") && type != "as_custom_obj", where_, ": its argument '", name, "' is no tensor (",
          type.substr(3), "), which a batch does not give", kExportAgain);
    return type == "as_tensor";
  }

  void note_limit(const std::string& argument, const std::string& value) {
    values_[argument] = value;
    const auto found = program_.graph.tensors.find(value);
    if (found == program_.graph.tensors.end()) return;
    InputLimit limit{.dtype = exported_dtype(found->second.dtype, cat(where_, ": ", argument)), .sizes = {}};
    for (const auto& size : found->second.sizes) limit.sizes.push_back(limit_of(size, program_.ranges));
    limits_[argument] = std::move(limit);
  }

  void add_weights() {
    for (const auto& spec : program_.inputs) {
      if (spec.kind == "user_input" || spec.kind == "constant_input") continue;
      check(spec.kind == "parameter" || spec.kind == "buffer" || spec.kind == "tensor_constant", where_,
            ": the program holds an object of a class of its own ('", spec.target, "', ", spec.kind,
            "), which only its Python code can read", kExportAgain);
      check(tensors_.parameters.count(spec.target) + tensors_.others.count(spec.target) == 1, where_,
            ": the file holds no ", spec.kind, " '", spec.target, "', which its program reads");
      jit::Value* value = scope_[spec.argument.items.at(0).name] = attribute(spec.target);
      writer_.protect(value, spec.target);
    }
  }

  jit::Value* attribute(const std::string& path) {
    if (path.empty()) return self_;
    const auto found = attributes_.find(path);
    if (found != attributes_.end()) return found->second;
    const size_t dot = path.rfind('.');
    jit::Value* from = dot == std::string::npos ? self_ : attribute(path.substr(0, dot));
    const std::string name = dot == std::string::npos ? path : path.substr(dot + 1);
    return attributes_[path] = graph_->insertGetAttr(from, name);
  }

  void add_result() {
    std::vector<jit::Value*> leaves;
    for (size_t i = 0; i < program_.outputs.size(); ++i) {
      const auto& spec = program_.outputs[i];
      check(!spec.kind.ends_with("_mutation"), where_, ": its forward changes '", spec.target, "' (", spec.kind,
            "): the graph backend needs a forward without side effects; call .eval() on the model "
            "before torch.export");
      check(spec.kind == "user_output" || spec.kind == "loss_output", where_, ": a result of kind ", spec.kind);
      const ExportedArgument& made = program_.graph.outputs[i];
      check(made.items.size() == 1 && !made.list, where_, ": result ", i, " is ", made.type);
      leaves.push_back(writer_.value_of(made.items[0], scope_, where_));
    }
    check(program_.result.leaves() == leaves.size(), where_, ": its result has ", program_.result.leaves(),
          " parts, its graph ", leaves.size());
    size_t next = 0;
    result_ = nested(program_.result, leaves, next);
    graph_->registerOutput(result_);
  }

  jit::Value* nested(const ExportedTree& tree, const std::vector<jit::Value*>& leaves, size_t& next) {
    if (tree.leaf()) return leaves.at(next++);
    std::vector<jit::Value*> parts, keys;
    bool tensors = true;
    for (size_t i = 0; i < tree.children.size(); ++i) {
      jit::Value* part = nested(tree.children[i], leaves, next);
      const bool none = part->type()->kind() == c10::TypeKind::NoneType;
      if (!tree.keys.empty() && none) continue;  // a name without a value is as good as none
      tensors &= part->type()->kind() == c10::TypeKind::TensorType;
      parts.push_back(part);
      if (!tree.keys.empty()) keys.push_back(writer_.constant(tree.keys[i]));
    }
    if (tree.keys.empty()) return graph_->insertNode(graph_->createTuple(parts))->output();
    const c10::TypePtr type = tensors ? c10::TypePtr(c10::TensorType::get()) : c10::TypePtr(c10::AnyType::get());
    return graph_->insertNode(graph_->createDict(c10::StringType::get(), type, keys, parts))->output();
  }

  void finish() {
    jit::Module& root = tree_.root();
    auto* function = root._ivalue()->compilation_unit()->create_function(
        c10::QualifiedName(*root.type()->name(), "forward"), graph_);
    std::vector<c10::Argument> arguments{c10::Argument("self", root.type())};
    for (const auto& [name, type] : arguments_) arguments.emplace_back(name, type);
    function->setSchema(c10::FunctionSchema("forward", "", arguments, {c10::Argument("", result_->type())}));
    root.type()->addMethod(function);
  }

  const ExportedProgram& program_;
  const ExportedTensors& tensors_;
  const std::string& where_;
  std::shared_ptr<jit::Graph> graph_ = std::make_shared<jit::Graph>();
  ModuleTree tree_;
  GraphWriter writer_;
  Scope scope_;
  jit::Value *self_ = nullptr, *result_ = nullptr;
  std::unordered_map<std::string, jit::Value*> attributes_;
  std::vector<std::pair<std::string, c10::TypePtr>> arguments_;
  std::set<std::string> names_;
  std::map<std::string, InputLimit> limits_;
  std::map<std::string, std::string> values_;
};

}  // namespace

torch::ScalarType exported_dtype(int64_t number, const std::string& where) {
  static const std::map<int64_t, torch::ScalarType> types{{1, torch::kUInt8},
                                                          {2, torch::kInt8},
                                                          {3, torch::kInt16},
                                                          {4, torch::kInt32},
                                                          {5, torch::kInt64},
                                                          {6, torch::kFloat16},
                                                          {7, torch::kFloat32},
                                                          {8, torch::kFloat64},
                                                          {9, torch::kComplexHalf},
                                                          {10, torch::kComplexFloat},
                                                          {11, torch::kComplexDouble},
                                                          {12, torch::kBool},
                                                          {13, torch::kBFloat16},
                                                          {28, torch::kUInt16},
                                                          {29, torch::kFloat8_e4m3fn},
                                                          {30, torch::kFloat8_e5m2},
                                                          {31, torch::kFloat8_e4m3fnuz},
                                                          {32, torch::kFloat8_e5m2fnuz},
                                                          {34, torch::kUInt32},
                                                          {35, torch::kUInt64}};
  const auto found = types.find(number);
  check(found != types.end(), where, ": numbers of type ", number, ", which this LibTorch does not have");
  return found->second;
}

ExportedModule exported_module(const ExportedProgram& program, const ExportedTensors& tensors, torch::Device device,
                               const std::string& where) {
  try {
    return ProgramWriter(program, tensors, device, where).run();
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    fail(where, ": its program cannot be read: ", short_reason(e));
  }
}

}  // namespace deeplora
