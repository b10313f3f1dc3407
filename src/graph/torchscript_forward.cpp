#include "graph/torchscript_forward.h"

#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/passes/lower_graph.h>
#include <torch/csrc/jit/runtime/graph_executor.h>

#include <algorithm>
#include <array>

namespace deeplora {
namespace {

struct InputRole {
  const char* name;
  torch::Tensor Batch::*member;
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
  if (value.isGenericDict() && !value.toGenericDict().empty()) return first_tensor(value.toGenericDict().begin()->value());
  return {};
}

std::string describe(const c10::IValue& value) {
  if (value.isTuple()) return cat("a tuple of ", value.toTupleRef().elements().size());
  if (value.isGenericDict()) {
    std::vector<std::string> keys;
    for (const auto& item : value.toGenericDict()) keys.push_back(item.key().isString() ? item.key().toStringRef() : "?");
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

ArchiveForward::ArchiveForward(const TorchScriptArchive& archive, const ArchiveInterface& interface)
    : module_(archive.module()), output_(interface.output) {
  std::map<std::string, std::string> role_of;  // argument -> input
  for (const auto& input : kInputs) role_of[input.name] = input.name;
  role_of["decoder_attention_mask"] = "decoder_attention_mask";
  for (const auto& [input, argument] : interface.inputs) {
    role_of.erase(input);
    role_of[argument] = input;
  }
  Errors errors;
  for (const auto& [input, argument] : interface.inputs) {
    const auto& names = archive.inputs();
    if (std::find(names.begin(), names.end(), argument) == names.end())
      errors.add("model.inputs.", input, ": the model has no input '", argument, "'; it has ", join(names));
  }
  bool takes_ids = false;
  const auto& arguments = module_.get_method("forward").function().getSchema().arguments();
  for (size_t i = 1; i < arguments.size(); ++i) {  // the first is the object itself
    const auto& argument = arguments[i];
    const auto role = role_of.find(argument.name());
    roles_.push_back(role == role_of.end() ? "" : role->second);
    defaults_.push_back(argument.default_value().value_or(c10::IValue()));
    takes_ids |= roles_.back() == "input_ids";
    if (roles_.back().empty() && !argument.default_value())
      errors.add("the model's input '", argument.name(), "' is none of input_ids, attention_mask, token_type_ids, position_ids, ",
                 "decoder_input_ids; name it in model.inputs, e.g. model.inputs.input_ids=", argument.name());
  }
  if (!takes_ids && errors.empty())
    errors.add("the model takes no input_ids; its inputs are ", join(archive.inputs()), "; name one in model.inputs.input_ids");
  if (interface.complete) errors.throw_if_any(cat("model ", archive.file().string()));
}

std::vector<c10::IValue> ArchiveForward::arguments(const Batch& batch) const {
  std::vector<c10::IValue> out;
  for (size_t i = 0; i < roles_.size(); ++i) {
    torch::Tensor value;
    for (const auto& input : kInputs)
      if (roles_[i] == input.name) value = batch.*input.member;
    if (!value.defined() && roles_[i] == "token_type_ids") value = torch::zeros_like(batch.input_ids);
    if (!value.defined() && roles_[i] == "position_ids") value = torch::arange(batch.input_ids.size(1), batch.input_ids.options()).expand_as(batch.input_ids);
    // Decoder ids are padded on the right, where a causal decoder's earlier tokens never look.
    if (roles_[i] == "decoder_attention_mask" && batch.decoder_input_ids.defined()) value = torch::ones_like(batch.decoder_input_ids);
    if (value.defined()) {
      out.emplace_back(value);
    } else {
      check(!roles_[i].empty() ? !defaults_[i].isNone() || roles_[i] != "decoder_input_ids" : true, "the model needs ", roles_[i],
            ", which this task does not give");
      out.push_back(defaults_[i]);
    }
  }
  return out;
}

bool ArchiveForward::takes(const std::string& input) const {
  return std::find(roles_.begin(), roles_.end(), input) != roles_.end();
}

torch::Tensor ArchiveForward::select(const c10::IValue& result) const {
  if (output_.empty()) {
    torch::Tensor first = first_tensor(result);
    check(first.defined(), "the model's result holds no tensor: it is ", describe(result), "; choose with model.output");
    return first;
  }
  c10::IValue value = result;
  size_t start = 0;
  for (;;) {
    const size_t dot = output_.find('.', start);
    value = step_into(value, output_.substr(start, dot == std::string::npos ? dot : dot - start), output_);
    if (dot == std::string::npos) break;
    start = dot + 1;
  }
  check(value.isTensor(), "model.output: '", output_, "' is not a tensor but ", describe(value));
  return value.toTensor();
}

torch::Tensor ArchiveForward::operator()(const Batch& batch) const {
  c10::IValue result;
  try {
    result = module_.forward(arguments(batch));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    fail("the model's own forward fails on a batch of ", batch.input_ids.sizes(), ": ", short_reason(e),
         " (if sizes were baked in by tracing, export it again at dynamic shapes)");
  }
  return select(result);
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

ParityResult compare_with_archive(const TorchScriptArchive& archive, const ArchiveInterface& interface, LanguageModel& model) {
  return compare_with_reference(archive, ArchiveForward(archive, interface), model);
}

std::unique_ptr<ReferenceForward> reference_forward(const ModelFiles& files, const ArchiveInterface& interface) {
  const auto* archive = dynamic_cast<const TorchScriptArchive*>(&files);
  return archive == nullptr ? nullptr : std::make_unique<ArchiveForward>(*archive, interface);
}

bool takes_input(const ModelFiles& files, const ArchiveInterface& interface, const std::string& input) {
  if (const auto* archive = dynamic_cast<const TorchScriptArchive*>(&files)) return ArchiveForward(*archive, interface).takes(input);
  return std::find(files.inputs().begin(), files.inputs().end(), input) != files.inputs().end();
}

const TorchScriptArchive& archive_of(const ModelFiles& files, const std::string& needed_by) {
  const auto* archive = dynamic_cast<const TorchScriptArchive*>(&files);
  check(archive != nullptr, "model ", files.file().string(), " is a ", files.kind(), ", which holds no code; ", needed_by,
        " needs a TorchScript archive (tools/export_torchscript.py makes one from the folder)");
  return *archive;
}

}  // namespace deeplora
