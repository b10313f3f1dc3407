// Measures a model family on an archive, for tests that make the archives with transformers
// (tests/python/test_families.py):
//   deeplora_families list                                     registered families, one a line
//   deeplora_families check ARCHIVE                            differences as JSON, see check()
//   deeplora_families outputs FOLDER INPUTS OUT                a folder's outputs for the tensors of INPUTS
//   (safetensors), in the folder's dtype deeplora_families drops FOLDER INPUTS OUT COUNT           sums of weights [D]
//   times a folder's outputs in training mode, COUNT times deeplora_families memory ARCHIVE ROWS TOKENS on|off peak
//   memory in MB of a step, gradient checkpointing on or off deeplora_families export ARCHIVE BACKEND METHOD OPTIONS
//   TARGETS OUT   random adapters, exported every way, and live logits
#include <torch/torch.h>

#include <cstring>
#include <iostream>

#include "core/files.h"
#include "core/random.h"
#include "core/system.h"
#include "graph/graph_model.h"
#include "interchange/merge.h"
#include "interchange/peft.h"
#include "graph/torchscript_forward.h"
#include "lm/parity.h"
#include "lm/targets.h"
#include "model_files/huggingface_folder.h"
#include "model_files/tensor_file.h"
#include "models/causal_model.h"
#include "models/registration.h"
#include "support/tiny_archive.h"

namespace deeplora {
namespace {

using nlohmann::ordered_json;
using testing::factory_of;
using Model = std::shared_ptr<LanguageModel>;

Model native(const ModelFiles& archive, double dropout = 0.0) {
  ModelFamilies families("model family");
  register_model_families(families);
  for (const auto& name : families.names())
    if (families.at(name).recognises(archive)) return families.at(name).build(archive, {dropout});
  fail("no native family for ", archive.file().string());
}

Model graph(const TorchScriptArchive& archive) {
  return std::make_shared<GraphModel>(archive, ArchiveInterface{}, ModelOptions{0.0});
}

int64_t vocabulary(LanguageModel& model) {
  for (const auto& site : model.sites())
    if (site.kind == SiteKind::embedding) return site.weight.size(0);
  return 0;
}

enum class Padding { none, right, left };

/// Random ids; row i lacks i tokens when padded.
Batch random_batch(const TorchScriptArchive& archive, LanguageModel& model, int64_t rows, int64_t tokens,
                   Padding padding) {
  auto generator = make_generator(static_cast<uint64_t>(tokens), "batch");
  Batch batch;
  batch.input_ids = torch::randint(5, vocabulary(model), {rows, tokens}, generator, torch::kInt64);
  batch.attention_mask = torch::ones({rows, tokens}, torch::kInt64);
  for (int64_t i = 1; i < rows && padding != Padding::none; ++i) {
    const int64_t gone = std::min(i, tokens - 1);
    batch.attention_mask[i].slice(0, padding == Padding::left ? 0 : tokens - gone,
                                  padding == Padding::left ? gone : tokens) = 0;
  }
  batch.input_ids.masked_fill_(batch.attention_mask == 0, 0);
  batch.token_type_ids = torch::zeros_like(batch.input_ids);
  const auto& inputs = archive.inputs();
  if (std::find(inputs.begin(), inputs.end(), "decoder_input_ids") != inputs.end())
    batch.decoder_input_ids = torch::randint(5, vocabulary(model), {rows, tokens + 2}, generator, torch::kInt64);
  return batch;
}

/// A loss that every real cell's output takes part in.
torch::Tensor loss_of(const torch::Tensor& out, const Batch& batch) {
  auto generator = make_generator(7, "loss");
  const torch::Tensor weights = torch::randn(out.sizes(), generator);
  const torch::Tensor kept = out.dim() == 3 ? weights * output_mask(batch).unsqueeze(-1) : weights;
  return (out.to(torch::kFloat32) * kept).sum() / static_cast<double>(batch.size());
}

/// Largest difference relative to each tensor's own size.
double largest(const std::vector<torch::Tensor>& ours, const std::vector<torch::Tensor>& theirs) {
  double out = 0, whole = 0;
  for (const auto& value : theirs) whole = std::max(whole, value.abs().max().item<double>());
  for (size_t i = 0; i < ours.size(); ++i) {
    // Some are zero but for rounding: a bias of the keys moves no softmax.
    const double scale = std::max(theirs[i].abs().max().item<double>(), 1e-3 * whole);
    out = std::max(out, (ours[i] - theirs[i]).abs().max().item<double>() / scale);
  }
  return out;
}

/// Outputs at other sizes than those the load-time check sees, with padding on either side.
ordered_json forward_differences(const TorchScriptArchive& archive, LanguageModel& model) {
  const torch::NoGradGuard no_grad;
  const ArchiveForward forward(archive, {});
  ordered_json out;
  for (const auto& [name, padding] :
       {std::pair{"none", Padding::none}, {"right", Padding::right}, {"left", Padding::left}}) {
    const Batch batch = random_batch(archive, model, 4, 23, padding);
    out[name] = relative_difference(output_of(model.forward(batch)).to(torch::kFloat32),
                                    forward(batch).to(torch::kFloat32), output_mask(batch));
  }
  return out;
}

/// Gradients of every weight against the archive's own autograd (a copy of it: training changes flags).
double weight_gradient_difference(const TorchScriptArchive& archive, LanguageModel& model) {
  const TorchScriptArchive other = TorchScriptArchive::load(archive.file());
  const Batch batch = random_batch(archive, model, 3, 11, Padding::right);
  std::vector<torch::Tensor> ours, theirs;
  for (auto& [name, value] : model.base_parameters()) {
    ours.push_back(value.set_requires_grad(true));
    theirs.push_back(other.tensor(name).set_requires_grad(true));
  }
  const auto a = torch::autograd::grad({loss_of(output_of(model.forward(batch)), batch)}, ours);
  const auto b = torch::autograd::grad({loss_of(ArchiveForward(other, {})(batch), batch)}, theirs);
  for (auto& value : ours) value.set_requires_grad(false);
  return largest(a, b);
}

/// Factors at every site, far from zero, so that each takes part.
std::unique_ptr<AdaptedModel> adapted(const Model& model, const std::string& method, const std::string& options,
                                      const std::vector<std::string>& targets) {
  auto out = std::make_unique<AdaptedModel>(model, nullptr);
  std::vector<AdapterSite> sites = targets.empty() ? model->sites() : choose_sites(model->sites(), targets);
  // RoBERTa has one token type; weights that other operators read (DeBERTa's table of distances) are sites of graphs
  // alone.
  std::erase_if(sites, [](const AdapterSite& s) { return s.weight.size(0) < 4 || s.kind == SiteKind::weight; });
  out->add_adapters(sites, factory_of(method, options), 3, torch::kCPU, nullptr);
  torch::NoGradGuard no_grad;
  for (auto& [name, value] : out->state()) value.copy_(0.2 * torch::randn(value.sizes(), make_generator(5, name)));
  return out;
}

/// Gradients of all factors of a loss, by name of their place.
std::map<std::string, torch::Tensor> factor_gradients(AdaptedModel& model, const torch::Tensor& loss) {
  loss.backward();
  std::map<std::string, torch::Tensor> out;
  for (const auto& group : model.param_groups(1.0))
    for (auto [name, value] : group.params) {
      out[name] = value.grad().defined() ? value.grad().clone() : torch::zeros_like(value);
      value.mutable_grad().reset();
    }
  return out;
}

/// After one forward pass with `seed`.
std::map<std::string, torch::Tensor> factor_gradients(AdaptedModel& model, const Batch& batch, uint64_t seed) {
  torch::manual_seed(seed);
  return factor_gradients(model, loss_of(output_of(model.model().forward(batch)), batch));
}

double largest(const std::map<std::string, torch::Tensor>& ours, const std::map<std::string, torch::Tensor>& theirs) {
  std::vector<torch::Tensor> a, b;
  for (const auto& [name, value] : theirs) {
    a.push_back(ours.at(name));
    b.push_back(value);
  }
  return largest(a, b);
}

/// Sites that only one backend has, or that the two describe differently.
std::vector<std::string> site_differences(LanguageModel& ours, LanguageModel& theirs) {
  std::map<std::string, std::string> seen;
  const auto describe = [](const AdapterSite& s) {
    return cat(s.role, " ", s.op, " ", s.weight.sizes(), " uses ", s.uses, s.transposed ? " transposed" : "",
               s.kind == SiteKind::linear ? " linear" : " rows");
  };
  for (const auto& site : theirs.sites()) seen[site.path] = describe(site);
  std::vector<std::string> out;
  for (const auto& site : ours.sites()) {
    const auto found = seen.find(site.path);
    if (found == seen.end()) out.push_back(cat(site.path, " is missing in the graph"));
    else if (found->second != describe(site)) out.push_back(cat(site.path, ": ", describe(site), " / ", found->second));
    if (found != seen.end()) seen.erase(found);
  }
  for (const auto& [path, unused] : seen) out.push_back(cat(path, " is missing in the family"));
  return out;
}

/// Logits of the whole prefix's last position: what decoding must equal. `ids` [B, T] follow prompt or source.
torch::Tensor whole_prefix(LanguageModel& model, const Batch& prompt, const torch::Tensor& ids) {
  Batch batch = prompt;
  if (prompt.decoder_input_ids.defined()) {
    batch.decoder_input_ids = torch::cat({prompt.decoder_input_ids, ids}, 1);
  } else {
    batch.input_ids = torch::cat({prompt.input_ids, ids}, 1);
    batch.attention_mask = torch::cat({prompt.attention_mask, torch::ones_like(ids)}, 1);
  }
  return model.forward(batch).logits.select(1, -1);
}

/// Cached decoding against whole prefixes, over 12 tokens with beams swapped, repeated and dropped on the way; -1: no
/// cache.
double decoding_difference(const TorchScriptArchive& archive, LanguageModel& model) {
  const torch::NoGradGuard no_grad;
  const bool seq2seq =
      std::find(archive.inputs().begin(), archive.inputs().end(), "decoder_input_ids") != archive.inputs().end();
  Batch prompt = random_batch(archive, model, 3, 5, seq2seq ? Padding::right : Padding::left);
  if (seq2seq) prompt.decoder_input_ids = torch::zeros({3, 1}, torch::kInt64);
  const auto state = model.begin_decoding(prompt);
  if (!state) return -1;
  const auto generator = make_generator(9, "decode");
  torch::Tensor ids = torch::empty({3, 0}, torch::kInt64);
  double worst = 0;
  for (int64_t step = 0; step < 12; ++step) {
    const torch::Tensor expected = whole_prefix(model, prompt, ids), found = state->logits();
    worst = std::max(worst, (found - expected).abs().max().item<double>() / expected.abs().max().item<double>());
    const torch::Tensor next = torch::randint(5, vocabulary(model), {ids.size(0)}, generator, torch::kInt64);
    ids = torch::cat({ids, next.unsqueeze(1)}, 1);
    state->advance(next);
    if (step % 4 != 2) continue;
    const torch::Tensor rows = step == 2   ? torch::tensor({2, 0, 2, 1})
                               : step == 6 ? torch::tensor({1, 3})
                                           : torch::tensor({1, 0, 0});
    state->reorder(rows);
    ids = ids.index_select(0, rows);
    for (torch::Tensor* x : {&prompt.input_ids, &prompt.attention_mask, &prompt.decoder_input_ids})
      if (x->defined()) *x = x->index_select(0, rows);
  }
  return worst;
}

/// Factor gradients with layers computed again against those without, with dropout on.
double checkpointing_difference(const TorchScriptArchive& archive, const std::string& targets) {
  const Model model = native(archive, 0.25);
  const auto both = adapted(model, "lora", "{rank: 2, dropout: 0.3}",
                            targets.empty() ? std::vector<std::string>{} : std::vector{targets});
  const Batch batch = random_batch(archive, *model, 3, 9, Padding::right);
  model->train();
  const auto plain = factor_gradients(*both, batch, 11);
  model->set_gradient_checkpointing(true);
  return largest(factor_gradients(*both, batch, 11), plain);
}

/// The model's own losses of tokens, and what a weighted sum of them gives factors in the middle, against LibTorch's
/// cross-entropy of all its logits; -1: it has none.
double token_loss_difference(const TorchScriptArchive& archive) {
  const Model model = native(archive);
  const auto with = adapted(model, "lora", "rank: 2", {"attention_output"});
  Batch batch = random_batch(archive, *model, 3, 9, Padding::right);
  const torch::Tensor& ids = batch.decoder_input_ids.defined() ? batch.decoder_input_ids : batch.input_ids;
  batch.labels = ids.roll(-1, 1).masked_fill(torch::rand(ids.sizes(), make_generator(3, "labels")) < 0.4, kIgnored);
  if (!batch.decoder_input_ids.defined()) batch.labels.masked_fill_(batch.attention_mask == 0, kIgnored);
  const torch::Tensor each = model->token_losses(batch);
  if (!each.defined()) return -1;
  const torch::Tensor weights = torch::rand(each.sizes(), make_generator(4, "weights")), ours = (each * weights).sum();
  const torch::Tensor logits = model->forward(batch).logits;
  const torch::Tensor flat = batch.labels.flatten(),
                      all = at::cross_entropy_loss(logits.flatten(0, 1), flat, {}, at::Reduction::None, kIgnored);
  const torch::Tensor theirs = (all.index({flat != kIgnored}) * weights).sum();
  const double value = std::abs(ours.item<double>() / theirs.item<double>() - 1);
  const auto a = factor_gradients(*with, ours), b = factor_gradients(*with, theirs);
  return std::max(value, largest(a, b));
}

/// The states of first cells that a model computes on their own, and what they give factors, against those in the
/// middle of the whole result; with and without padding before the first token, with and without layers computed again.
/// -1: it has none.
double first_states_difference(const TorchScriptArchive& archive) {
  const Model model = native(archive);
  const auto with = adapted(model, "lora", "rank: 2", {"all-linear"});
  double worst = -1;
  for (const Padding padding : {Padding::none, Padding::left, Padding::right})
    for (const bool again : {false, true}) {
      const Batch batch = random_batch(archive, *model, 3, 9, padding);
      model->set_gradient_checkpointing(again);
      const torch::Tensor ours = model->first_states(batch);
      if (!ours.defined()) return -1;
      const torch::Tensor theirs = model->forward(batch).hidden.select(1, 0),
                          weights = torch::randn(theirs.sizes(), make_generator(4, "weights"));
      const double value = (ours - theirs).abs().max().item<double>() / theirs.abs().max().item<double>();
      worst = std::max({worst, value,
                        largest(factor_gradients(*with, (ours * weights).sum()),
                                factor_gradients(*with, (theirs * weights).sum()))});
    }
  return worst;
}

ordered_json check(const std::string& file) {
  const TorchScriptArchive archive = TorchScriptArchive::load(file);
  const Model ours = native(archive), theirs = graph(archive);
  ours->eval();
  theirs->eval();
  ordered_json out{{"family", ours->family()}};
  out["parity"] = compare_with_archive(archive, {}, *ours).message;
  out["sites"] = site_differences(*ours, *theirs);
  out["forward"] = forward_differences(archive, *ours);
  out["weight_gradients"] = weight_gradient_difference(archive, *ours);
  const auto a = adapted(ours, "deep-lora", "{rank: 2, depth: 3}", {}),
             b = adapted(theirs, "deep-lora", "{rank: 2, depth: 3}", {});
  const Batch batch = random_batch(archive, *ours, 3, 9, Padding::right);
  {
    const torch::NoGradGuard no_grad;
    const torch::Tensor base = ArchiveForward(archive, {})(batch).to(torch::kFloat32),
                        graphed = output_of(theirs->forward(batch)).to(torch::kFloat32);
    out["adapted_change"] = relative_difference(graphed, base, output_mask(batch));
    out["adapted_forward"] =
        relative_difference(output_of(ours->forward(batch)).to(torch::kFloat32), graphed, output_mask(batch));
  }
  out["factor_gradients"] = largest(factor_gradients(*a, batch, 1), factor_gradients(*b, batch, 1));
  out["decoding"] = decoding_difference(archive, *ours);
  if (auto* causal = dynamic_cast<CausalModel*>(ours.get())) {
    causal->read_prompts_by(6);  // of three rows, so two of each
    out["decoding"] = std::max(out["decoding"].get<double>(), decoding_difference(archive, *ours));
  }
  out["token_loss"] = token_loss_difference(archive);
  out["first_states"] = first_states_difference(archive);
  out["checkpointing"] = checkpointing_difference(archive, "");
  const auto sites = ours->sites();  // ALBERT's layers are one
  if (std::any_of(sites.begin(), sites.end(),
                  [](const AdapterSite& site) { return site.path.find(".1.") != std::string::npos; }))
    out["checkpointing"] = std::max(out["checkpointing"].get<double>(),
                                    checkpointing_difference(archive, "re:.*[.]1[.].*" /* frozen layers below */));
  return out;
}

/// A batch of the tensors that it has names for.
Batch batch_of(const std::map<std::string, torch::Tensor>& tensors) {
  Batch batch;
  const std::map<std::string, torch::Tensor*> names{{"input_ids", &batch.input_ids},
                                                    {"attention_mask", &batch.attention_mask},
                                                    {"token_type_ids", &batch.token_type_ids},
                                                    {"decoder_input_ids", &batch.decoder_input_ids}};
  for (const auto& [name, value] : tensors)
    if (names.count(name)) *names.at(name) = value;
  return batch;
}

/// Outputs and, of an encoder, the states of first cells that it computes on their own.
void outputs(const std::string& folder, const std::string& inputs, const std::filesystem::path& out) {
  const HuggingFaceFolder files = HuggingFaceFolder::load(folder);
  const Model model = native(files);
  model->eval();
  const Batch batch = batch_of(load_tensors(inputs).tensors);
  const torch::NoGradGuard no_grad;
  std::vector<NamedTensor> tensors{{"output", output_of(model->forward(batch)).contiguous()}};
  const torch::Tensor first = model->first_states(batch);
  if (first.defined()) tensors.push_back({"first", first.contiguous()});
  save_tensors(out, tensors, {});
}

/// One number for each forward pass in training mode: how dropout spreads them.
void drops(const std::string& folder, const std::string& inputs, const std::filesystem::path& out, int64_t count) {
  const HuggingFaceFolder files = HuggingFaceFolder::load(folder);
  ModelFamilies families("model family");
  register_model_families(families);
  const auto tensors = load_tensors(inputs).tensors;
  const Batch batch = batch_of(tensors);
  const torch::NoGradGuard no_grad;
  torch::Tensor sums = torch::empty({count}, torch::kFloat64);
  for (const auto& name : families.names()) {
    if (!families.at(name).recognises(files)) continue;
    const Model model = families.at(name).build(files, {});
    model->train();
    for (int64_t i = 0; i < count; ++i)
      sums[i] = (output_of(model->forward(batch)) * tensors.at("weights")).sum(torch::kFloat64);
  }
  save_tensors(out, {{"sums", sums}}, {});
}

int64_t memory(const std::string& file, int64_t rows, int64_t tokens, bool checkpointing) {
  const TorchScriptArchive archive = TorchScriptArchive::load(file);
  const Model model = native(archive);
  const auto with = adapted(model, "lora", "rank: 2", {"all-linear"});
  model->set_gradient_checkpointing(checkpointing);
  factor_gradients(*with, random_batch(archive, *model, rows, tokens, Padding::none), 1);
  return static_cast<int64_t>(peak_memory_mb());
}

void export_all(const std::string& file, const std::string& backend, const std::string& method,
                const std::string& options, const std::string& targets, const std::filesystem::path& out) {
  const TorchScriptArchive archive = TorchScriptArchive::load(file);
  const Model model = backend == "native" ? native(archive) : graph(archive);
  const auto with = adapted(model, method, options, {targets});
  model->eval();
  const Batch batch = random_batch(archive, *model, 3, 9, Padding::right);
  const torch::NoGradGuard no_grad;
  std::vector<NamedTensor> tensors{{"logits", output_of(model->forward(batch)).contiguous()},
                                   {"mask", output_mask(batch)},
                                   {"input_ids", batch.input_ids},
                                   {"attention_mask", batch.attention_mask},
                                   {"base", ArchiveForward(archive, {})(batch)}};
  if (batch.decoder_input_ids.defined()) tensors.push_back({"decoder_input_ids", batch.decoder_input_ids});
  save_tensors(out / "live.safetensors", tensors, {});
  export_torchscript(archive, {}, *with, ordered_json::object(), out / "merged.pt");
  export_safetensors(archive, *with, out / "merged");
  save_peft_folder(out / "peft", archive, *with, {.task = "causal-lm"});
  const bool pairs = method == "lora" || method == "rslora";  // others come back as another method
  if (pairs) {
    auto back = load_peft_state(out / "peft", archive, *with);
    for (auto& [unused, value] : with->state()) value.zero_();
    with->load_state(back, "the folder just written");
  }
  const torch::Tensor again = output_of(model->forward(batch));
  std::cout << ordered_json{{"reloaded", relative_difference(again, tensors[0].value, output_mask(batch))}} << "\n";
}

int run(const std::vector<std::string>& a) {
  if (a.size() == 1 && a[0] == "list") {
    ModelFamilies families("model family");
    register_model_families(families);
    for (const auto& name : families.names()) std::cout << name << "\n";
  } else if (a.size() == 2 && a[0] == "check") {
    std::cout << check(a[1]).dump() << "\n";
  } else if (a.size() == 4 && a[0] == "outputs") {
    outputs(a[1], a[2], a[3]);
    std::cout << "{}\n";
  } else if (a.size() == 5 && a[0] == "drops") {
    drops(a[1], a[2], a[3], std::stoll(a[4]));
    std::cout << "{}\n";
  } else if (a.size() == 5 && a[0] == "memory") {
    std::cout << memory(a[1], std::stoll(a[2]), std::stoll(a[3]), a[4] == "on") << "\n";
  } else if (a.size() == 7 && a[0] == "export") {
    export_all(a[1], a[2], a[3], a[4], a[5], a[6]);
  } else {
    std::cerr << "error: see the head of tests/support/families_main.cpp\n";
    return 2;
  }
  return 0;
}

}  // namespace
}  // namespace deeplora

int main(int count, char** arguments) {
  try {
    deeplora::end_process(deeplora::run({arguments + 1, arguments + count}));
  } catch (const std::exception& e) {
    std::cerr << "error: " << deeplora::short_reason(e) << "\n";
    return 1;
  }
}
