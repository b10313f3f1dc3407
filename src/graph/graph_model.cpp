#include "graph/graph_model.h"

#include <torch/csrc/jit/ir/ir.h>
#include <torch/csrc/jit/runtime/graph_executor.h>
#include <torch/torch.h>

#include <algorithm>

#include "graph/dropout.h"
#include "graph/reach.h"
#include "graph/roles.h"
#include "lm/parity.h"
#include "model_files/own_head.h"
#include "model_files/torchscript_file.h"

namespace deeplora {

namespace jit = torch::jit;

/// Registered as a submodule, so that train() and eval() reach the adapter.
struct GraphModel::Place : torch::nn::Module {
  GraphSite graph;
  AdapterSite site;
  std::shared_ptr<Adapter> adapter;
  torch::Tensor stored;  ///< the archive's tensor
  std::string guessed;   ///< its role by its name, where the graph gave it another

  /// Whether the graph reads the site's own tensor: while somebody asks for its gradient.
  bool lends_its_own() const { return site.weight.requires_grad() && !site.weight.is_same(stored); }
};

struct GraphModel::Plan {
  jit::GraphExecutor executor;
  std::vector<c10::IValue> slots;
};

GraphModel::GraphModel(const CodeFiles& archive, const ArchiveInterface& interface, const ModelOptions& options)
    : where_(cat("model ", archive.file().string())),
      arguments_(archive, interface),
      tensors_(interface.tensors),
      lowered_(lower_forward(archive)),
      dropout_(options.dropout),
      chosen_(interface.output) {
  logits_ = gives_logits(archive);
  of_tokens_ = ends_in_token_head(archive);
  takes_padding_ = !takes_ids() || arguments_.takes("attention_mask") || arguments_.takes("lengths");
  const GraphSites found = find_sites(lowered_, *lowered_.graph);
  for (const auto& [name, reason] : found.others) others_.emplace_back(name, reason);
  std::map<std::string, size_t> order;
  for (const auto& name : archive.names()) order.emplace(name, order.size());
  for (const auto& use : found.sites) places_.push_back(place_of(use));
  name_output_layer(archive.export_info().value("task", std::string()) == "causal-lm" ? "lm_head" : "head");
  if (const auto head = own_head_of(archive))
    for (auto& place : places_)
      if (place->site.path == head->module + ".weight") place->site.role = "head";
  const auto& inputs = archive.inputs();
  for (const char* input : {"input_ids", "decoder_input_ids"}) {
    const auto renamed = interface.inputs.find(input);
    const std::string name = renamed == interface.inputs.end() ? input : renamed->second;
    const size_t dot = std::min(name.find('.'), name.size());
    const auto ids = std::find(inputs.begin(), inputs.end(), name.substr(0, dot));
    if (ids == inputs.end()) continue;
    const std::string key = dot < name.size() ? name.substr(dot + 1) : "";
    for (auto& place : places_)
      place->site.reads_ids |=
          looks_up(place->graph, lowered_.graph->inputs().at(static_cast<size_t>(ids - inputs.begin())), key);
  }
  std::stable_sort(places_.begin(), places_.end(),
                   [&](const auto& a, const auto& b) { return order[a->site.path] < order[b->site.path]; });
  for (size_t i = 0; i < places_.size(); ++i) register_module("site" + std::to_string(i), places_[i]);
  std::vector<std::string> reasons;
  for (const auto& [path, reason] : others_) reasons.push_back(cat(path, " ", reason));
  check(!places_.empty(), where_, ": no weight can be adapted; ",
        reasons.empty() ? "its code reads no matrix" : join(reasons, "; ", 4),
        ". Adapters fit floating-point parameters of two or more dimensions");
  const c10::FunctionSchema& whole = archive.module().get_method("forward").function().getSchema();
  schema_ = std::make_shared<const c10::FunctionSchema>(
      whole.cloneWithArguments({whole.arguments().begin() + 1, whole.arguments().end()}));
  rebuild();
}

std::shared_ptr<GraphModel::Place> GraphModel::place_of(const GraphSite& use) {
  const LiftedTensor& tensor = lowered_.tensors[use.tensor];
  auto place = std::make_shared<Place>();
  place->graph = use;
  place->stored = tensor.value;
  AdapterSite& site = place->site;
  site.path = tensor.name;
  site.kind = use.embedding ? SiteKind::embedding : use.formed ? SiteKind::weight : SiteKind::linear;
  site.op = use.embedding && !use.formed ? "embedding" : use.op;
  site.role = role_of_weight(site.path, site.kind, site.op);
  site.uses = use.readers;
  site.transposed = use.transposed;
  const bool flat = tensor.value.dim() == 2;
  if (!flat) site.stored_shape = tensor.value.sizes().vec();
  const torch::Tensor matrix = flat ? tensor.value : tensor.value.flatten(1);
  // Detached: a view would take part in its base's gradient when the whole model is trained.
  site.weight = use.transposed ? matrix.t().detach() : flat ? matrix : matrix.detach();
  site.attach = [this, slot = place.get()](std::shared_ptr<Adapter> adapter) {
    if (slot->adapter) slot->unregister_module("adapter");
    slot->adapter = std::move(adapter);
    if (slot->adapter) slot->register_module("adapter", slot->adapter);
    changed_ = true;
  };
  return place;
}

void GraphModel::name_output_layer(const char* role) {
  const jit::Value* output = chosen_output(*lowered_.graph, chosen_);
  if (!output) return;
  const OutputLayer layer = output_layer(*lowered_.graph, output, lowered_.arguments);
  const auto name_of = [&](const jit::Value* value) {
    return lowered_.tensors.at(value->offset() - lowered_.arguments).name;
  };
  for (auto& place : places_)
    for (const jit::Value* weight : layer.weights) {
      if (name_of(weight) != place->site.path || place->site.kind == SiteKind::embedding) continue;
      if (place->guessed.empty()) place->guessed = place->site.role;
      place->site.role = place->guessed == "lm_head" ? "lm_head" : role;
      if (layer.bias) place->site.bias = name_of(layer.bias);
    }
}

void GraphModel::take_output_as_logits() {
  logits_ = true;
  name_output_layer("lm_head");
}

void GraphModel::rebuild() {
  const auto graph = lowered_.graph->copy();
  auto plan = std::make_shared<Plan>();
  std::vector<GraphSite> sites;  // all of them before the first splice changes the graph
  for (const auto& place : places_) {
    if (!place->adapter) continue;
    sites.push_back(site_of(lowered_, *graph, place->graph.tensor));
    plan->slots.push_back(adapter_slot(place->adapter));
  }
  for (const auto& site : sites)
    splice_adapter(lowered_, *graph, site, graph->addInput()->setType(c10::AnyType::get()));
  control_dropout(*graph, dropout_, where_);
  plan->executor = jit::GraphExecutor(graph, "adapted", jit::SIMPLE);
  plan_ = std::move(plan);
  changed_ = false;
}

c10::IValue GraphModel::execute(jit::Stack stack) {
  if (changed_) rebuild();
  const size_t first = stack.size();
  for (const auto& tensor : lowered_.tensors) stack.emplace_back(tensor.value.to(tensor.type));
  for (const auto& place : places_)
    if (place->lends_its_own()) stack[first + place->graph.tensor] = place->site.as_stored(place->site.weight);
  stack.insert(stack.end(), plan_->slots.begin(), plan_->slots.end());
  stack.emplace_back(is_training());
  stack.emplace_back(is_training() ? 1.0 : 0.0);
  plan_->executor.run(stack);
  return stack.size() == 1 ? stack.front() : c10::IValue(c10::ivalue::Tuple::create(std::move(stack)));
}

torch::Tensor GraphModel::output(const Batch& batch) {
  c10::IValue result;
  try {
    result = execute(arguments_.arguments(batch));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    fail(where_, ": ", arguments_.failure(e, batch));
  }
  return arguments_.select(result, batch);
}

c10::IValue GraphModel::run(std::vector<c10::IValue> arguments) {
  try {
    schema_->checkAndNormalizeInputs(arguments, {});
    return execute(std::move(arguments));
  } catch (const Error&) {
    throw;
  } catch (const std::exception& e) {
    fail(where_, ": its forward fails", source_line(e), ": ", short_reason(e));
  }
}

ModelOutput GraphModel::forward(const Batch& batch) {
  const bool padded =
      !takes_padding_ && batch.attention_mask.defined() && batch.attention_mask.eq(0).any().item<bool>();
  check(!padded, where_,
        ": it takes no attention_mask and reads padding as text, so texts of one batch must have the same "
        "length; ",
        "set train.batch_size and train.eval_batch_size to 1, or export the model with an attention_mask "
        "input");
  const torch::Tensor out = output(batch);
  if (out.dim() == 1) return {.hidden = {}, .logits = out.unsqueeze(-1)};
  check(out.dim() == 2 || out.dim() == 3, where_, ": expected hidden states [B, T, D] or logits [B, C], found ",
        out.sizes(), "; choose with model.output");
  if (out.dim() == 3 && !logits_) return {.hidden = out, .logits = {}};
  return {.hidden = {}, .logits = out};
}

std::vector<AdapterSite> GraphModel::sites() {
  std::vector<AdapterSite> out;
  for (const auto& place : places_) out.push_back(place->site);
  return out;
}

std::vector<NamedTensor> GraphModel::base_parameters() {
  std::vector<NamedTensor> out;
  for (const auto& tensor : lowered_.tensors)
    if (tensor.parameter && tensor.value.is_floating_point()) out.push_back({tensor.name, tensor.value});
  return out;
}

std::vector<std::pair<std::string, std::string>> GraphModel::other_weights() const { return others_; }

std::string GraphModel::looked_up_argument(const CodeFiles& archive) const {
  const auto& inputs = archive.inputs();
  for (size_t i = 0; i < inputs.size() && i < lowered_.arguments; ++i)
    for (const auto& place : places_)
      if (looks_up(place->graph, lowered_.graph->inputs().at(i))) return inputs[i];
  return "";
}

torch::Tensor GraphModel::check_probe(const CodeFiles& archive, const Batch& batch) {
  const torch::Device device = lowered_.tensors.front().value.device();
  const torch::Tensor out = output(batch.to(device));
  const torch::Tensor cells = output_mask(batch);
  const bool fits = out.dim() >= 1 && out.size(0) == batch.size() &&
                    (out.dim() < 3 || !cells.defined() || out.size(1) == cells.size(1));
  check(fits, where_, ": a batch of ", batch.sizes(), " gives an output of ", out.sizes(),
        ": sizes were baked in by tracing; ", archive.how_to_export());
  return out;
}

bool GraphModel::ignores_padding(const CodeFiles& archive) {
  const Batch full = probe_batch(archive, *this).to(lowered_.tensors.front().value.device());
  const int64_t kept = sizes_taken(archive, 1).nearest(full.input_ids.size(1) * 2 / 3);
  if (kept >= full.input_ids.size(1)) return full.input_ids.size(1) == 1;  // no shorter text is taken
  const int64_t pad_id = archive.config().value("pad_token_id", int64_t{0});
  Batch padded = full, cut = full;
  padded.input_ids = full.input_ids.clone();
  padded.input_ids.slice(1, kept).fill_(pad_id);
  cut.input_ids = full.input_ids.slice(1, 0, kept).contiguous();
  cut.token_type_ids = full.token_type_ids.slice(1, 0, kept).contiguous();
  torch::Tensor with = output(padded);
  const torch::Tensor without = output(cut);
  if (with.dim() == 3) with = with.slice(1, 0, kept);
  const double scale = std::max(without.abs().max().item<double>(), 1e-12);
  return with.sizes() == without.sizes() && (with - without).abs().max().item<double>() <= 1e-4 * scale;
}

void GraphModel::probe(const CodeFiles& archive) {
  const torch::NoGradGuard no_grad;
  const bool was_training = is_training();
  eval();
  const Batch batch = probe_batch(archive, *this);
  const int64_t tokens = batch.input_ids.defined() ? batch.input_ids.size(1) : 0;
  const bool every_token = check_probe(archive, batch).dim() == 3;
  if (every_token && logits_) name_output_layer(of_tokens_ ? "head" : "lm_head");
  for (auto& place : places_)  // what makes hidden states is a layer like others
    if (every_token && !logits_ && !place->guessed.empty()) place->site.role = place->guessed;
  check_probe(archive, probe_batch(archive, *this, tokens > 7 ? 7 : std::max<int64_t>(1, tokens - 1), /*rows=*/4));
  if (!takes_padding_) takes_padding_ = ignores_padding(archive);
  train(was_training);
}

}  // namespace deeplora
