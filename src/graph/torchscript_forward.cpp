#include "graph/torchscript_forward.h"

#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/passes/lower_graph.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>
#include <array>

#include "model_files/torchscript_file.h"

namespace deeplora {
namespace {

struct InputRole {
  const char* name;
  torch::Tensor Batch::* member;
};

constexpr std::array<InputRole, 5> kInputs{{{"input_ids", &Batch::input_ids},
                                            {"attention_mask", &Batch::attention_mask},
                                            {"token_type_ids", &Batch::token_type_ids},
                                            {"position_ids", &Batch::position_ids},
                                            {"decoder_input_ids", &Batch::decoder_input_ids}}};

torch::Tensor first_tensor(const c10::IValue& value) {
  if (value.isTensor()) return value.toTensor();
  if (value.isTuple() && !value.toTupleRef().elements().empty()) return first_tensor(value.toTupleRef().elements()[0]);
  if (value.isTensorList() && value.toTensorList().size() > 0) return value.toTensorList().get(0);
  if (value.isGenericDict() && !value.toGenericDict().empty())
    return first_tensor(value.toGenericDict().begin()->value());
  return {};
}

std::string describe(const c10::IValue& value) {
  if (value.isTuple()) return cat("a tuple of ", value.toTupleRef().elements().size());
  if (value.isGenericDict()) {
    std::vector<std::string> keys;
    for (const auto& item : value.toGenericDict())
      keys.push_back(item.key().isString() ? item.key().toStringRef() : "?");
    return cat("a dict with ", join(keys));
  }
  return value.type()->annotation_str();
}

c10::IValue step_into(const c10::IValue& value, const std::string& key, const std::string& whole) {
  const bool numeric = !key.empty() && std::all_of(key.begin(), key.end(), ::isdigit) && key.size() < 6;
  if (value.isTuple() && numeric && std::stoul(key) < value.toTupleRef().elements().size())
    return value.toTupleRef().elements()[std::stoul(key)];
  if (value.isTensorList() && numeric && std::stoul(key) < value.toTensorList().size())
    return value.toTensorList().get(std::stoul(key));
  if (value.isGenericDict()) {
    for (const auto& item : value.toGenericDict())
      if (item.key().isString() && item.key().toStringRef() == key) return item.value();
  }
  fail("model.output: '", whole, "' does not fit the model's result, which is ", describe(value));
}

}  // namespace

const std::map<std::string, torch::ScalarType>& input_dtypes() {
  static const std::map<std::string, torch::ScalarType> dtypes{
      {"int32", torch::kInt32}, {"int64", torch::kInt64}, {"bool", torch::kBool}, {"float", torch::kFloat32}};
  return dtypes;
}

const std::vector<std::string>& known_inputs() {
  static const std::vector<std::string> names = [] {
    std::vector<std::string> out;
    for (const auto& input : kInputs) out.emplace_back(input.name);
    out.emplace_back("lengths");
    return out;
  }();
  return names;
}

nlohmann::ordered_json describe_forms(const std::map<std::string, InputForm>& forms) {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [input, form] : forms) {
    out[input] = {{"layout", form.time_first ? "time-first" : "batch-first"}};
    for (const auto& [name, dtype] : input_dtypes())
      if (form.dtype == dtype) out[input]["dtype"] = name;
  }
  return out;
}

std::map<std::string, InputForm> parse_forms(const nlohmann::json& described, const std::string& where) {
  std::map<std::string, InputForm> out;
  for (const auto& item : described.items()) {
    InputForm form{.dtype = {}, .time_first = item.value().value("layout", "") == "time-first"};
    const std::string dtype = item.value().value("dtype", "");
    check(dtype.empty() || input_dtypes().count(dtype) != 0, where, ": ", item.key(), ".dtype: '", dtype, "' is none");
    if (!dtype.empty()) form.dtype = input_dtypes().at(dtype);
    out[item.key()] = form;
  }
  return out;
}

namespace {

/// The first `size` indices of a dimension, repeated where there are fewer.
torch::Tensor repeated_to(const torch::Tensor& t, int64_t dim, int64_t size) {
  return t.index_select(dim, torch::arange(size, t.options().dtype(torch::kInt64)).remainder(t.size(dim)));
}

/// Tokens, masks and named tensors repeated or cut to that size.
Batch of_size(const Batch& batch, int64_t rows, int64_t tokens) {
  Batch out = batch;
  for (const auto& input : kInputs)
    if (torch::Tensor& t = out.*input.member; t.defined()) t = repeated_to(repeated_to(t, 0, rows), 1, tokens);
  for (auto& [unused, t] : out.tensors) t = repeated_to(t, 0, rows);
  if (out.position_ids.defined()) out.position_ids = out.position_ids.remainder(tokens);
  return out;
}

bool is_tensor(const c10::Argument& argument) {
  c10::TypePtr type = argument.type();
  if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  return type->isSubtypeOf(*c10::TensorType::get());
}

bool is_dict(const c10::Argument& argument) {
  c10::TypePtr type = argument.type();
  if (const auto optional = type->cast<c10::OptionalType>()) type = optional->getElementType();
  const auto dict = type->cast<c10::DictType>();
  return dict && dict->getKeyType()->isSubtypeOf(*c10::StringType::get()) &&
         dict->getValueType()->isSubtypeOf(*c10::TensorType::get());
}

}  // namespace

ArchiveForward::ArchiveForward(const CodeFiles& archive, const ArchiveInterface& interface)
    : module_(archive.module()), forms_(interface.forms), guards_(archive.guards()), output_(interface.output) {
  std::map<std::string, std::string> role_of;  // argument, or argument.key -> input
  for (const auto& input : known_inputs()) role_of[input] = input;
  role_of["decoder_attention_mask"] = "decoder_attention_mask";
  for (const auto& [input, argument] : interface.inputs) {
    role_of.erase(input);
    role_of[argument] = input;
  }
  Errors errors;
  for (const auto& [input, argument] : interface.inputs) {
    const auto& names = archive.inputs();
    const std::string name = argument.substr(0, argument.find('.'));
    if (std::find(names.begin(), names.end(), name) == names.end())
      errors.add("model.inputs.", input, ": the model has no input '", name, "'; it has ", join(names));
  }
  const auto& schema = module_.get_method("forward").function().getSchema().arguments();
  for (size_t i = 1; i < schema.size(); ++i)  // the first is the object itself
    arguments_.push_back(argument_of(schema[i], role_of, errors));
  find_row_tensors();
  if (row_tensors_.empty() && !takes("input_ids") && errors.empty())
    errors.add("the model takes no tensor; its inputs are ", join(archive.inputs()));
  take_limits(archive, errors);
  if (interface.complete) errors.throw_if_any(cat("model ", archive.file().string()));
}

ArchiveForward::Argument ArchiveForward::argument_of(const c10::Argument& argument,
                                                     const std::map<std::string, std::string>& role_of,
                                                     Errors& errors) {
  const auto role = role_of.find(argument.name());
  Argument taken{argument.name(),
                 role == role_of.end() ? "" : role->second,
                 {},
                 argument.default_value().value_or(c10::IValue()),
                 argument.default_value().has_value()};
  const bool dict = is_dict(argument);
  for (const auto& [name, input] : role_of)
    if (dict && name.starts_with(argument.name() + ".")) taken.parts[name.substr(argument.name().size() + 1)] = input;
  if (!taken.role.empty() || !taken.parts.empty() || argument.default_value()) return taken;
  if (is_tensor(argument)) {
    taken.role = argument.name();
  } else if (dict) {
    errors.add("the model's input '", argument.name(), "' is a dict; say in model.inputs what its entries are, e.g. ",
               "model.inputs.input_ids=\"", argument.name(), ".input_ids\" for the entry input_ids");
  } else {
    errors.add("the model's input '", argument.name(), "' is a ", argument.type()->annotation_str(),
               " without a default; rows give tensors alone, so export the model with a default for it");
  }
  return taken;
}

void ArchiveForward::find_row_tensors() {
  const bool ids = takes("input_ids");
  const auto goes_with_ids = [](const std::string& role) {
    const auto& known = known_inputs();
    return role == "decoder_attention_mask" || std::find(known.begin(), known.end(), role) != known.end();
  };
  const auto add = [&](const std::string& role) {
    if (!role.empty() && !(ids && goes_with_ids(role)) && !is_row_tensor(role)) row_tensors_.push_back(role);
  };
  for (auto& argument : arguments_) {
    // Without tokens an optional mask has nothing to be made of.
    if (!ids && argument.has_default && goes_with_ids(argument.role)) argument.role.clear();
    add(argument.role);
    for (const auto& [unused, role] : argument.parts) add(role);
  }
}

bool ArchiveForward::is_row_tensor(const std::string& role) const {
  return std::find(row_tensors_.begin(), row_tensors_.end(), role) != row_tensors_.end();
}

void ArchiveForward::take_limits(const CodeFiles& archive, Errors& errors) {
  for (const auto& argument : arguments_) {
    if (!argument.role.empty()) take_limit(argument.name, argument.role, archive, errors);
    for (const auto& [key, role] : argument.parts) take_limit(cat(argument.name, ".", key), role, archive, errors);
  }
}

void ArchiveForward::take_limit(const std::string& argument, const std::string& role, const CodeFiles& archive,
                                Errors& errors) {
  const auto found = archive.limits().find(argument);
  if (found == archive.limits().end()) return;
  const InputLimit& limit = limits_[role] = found->second;
  if (limit.dtype && *limit.dtype != torch::kInt64 && !forms_[role].dtype) forms_[role].dtype = limit.dtype;
  const bool by_name = is_row_tensor(role);  // all rows have one shape, so the number of rows alone must be free
  bool baked = false, fits = !by_name || !limit.sizes.empty();
  for (size_t i = 0; i < limit.sizes.size(); ++i) {
    const SizeLimit& size = limit.sizes[i];
    baked |= size.fixed.has_value();
    fits &= size.free() || (by_name && i > 0 && (size.fixed || size.times != 0));
  }
  if (!fits)
    errors.add("its input '", argument, "' has sizes ", shown(limit), baked ? ", which were baked in; " : "; ",
               by_name ? "the number of rows, its first size," : "batches and lengths",
               " must be free: ", archive.how_to_export());
}

void ArchiveForward::check_sizes(const std::string& role, const torch::Tensor& value, GivenSizes& sizes) const {
  const auto found = limits_.find(role);
  if (found == limits_.end() || !value.defined()) return;
  const InputLimit& limit = found->second;
  check(value.dim() == static_cast<int64_t>(limit.sizes.size()), role, " has ", value.dim(),
        " dimensions, the model's has ", limit.sizes.size(), ": ", shown(limit));
  for (size_t i = 0; i < limit.sizes.size(); ++i) {
    const SizeLimit& size = limit.sizes[i];
    const int64_t given = value.size(static_cast<int64_t>(i));
    if (!size.fixed && size.times == 0) continue;
    const int64_t n = (given - size.plus) / size.times;
    check(size.fixed ? given == *size.fixed : n >= 0 && n * size.times + size.plus == given, role, " of sizes ",
          value.sizes(), ": the model was exported for ", shown(limit), ", which dimension ", i,
          " does not fit; give it such sizes, or export it with that dimension free");
    if (size.fixed) continue;
    const int64_t least = size.least.value_or(0);
    if (n < least || (size.most && n > *size.most))
      fail(role, " of sizes ", value.sizes(), ": the model was exported for ", least, " to ",
           size.most ? cat(*size.most) : "any", size.free() ? "" : cat(" as n of ", shown(size)), " in dimension ", i,
           "; ", n < least ? "export it for fewer" : cat(how_to_give_less(role, i, *size.most), "export it for more"));
    const auto [first, fresh] = sizes.symbols.try_emplace(size.symbol, n, role);
    check(fresh || first->second.first == n, role, " of sizes ", value.sizes(), ": dimension ", i, " goes with one of ",
          first->second.second, " in the exported model, where it would be ",
          first->second.first * size.times + size.plus);
  }
}

std::string ArchiveForward::how_to_give_less(const std::string& role, size_t dimension, int64_t most) const {
  const auto form = forms_.find(role);
  const bool time_first = form != forms_.end() && form->second.time_first;
  if (dimension == (time_first ? 1U : 0U))
    return cat("set train.batch_size and train.eval_batch_size to ", most, " at most, or ");
  return is_row_tensor(role) ? "" : "cut texts with data.max_length, or ";
}

namespace {

/// An input that rows do not carry by name; undefined where the batch has none.
torch::Tensor known_input(const std::string& role, const Batch& batch) {
  torch::Tensor value;
  for (const auto& input : kInputs)
    if (role == input.name) value = batch.*input.member;
  if (value.defined() || !batch.input_ids.defined()) return value;
  if (role == "token_type_ids") return torch::zeros_like(batch.input_ids);
  if (role == "position_ids")
    return torch::arange(batch.input_ids.size(1), batch.input_ids.options()).expand_as(batch.input_ids);
  // Decoder ids are padded on the right, where a causal decoder's earlier tokens never look.
  if (role == "decoder_attention_mask" && batch.decoder_input_ids.defined())
    return torch::ones_like(batch.decoder_input_ids);
  // On the processor: packed sequences want them there.
  if (role == "lengths")
    return (batch.attention_mask.defined() ? batch.attention_mask : torch::ones_like(batch.input_ids))
        .sum(1)
        .to(torch::kCPU);
  return value;
}

}  // namespace

torch::Tensor ArchiveForward::input(const std::string& role, const Batch& batch) const {
  const auto named = batch.tensors.find(role);
  torch::Tensor value = named != batch.tensors.end() ? named->second : known_input(role, batch);
  const auto form = forms_.find(role);
  if (!value.defined() || form == forms_.end()) return value;
  if (form->second.dtype) value = value.to(*form->second.dtype);
  return form->second.time_first && value.dim() >= 2 ? value.transpose(0, 1).contiguous() : value;
}

c10::IValue ArchiveForward::value_of(const Argument& argument, const Batch& batch, GivenSizes& sizes) const {
  if (!argument.parts.empty()) {
    c10::Dict<std::string, torch::Tensor> out;
    for (const auto& [key, role] : argument.parts) {
      const torch::Tensor part = input(role, batch);
      check(part.defined(), "the model needs ", role, " in its input ", argument.name,
            ", which this task does not give");
      check_sizes(role, part, sizes);
      sizes.sizes[cat(argument.name, ".", key)] = part.sizes().vec();
      out.insert(key, part);
    }
    return out;
  }
  const torch::Tensor value = argument.role.empty() ? torch::Tensor() : input(argument.role, batch);
  check_sizes(argument.role, value, sizes);
  if (value.defined()) {
    sizes.sizes[argument.name] = value.sizes().vec();
    return value;
  }
  const bool needed = argument.role == "decoder_input_ids" || is_row_tensor(argument.role);
  check(!needed || !argument.standard.isNone(), "the model needs ", argument.role, ", which this task does not give");
  return argument.standard;
}

std::vector<c10::IValue> ArchiveForward::arguments(const Batch& batch) const {
  std::vector<c10::IValue> out;
  GivenSizes sizes;
  for (const auto& argument : arguments_) out.push_back(value_of(argument, batch, sizes));
  for (const SizeGuard& guard : guards_)
    check(guard.holds(sizes.sizes), "a batch of ", batch.sizes(), ": the model was exported for sizes with ",
          guard.shown(), "; give it such sizes, or export it so that they are free");
  return out;
}

bool ArchiveForward::takes(const std::string& input) const {
  return std::any_of(arguments_.begin(), arguments_.end(), [&](const Argument& argument) {
    return argument.role == input || std::any_of(argument.parts.begin(), argument.parts.end(),
                                                 [&](const auto& part) { return part.second == input; });
  });
}

torch::Tensor ArchiveForward::select(const c10::IValue& result, const Batch& batch, bool* turned) const {
  torch::Tensor out;
  if (output_.empty()) {
    out = first_tensor(result);
    check(out.defined(), "the model's result holds no tensor: it is ", describe(result), "; choose with model.output");
  } else {
    c10::IValue value = result;
    size_t start = 0;
    for (;;) {
      const size_t dot = output_.find('.', start);
      value = step_into(value, output_.substr(start, dot == std::string::npos ? dot : dot - start), output_);
      if (dot == std::string::npos) break;
      start = dot + 1;
    }
    check(value.isTensor(), "model.output: '", output_, "' is not a tensor but ", describe(value));
    out = value.toTensor();
  }
  const bool turns = turns_states(out, batch);
  if (turned) *turned = turns;
  return turns ? out.transpose(0, 1) : out;
}

bool ArchiveForward::turns_states(const torch::Tensor& states, const Batch& batch) const {
  const auto ids = forms_.find("input_ids");
  if (states.dim() != 3 || ids == forms_.end() || !ids->second.time_first || !batch.input_ids.defined()) return false;
  const torch::Tensor& seen = batch.decoder_input_ids.defined() ? batch.decoder_input_ids : batch.input_ids;
  if (seen.size(0) != seen.size(1))
    states_time_first_ = states.size(0) == seen.size(1) && states.size(1) == seen.size(0);
  return states_time_first_.value_or(true);
}

bool ArchiveForward::runs(const Batch& batch) const {
  const torch::NoGradGuard no_grad;
  try {
    module_.forward(arguments(batch));
    return true;
  } catch (const std::exception&) {
    return false;
  }
}

std::string ArchiveForward::remedy(const Batch& batch) const {
  std::vector<std::string> inputs = known_inputs();
  inputs.insert(inputs.end(), row_tensors_.begin(), row_tensors_.end());
  for (const auto& input : inputs) {
    if (!takes(input) || forms_.count(input) != 0) continue;
    std::vector<std::pair<std::string, InputForm>> tries;
    for (const auto& [name, dtype] : input_dtypes())
      if (dtype != torch::kInt64 || batch.tensors.count(input) != 0)
        tries.emplace_back(cat("dtype: ", name), InputForm{dtype, false});
    tries.emplace_back("layout: time-first", InputForm{{}, true});
    for (const auto& [key, form] : tries) {
      ArchiveForward other = *this;
      other.forms_[input] = form;
      if (other.runs(batch)) return cat("; it runs with model.inputs.", input, ": {", key, "}");
    }
  }
  const bool ids = batch.input_ids.defined();
  Batch plain = batch;
  if (ids) plain.input_ids = torch::zeros_like(batch.input_ids);
  if (ids && runs(plain)) return "; with every id 0 it runs: some ids are beyond one of its tables";
  for (const int64_t rows : {2, 1, 3, 4})
    for (int64_t tokens = ids ? 16 : 1; tokens > 0; --tokens)
      if (const Batch other = of_size(batch, rows, tokens); runs(other))
        return cat("; on a batch of ", other.sizes(), " it runs: sizes were baked in by tracing",
                   ids ? ", or positions end there" : "", "; export it again at dynamic shapes");
  return "";
}

std::vector<TensorInput> ArchiveForward::tried_dtypes(std::vector<TensorInput> inputs, torch::ScalarType weights,
                                                      torch::Device device) const {
  // Ids and numbers look alike in rows: which of them are numbers is told by what runs.
  std::vector<size_t> open;
  for (size_t i = 0; i < inputs.size(); ++i) {
    const auto form = forms_.find(inputs[i].name);
    const bool said = form != forms_.end() && form->second.dtype;
    if (inputs[i].dtype == torch::kInt64 && !said) open.push_back(i);
  }
  constexpr size_t kMost = 6;  // inputs that are tried in every combination; more of them all at once
  const size_t ways = open.size() > kMost ? 2 : size_t{1} << open.size();
  for (size_t way = 0; way < ways; ++way) {
    std::vector<TensorInput> tried = inputs;
    for (size_t i = 0; i < open.size(); ++i)
      if (((open.size() > kMost ? way : way >> i) & 1) != 0) tried[open[i]].dtype = weights;
    Batch batch;
    batch.tensors = probe_tensors(tried, 2);
    if (takes("input_ids")) batch.input_ids = batch.attention_mask = torch::ones({2, 4}, torch::kInt64);
    if (runs(batch.to(device))) return tried;
  }
  return inputs;  // what the matter is will be said when it is probed
}

std::string ArchiveForward::failure(const std::exception& error, const Batch& batch) const {
  const std::string out =
      cat("its forward fails on a batch of ", batch.sizes(), source_line(error), ": ", short_reason(error));
  return runs(batch) ? out : out + remedy(batch);
}

torch::Tensor ArchiveForward::operator()(const Batch& batch) const {
  c10::IValue result;
  try {
    result = module_.forward(arguments(batch));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    fail("the model's own ", failure(e, batch).substr(4));
  }
  return select(result, batch);
}

std::vector<torch::Tensor> ArchiveForward::layer_norms(const Batch& batch) const {
  try {
    auto graph = module_.get_method("forward").graph()->copy();
    torch::jit::Inline(*graph);
    auto [lowered, extra] = torch::jit::LowerGraph(*graph, module_._ivalue());
    size_t count = 0;
    const size_t before = lowered->outputs().size();
    for (auto* node : lowered->nodes()) {
      if (node->kind() != c10::Symbol::fromQualString("aten::layer_norm")) continue;
      lowered->registerOutput(node->output());
      ++count;
    }
    torch::jit::GraphExecutor executor(lowered, "parity");
    const auto given = arguments(batch);
    torch::jit::Stack stack(given.begin(), given.end());
    stack.insert(stack.end(), extra.begin(), extra.end());
    executor.run(stack);
    std::vector<torch::Tensor> out;
    for (size_t i = 0; i < count; ++i) out.push_back(stack.at(before + i).toTensor());
    return out;
  } catch (const std::exception&) {
    return {};  // Only a better message depends on it.
  }
}

ParityResult compare_with_archive(const CodeFiles& archive, const ArchiveInterface& interface, LanguageModel& model) {
  return compare_with_reference(archive, ArchiveForward(archive, interface), model);
}

std::unique_ptr<ReferenceForward> reference_forward(const ModelFiles& files, const ArchiveInterface& interface) {
  const auto* archive = dynamic_cast<const CodeFiles*>(&files);
  return archive == nullptr ? nullptr : std::make_unique<ArchiveForward>(*archive, interface);
}

RowInputs row_inputs(const ModelFiles& files, const ArchiveInterface& interface) {
  const auto* archive = dynamic_cast<const CodeFiles*>(&files);
  if (archive == nullptr) return {};
  const ArchiveForward forward(*archive, interface);
  return {forward.takes("input_ids"), forward.row_tensors()};
}

std::vector<TensorInput> with_dtypes(const CodeFiles& archive, const ArchiveInterface& interface) {
  std::vector<TensorInput> out = interface.tensors;
  torch::ScalarType weights = torch::kFloat32;
  for (size_t i = archive.parameters(); i-- > 0;)
    if (archive.tensors()[i].value.is_floating_point()) weights = archive.tensors()[i].value.scalar_type();
  for (auto& input : out) {
    const auto form = interface.forms.find(input.name);
    if (form != interface.forms.end() && form->second.dtype) input.dtype = *form->second.dtype;
    else if (torch::isFloatingType(input.dtype)) input.dtype = weights;
  }
  const torch::Device device =
      archive.tensors().empty() ? torch::Device(torch::kCPU) : archive.tensors().front().value.device();
  return ArchiveForward(archive, interface).tried_dtypes(out, weights, device);
}

bool takes_input(const ModelFiles& files, const ArchiveInterface& interface, const std::string& input) {
  if (const auto* archive = dynamic_cast<const CodeFiles*>(&files))
    return ArchiveForward(*archive, interface).takes(input);
  return std::find(files.inputs().begin(), files.inputs().end(), input) != files.inputs().end();
}

const CodeFiles& archive_of(const ModelFiles& files, const std::string& needed_by) {
  const auto* archive = dynamic_cast<const CodeFiles*>(&files);
  check(archive != nullptr, "model ", files.file().string(), " is a ", files.kind(), ", which holds no code; ",
        needed_by, " needs a TorchScript file or an exported program (tools/export_torchscript.py makes one from the ",
        "folder)");
  return *archive;
}

}  // namespace deeplora
