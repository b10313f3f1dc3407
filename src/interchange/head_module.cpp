#include "interchange/head_module.h"

#include <torch/torch.h>

#include <charconv>
#include <cmath>

namespace deeplora {
namespace {

std::string text_literal(const std::string& text) {
  std::string out = "'";
  for (const char c : text) {
    if (c == '\\' || c == '\'') out += '\\';
    if (c == '\n') out += "\\n";
    else if (c == '\t') out += "\\t";
    else if (c == '\r') out += "\\r";
    else out += c;
  }
  return out + "'";
}

std::string number_literal(double value) {
  if (std::isnan(value)) return "float('nan')";
  if (std::isinf(value)) return value > 0 ? "float('inf')" : "-float('inf')";
  char digits[40];
  const auto end = std::to_chars(digits, digits + sizeof digits, value).ptr;
  const std::string out(digits, end);
  return out.find_first_of(".e") == std::string::npos ? out + ".0" : out;  // "1" would be another type
}

/// Arguments of forward behind the module itself.
std::vector<c10::Argument> arguments_of(const torch::jit::Module& module) {
  const auto& all = module.get_method("forward").function().getSchema().arguments();
  return {all.begin() + 1, all.end()};
}

/// "input_ids: Tensor, scale: float = 1.0", for a compiled forward with the same arguments.
std::string signature(const std::vector<c10::Argument>& arguments) {
  std::string out = "self";
  bool by_name = false;
  for (const auto& argument : arguments) {
    if (argument.kwarg_only() && !by_name) out += ", *";
    by_name |= argument.kwarg_only();
    out += cat(", ", argument.name(), ": ", argument.type()->annotation_str());
    if (!argument.default_value()) continue;
    const auto literal = torchscript_literal(*argument.default_value());
    check(literal.has_value(), "cannot export a head: the model's input '", argument.name(), "' has a default (",
          argument.default_value()->type()->annotation_str(), ") that cannot be written as TorchScript");
    out += " = " + *literal;
  }
  return out;
}

std::string passed_on(const std::vector<c10::Argument>& arguments) {
  std::vector<std::string> out;
  for (const auto& argument : arguments)
    out.push_back(argument.kwarg_only() ? cat(argument.name(), "=", argument.name()) : argument.name());
  return join(out, ", ", out.size());
}

/// The path from forward's result to its chosen tensor as TorchScript: "[0]", "['last_hidden_state']".
std::string selector(c10::IValue result, const std::string& output) {
  std::string code;
  size_t start = 0;
  while (!output.empty() && start <= output.size()) {
    const size_t dot = std::min(output.find('.', start), output.size());
    const std::string key = output.substr(start, dot - start);
    const bool index = !result.isGenericDict();
    code += index ? "[" + key + "]" : "[" + text_literal(key) + "]";
    if (result.isTuple()) result = result.toTupleRef().elements().at(std::stoul(key));
    else if (result.isTensorList()) result = result.toTensorList().get(std::stoul(key));
    else if (result.isGenericDict()) result = result.toGenericDict().at(key);
    start = dot + 1;
  }
  while (output.empty() && !result.isTensor()) {
    if (result.isTuple()) {
      result = result.toTupleRef().elements().at(0);
      code += "[0]";
    } else if (result.isTensorList()) {
      return code + "[0]";
    } else {
      const auto first = result.toGenericDict().begin();
      code += "[" + text_literal(first->key().toStringRef()) + "]";
      result = first->value();
    }
  }
  return code;
}

constexpr const char* kNormalizingCode =
    "    head_pooled = head_pooled / head_pooled.norm(2, [1], True).clamp(min=1e-12)\n";

std::string pooling_code(Pooling pooling) {
  switch (pooling) {
    case Pooling::mean: return "    head_pooled = (head_states * head_keep).sum(1) / head_keep.sum(1).clamp(min=1)\n";
    case Pooling::cls: return "    head_pooled = head_states[:, 0]\n";
    case Pooling::max: return "    head_pooled = head_states.masked_fill(head_keep == 0, float('-inf')).amax(1)\n";
    case Pooling::last:
      return "    head_last = ((head_mask != 0) * torch.arange(1, head_mask.size(1) + 1, "
             "device=head_mask.device)).argmax(1)\n"
             "    head_pooled = head_states[torch.arange(head_states.size(0), device=head_states.device), head_last]\n";
    case Pooling::none: return "    head_pooled = head_states\n";
  }
  return {};
}

/// Where an input stands among forward's arguments, for code of ours. None where the model does not take it.
struct InputCode {
  const c10::Argument* argument = nullptr;
  std::string value;  ///< as [B, ...]: "mask", "batch['mask']", "mask.transpose(0, 1)"

  bool optional() const { return argument->type()->kind() == c10::TypeKind::OptionalType; }
  std::string is_given() const { return optional() ? cat("assert ", argument->name(), " is not None\n") : ""; }
};

InputCode code_of(const std::string& input, const std::vector<c10::Argument>& arguments,
                  const ArchiveInterface& interface) {
  const auto renamed = interface.inputs.find(input);
  const std::string& name = renamed == interface.inputs.end() ? input : renamed->second;
  const size_t dot = std::min(name.find('.'), name.size());
  InputCode out;
  for (const auto& argument : arguments)
    if (argument.name() == name.substr(0, dot)) out.argument = &argument;
  out.value = name.substr(0, dot);
  if (dot < name.size()) out.value += "[" + text_literal(name.substr(dot + 1)) + "]";
  const auto form = interface.forms.find(input);
  if (form != interface.forms.end() && form->second.time_first && input != "lengths") out.value += ".transpose(0, 1)";
  return out;
}

/// The lines, or `otherwise` where the argument that they read may be left out.
std::string where_given(const InputCode& input, const std::string& lines, const std::string& otherwise) {
  if (!input.optional()) return cat("    ", lines);
  return cat("    if ", input.argument->name(), " is None:\n", otherwise, "    else:\n        ", lines);
}

/// Lines that make head_mask [B, T], not zero for the cells that are pooled.
std::string mask_code(const std::vector<c10::Argument>& arguments, const ArchiveInterface& interface,
                      std::optional<int64_t> padding) {
  const InputCode mask = code_of("attention_mask", arguments, interface),
                  lengths = code_of("lengths", arguments, interface), ids = code_of("input_ids", arguments, interface);
  if (!ids.argument) return "    head_mask = torch.ones_like(head_states[:, :, 0])\n";
  const auto every = [&](const std::string& indent) {
    const std::string given = ids.is_given();
    return cat(given.empty() ? "" : indent + given, indent, "head_mask = torch.ones_like(", ids.value, ")\n");
  };
  if (mask.argument) return where_given(mask, cat("head_mask = ", mask.value, "\n"), every("        "));
  if (lengths.argument)
    return where_given(lengths,
                       cat("head_mask = torch.arange(head_states.size(1), device=head_states.device).unsqueeze(0) < ",
                           lengths.value, ".to(head_states.device).unsqueeze(1)\n"),
                       every("        "));
  if (!padding) return every("    ");
  const std::string given = ids.is_given();
  return cat(given.empty() ? "" : "    " + given, "    head_mask = (", ids.value, " != ", *padding, ")\n");
}

/// Lines that make head_keep [B, T, 1] as well: 1 for these cells, else 0.
std::string keep_code(const std::vector<c10::Argument>& arguments, const ArchiveInterface& interface,
                      std::optional<int64_t> padding) {
  return mask_code(arguments, interface, padding) +
         "    head_keep = (head_mask != 0).to(head_states.dtype).unsqueeze(-1)\n";
}

torch::jit::Module linear_module(const FoldedHead& folded) {
  torch::jit::Module out("__torch__.deeplora.Head");
  out.register_parameter("weight", folded.weight, false);
  out.register_parameter("bias", folded.bias, false);
  out.define(
      "def forward(self, pooled: Tensor) -> Tensor:\n    return torch.linear(pooled.to(self.weight.dtype), "
      "self.weight, self.bias)\n");
  return out;
}

}  // namespace

std::optional<std::string> torchscript_literal(const c10::IValue& value) {
  if (value.isNone()) return "None";
  if (value.isBool()) return value.toBool() ? "True" : "False";
  if (value.isInt()) return cat(value.toInt());
  if (value.isDouble()) return number_literal(value.toDouble());
  if (value.isString()) return text_literal(value.toStringRef());
  if (!value.isList()) return std::nullopt;
  std::vector<std::string> items;
  for (const c10::IValue& item : value.toListRef()) {
    const auto literal = torchscript_literal(item);
    if (!literal) return std::nullopt;
    items.push_back(*literal);
  }
  return "[" + join(items, ", ", items.size()) + "]";
}

FoldedHead fold(const ModelWithHead& head, torch::ScalarType outputs) {
  const auto [weight, bias] = head.folded();
  const torch::ScalarType dtype = c10::promoteTypes(outputs, torch::kFloat32);
  FoldedHead out{weight.to(torch::kCPU, dtype), bias.to(torch::kCPU, dtype)};
  for (const auto& [wide, kept] : {std::pair{weight, out.weight}, {bias, out.bias}})
    out.rounding = std::max(
        out.rounding, (kept.to(torch::kFloat64) - wide.to(torch::kCPU, torch::kFloat64)).abs().max().item<double>());
  return out;
}

std::optional<StatesEnd> end_of(AdaptedModel& adapted, torch::ScalarType outputs) {
  if (const ModelWithHead* head = adapted.new_head().get())
    return StatesEnd{.form = {.pooling = head->options().pooling, .normalize = head->options().normalize},
                     .head = fold(*head, outputs)};
  if (const PooledModel* pooled = pooled_model(adapted.model()))
    return StatesEnd{.form = pooled->form(), .head = std::nullopt, .type = outputs};
  return std::nullopt;
}

torch::jit::Module module_around(const TorchScriptArchive& base, const ArchiveInterface& interface,
                                 const StatesEnd& end, std::optional<int64_t> padding, const Batch& probe) {
  torch::NoGradGuard no_grad;
  torch::jit::Module inner = base.module(), out("__torch__.deeplora.ModelWithHead");
  const std::vector<c10::Argument> arguments = arguments_of(inner);
  const std::string code_before = signature(arguments);
  const ArchiveForward forward(base, interface);
  const c10::IValue result = inner.forward(forward.arguments(probe));
  bool turned = false;
  forward.select(result, probe, &turned);
  out.register_module(kBaseModule, inner);
  if (end.head) out.register_module(kHeadModule, linear_module(*end.head));
  const std::string type = end.head ? cat("self.", kHeadModule, ".weight.dtype") : cat(static_cast<int>(end.type));
  // Half precision counts no more than 256 tokens, and rounds the targets' mean away: pooling and head are wider than
  // the model.
  const std::string code =
      cat("def forward(", code_before, ") -> Tensor:\n    head_result = self.", kBaseModule, ".forward(",
          passed_on(arguments), ")", selector(result, interface.output),
          "\n    assert head_result is not None\n    head_states = head_result", turned ? ".transpose(0, 1)" : "",
          ".to(", type, ")\n", end.form.pooling == Pooling::none ? "" : keep_code(arguments, interface, padding),
          pooling_code(end.form.pooling), end.form.normalize ? kNormalizingCode : "", "    return ",
          end.head ? cat("self.", kHeadModule, ".forward(head_pooled)") : "head_pooled", "\n");
  try {
    out.define(code);
  } catch (const std::exception& e) {
    fail("cannot compile what stands on the model's states around it: ", short_reason(e));
  }
  out.eval();
  return out;
}

}  // namespace deeplora
