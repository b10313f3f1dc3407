#include "model_files/torchscript_constants.h"

#include <ATen/ATen.h>
#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/api/compilation_unit.h>
#include <torch/csrc/jit/api/function_impl.h>
#include <torch/csrc/jit/ir/constants.h>
#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/passes/inliner.h>
#include <torch/csrc/jit/serialization/import_read.h>

#include <algorithm>
#include <optional>
#include <set>
#include <string_view>

#include "core/error.h"

namespace deeplora {
namespace {

namespace jit = torch::jit;

/// What becomes of the uses of one constant.
struct Uses {
  bool weight = false;     ///< some operator reads it as a weight
  bool statistic = false;  ///< some operator reads it as a running mean or variance
};

bool passes_on(std::string_view kind) {
  static const std::set<std::string_view> kinds{
      "aten::t",      "aten::transpose", "aten::permute", "aten::numpy_T",   "aten::detach",    "aten::contiguous",
      "aten::to",     "aten::alias",     "aten::view",    "aten::reshape",   "aten::chunk",     "aten::split",
      "aten::select", "aten::slice",     "aten::squeeze", "aten::unsqueeze", "prim::ListUnpack"};
  return kinds.count(kind) != 0;
}

bool is_weight_argument(const jit::Node* node, size_t offset, int64_t dim) {
  const auto* schema = node->maybeSchema();
  if (!schema || offset >= schema->arguments().size()) return false;
  const std::string_view kind = node->kind().toQualString();
  const std::string& name = schema->arguments()[offset].name();
  if (name.find("weight") != std::string::npos || name.find("bias") != std::string::npos) return true;
  static const std::set<std::string_view> products{"aten::matmul", "aten::mm",      "aten::bmm",
                                                   "aten::addmm",  "aten::baddbmm", "aten::einsum"};
  if (dim >= 2 && products.count(kind)) return offset > 0;
  if (kind == "aten::addmm") return offset == 0;
  // A bias that optimize_for_inference took out of its linear layer.
  if (dim == 1 && kind == "aten::add" && offset == 1)
    return products.count(node->input(0)->node()->kind().toQualString()) != 0;
  static const std::set<std::string_view> others{"params", "w_ih", "w_hh", "b_ih", "b_hh", "v", "g"};
  return kind.starts_with("aten::") && others.count(name) != 0;
}

void note_uses(const jit::Value* value, int64_t dim, Uses& out) {
  for (const auto& use : value->uses()) {
    const jit::Node* node = use.user;
    const std::string_view kind = node->kind().toQualString();
    const bool scaled = (kind == "aten::mul" || kind == "aten::div") &&
                        node->input(1 - use.offset % 2)->node()->kind() == c10::prim::Constant;
    if (node->kind() == c10::prim::ListConstruct || scaled || (use.offset == 0 && passes_on(kind))) {
      for (const jit::Value* output : node->outputs()) note_uses(output, dim, out);
      continue;
    }
    out.weight |= is_weight_argument(node, use.offset, dim);
    const auto* schema = node->maybeSchema();
    out.statistic |= schema && use.offset < schema->arguments().size() &&
                     schema->arguments()[use.offset].name().starts_with("running_");
  }
}

struct Constant {
  torch::Tensor value;
  Uses uses;
};

/// Floating-point tensors in the order in which the code names them; each once.
void collect_constants(const jit::Block* block, std::vector<Constant>& out) {
  for (const jit::Node* node : block->nodes()) {
    for (const jit::Block* inner : node->blocks()) collect_constants(inner, out);
    if (node->kind() != c10::prim::Constant) continue;
    const auto held = jit::toIValue(node->output());
    std::vector<torch::Tensor> tensors;
    if (held && held->isTensor()) tensors = {held->toTensor()};
    if (held && held->isTensorList()) tensors = held->toTensorVector();
    for (const auto& tensor : tensors) {
      if (!tensor.defined() || !tensor.is_floating_point() || tensor.dim() == 0 || tensor.numel() == 0 ||
          tensor.layout() != torch::kStrided)
        continue;
      auto found = std::find_if(out.begin(), out.end(), [&](const Constant& c) {
        return c.value.is_same(tensor) || c.value.const_data_ptr() == tensor.const_data_ptr();
      });
      if (found == out.end()) found = out.insert(out.end(), {tensor, {}});
      note_uses(node->output(), tensor.dim(), found->uses);
    }
  }
}

/// The table of constants as the file holds it; empty where it has none.
std::vector<c10::IValue> table_of(const std::filesystem::path& file) {
  caffe2::serialize::PyTorchStreamReader reader(file.string());
  if (!reader.hasRecord("constants.pkl")) return {};
  const c10::IValue table = jit::readArchiveAndTensors("constants", "", "constants/", std::nullopt, std::nullopt,
                                                       torch::Device(torch::kCPU), reader);
  return table.isTuple() ? table.toTupleRef().elements().vec() : std::vector<c10::IValue>{};
}

/// Nothing for a table with objects of other libraries, which are not read here.
std::optional<std::vector<c10::IValue>> readable_table_of(const std::filesystem::path& file) {
  try {
    return table_of(file);
  } catch (const std::exception&) {
    return std::nullopt;
  }
}

bool holds_numbers(const std::vector<c10::IValue>& table) {
  return std::any_of(table.begin(), table.end(), [](const c10::IValue& value) {
    return value.isTensor() && value.toTensor().is_floating_point() && value.toTensor().dim() > 0;
  });
}

bool same_constant(const c10::IValue& stored, const torch::Tensor& value) {
  if (!stored.isTensor()) return false;
  const torch::Tensor& tensor = stored.toTensor();
  if (tensor.scalar_type() != value.scalar_type() || tensor.sizes() != value.sizes()) return false;
  const torch::Tensor here = value.to(torch::kCPU);
  return at::equal(tensor.nan_to_num(), here.nan_to_num());
}

/// Calls `change` for every block of code that the module can reach.
template <class Change>
void for_every_function(const jit::Module& module, const Change& change) {
  for (auto* function : module._ivalue()->compilation_unit()->get_functions())
    if (auto* graph = jit::tryToGraphFunction(*function)) change(graph->graph()->block());
}

class DeviceChange {
 public:
  explicit DeviceChange(torch::Device device) : device_(device) {}

  void operator()(jit::Block* block) const {
    for (jit::Node* node : block->nodes()) {
      for (jit::Block* inner : node->blocks()) (*this)(inner);
      const std::string_view kind = node->kind().toQualString();
      if (node->kind() == c10::prim::Constant && node->output()->type()->kind() == c10::TypeKind::DeviceObjType &&
          node->hasAttribute(c10::attr::value)) {
        if (other(node->s(c10::attr::value))) node->s_(c10::attr::value, device_.str());
      } else if (kind == "aten::device" && node->inputs().size() == 1) {
        name_again(node);
      }
    }
  }

 private:
  bool other(const std::string& name) const {
    const torch::Device named(name);
    return named.type() != device_.type() ||
           (named.has_index() && device_.has_index() && named.index() != device_.index());
  }
  /// torch.device("cuda") of a text in the code.
  void name_again(jit::Node* node) const {
    const auto text = jit::toIValue(node->input(0));
    if (!text || !text->isString() || !other(text->toStringRef())) return;
    const jit::WithInsertPoint here(node);
    node->replaceInput(0, node->owningGraph()->insertConstant(device_.str()));
  }

  torch::Device device_;
};

}  // namespace

std::vector<NamedTensor> weight_constants(const jit::Module& module, const std::filesystem::path& file) {
  const auto table = readable_table_of(file);
  if (table && !holds_numbers(*table)) return {};  // the code need not be looked through
  const auto graph = module.get_method("forward").graph()->copy();
  jit::Inline(*graph);
  std::vector<Constant> constants;
  collect_constants(graph->block(), constants);
  std::erase_if(constants, [](const Constant& c) { return !c.uses.weight || c.uses.statistic; });
  std::vector<NamedTensor> out;
  if (constants.empty()) return out;
  const auto values = table ? *table : table_of(file);
  for (size_t i = 0; i < values.size(); ++i) {
    const auto found = std::find_if(constants.begin(), constants.end(),
                                    [&](const Constant& c) { return same_constant(values[i], c.value); });
    if (found == constants.end()) continue;
    out.push_back({cat("CONSTANTS.c", i), found->value});
    constants.erase(found);
  }
  return out;
}

void follow_device(const jit::Module& module, torch::Device device) {
  for_every_function(module, DeviceChange(device));
}

}  // namespace deeplora
