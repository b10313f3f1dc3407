#include "deeplora/deeplora.h"

#include <dlfcn.h>
#include <torch/torch.h>

#include "adapters/registration.h"
#include "core/config.h"
#include "core/files.h"
#include "core/scratch_folder.h"
#include "graph/graph_model.h"
#include "interchange/merge.h"
#include "interchange/peft.h"
#include "interchange/pt2_form.h"
#include "lm/fused_rows.h"
#include "lm/targets.h"
#include "model_files/exported_file.h"
#include "model_files/registration.h"
#include "model_files/tensor_file.h"
#include "models/registration.h"
#include "train/optimizers.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

AdapterMethods all_methods() {
  AdapterMethods out("adapter method");
  register_adapter_methods(out);
  return out;
}

/// Throws Error in a program that loads LibTorch before sentencepiece: both have a global FLAGS_minloglevel, the
/// latter's is larger, and the loader gives both the first one's place, so that c10's neighbours of it are written
/// over.
void check_load_order() {
  Dl_info info{};
  const void* flag = dlsym(RTLD_DEFAULT, "FLAGS_minloglevel");
  const bool first = !flag || dladdr(flag, &info) == 0 || !std::string_view(info.dli_fname).ends_with("libc10.so");
  check(first,
        "this program loads LibTorch before sentencepiece, whose globals then overwrite LibTorch's: link "
        "deeplora::deeplora before torch");
}

/// Arguments of the model's code that are no input of a text model are let pass: whoever calls forward gives them all.
ArchiveInterface any_arguments() {
  ArchiveInterface out;
  out.complete = false;
  return out;
}

torch::Tensor first_tensor(const torch::IValue& value) {
  if (value.isTensor()) return value.toTensor();
  if (value.isTuple() || value.isList()) {
    const auto elements = value.isTuple() ? value.toTupleRef().elements().vec() : value.toListRef().vec();
    for (const auto& element : elements)
      if (const torch::Tensor found = first_tensor(element); found.defined()) return found;
  }
  if (value.isGenericDict())
    for (const auto& entry : value.toGenericDict())
      if (const torch::Tensor found = first_tensor(entry.value()); found.defined()) return found;
  return {};
}

/// What adapt() was told, for the adapter's file.
json described(const Adaptation& a) {
  return {{"method", a.method},
          {"options", a.options},
          {"targets", a.targets},
          {"train_also", a.train_also},
          {"seed", a.seed}};
}

Adaptation adaptation_of(const nlohmann::ordered_json& described, const std::string& where) {
  Adaptation out;
  out.method = json_at<std::string>(described, "method", where);
  for (const auto& [key, value] : described.at("options").items())
    out.options[key] = json_as<std::string>(value, where);
  out.targets = json_at<std::vector<std::string>>(described, "targets", where);
  out.train_also = json_at<std::vector<std::string>>(described, "train_also", where);
  out.seed = json_at<uint64_t>(described, "seed", where);
  return out;
}

/// What a PEFT folder says.
Adaptation peft_adaptation(const fs::path& folder) {
  Adaptation out;
  for (const auto& [key, value] : adapter_settings_of(folder)) {
    if (key == "method") out.method = value;
    else if (key == "targets") out.targets = json_as<std::vector<std::string>>(json::parse(value), folder.string());
    else if (key == "train_also")
      out.train_also = json_as<std::vector<std::string>>(json::parse(value), folder.string());
    else out.options.emplace(key, value);
  }
  return out;
}

/// The method's factory. Throws Error with every option that it does not know or cannot take.
AdapterFactory factory_of(const AdapterMethod& method, const std::map<std::string, std::string>& options,
                          const std::string& name) {
  Config config = Config::parse("", "options of " + name);
  for (const auto& [key, value] : options) config.set(key + "=" + value);
  AdapterFactory out = method.configure(config);
  config.finish();
  return out;
}

/// Methods that start from gradients need training rows before there are any.
SingularPairs no_gradients(const AdapterSite&, int64_t) {
  fail(
      "this method starts from gradients of training rows, which a model in memory has not seen: take another, or "
      "train with the program and load its adapter");
}

/// Likewise those that start from what the layers read.
SingularPairs no_inputs(const AdapterSite&, int64_t) {
  fail(
      "this method starts from the layers' inputs on training rows, which a model in memory has not seen: take "
      "another, "
      "or train with the program and load its adapter");
}

}  // namespace

std::vector<std::string> methods() { return all_methods().names(); }

struct Optimizer::State {
  GroupOptimizer optimizer;
};
Optimizer::Optimizer(std::unique_ptr<State> state) : state_(std::move(state)) {}
Optimizer::Optimizer(Optimizer&&) noexcept = default;
Optimizer& Optimizer::operator=(Optimizer&&) noexcept = default;
Optimizer::~Optimizer() = default;
void Optimizer::set_learning_rate(double lr) { state_->optimizer.set_learning_rate(lr); }
void Optimizer::step() { state_->optimizer.step(); }
void Optimizer::zero_grad() { state_->optimizer.zero_grad(); }

struct Model::State {
  /// `others` are the values, of base weights that this set trains itself, that are not in the model now: those of the
  /// base while the set is in use, else the trained ones.
  struct Adapters {
    std::unique_ptr<AdaptedModel> model;
    Adaptation told;
    std::vector<torch::Tensor> others;

    void exchange(bool in_use) {
      const torch::NoGradGuard no_grad;
      for (size_t i = 0; i < others.size(); ++i) {
        torch::Tensor weight = model->trained_base()[i].value;
        const torch::Tensor now = weight.detach().clone();
        weight.copy_(others[i]);
        others[i] = now;
        weight.requires_grad_(in_use);
        if (!in_use) weight.mutable_grad() = torch::Tensor();
      }
    }
  };

  std::unique_ptr<ScratchFolder> scratch;  ///< where the file of a module in memory lies
  std::shared_ptr<ModelFiles> files;
  std::shared_ptr<LanguageModel> model;
  std::shared_ptr<GraphModel> graph;  ///< the same model where the file's own code runs, else null
  std::map<std::string, Adapters> adapters;
  std::string used;

  explicit State(const fs::path& file, const OpenOptions& options) {
    check_load_order();
    files = open_model_files(file, options.device);
    const ModelOptions how{.dropout = options.dropout};
    if (files->holds_code()) {
      graph = std::make_shared<GraphModel>(archive_of(*files, "the library"), any_arguments(), how);
      model = graph;
    } else {
      model = native(how);
    }
    model->eval();
  }

  std::shared_ptr<LanguageModel> native(const ModelOptions& how) const {
    ModelFamilies families("model family");
    register_model_families(families);
    for (const auto& name : families.names())
      if (families.at(name).recognises(*files)) return families.at(name).build(*files, how);
    fail("model ", files->file().string(), ": no family fits it; known: ", join(families.names(), ", ", 64),
         ". A TorchScript or .pt2 file of any model works");
  }

  AdaptedModel* current() const {
    const auto found = adapters.find(used);
    return found == adapters.end() ? nullptr : found->second.model.get();
  }
  AdaptedModel& needed(const char* by) const {
    AdaptedModel* out = current();
    check(out != nullptr, by, ": no adapters are in use; call adapt(), load_adapter() or use() first");
    return *out;
  }

  /// With the blocks of fused weights, where their layout is known.
  std::vector<AdapterSite> sites_with_blocks() const {
    auto out = model->sites();
    find_row_blocks(out, files->config(), FusedLayout::automatic);
    return out;
  }

  void put_away() {
    if (AdaptedModel* old = current()) {
      old->detach();
      adapters.at(used).exchange(false);
    }
    used.clear();
  }
  void put_on(const std::string& name) {
    used = name;
    if (AdaptedModel* now = current()) {
      adapters.at(name).exchange(true);
      now->attach();
    }
  }

  /// Puts new adapters under that name and uses them; `fill` gives them their values. On an error everything is as it
  /// was.
  void put(const std::string& name, const Adaptation& a, const std::function<void(AdaptedModel&)>& fill) {
    check(!name.empty(), "a set of adapters needs a name");
    files->fingerprint();  // while the base weights are the file's: some may be trained
    const std::string before = used;
    put_away();
    Adapters made{nullptr, a, {}};
    try {
      made.model = build(a, made.others);
      fill(*made.model);
    } catch (...) {
      if (made.model) {
        made.model->detach();
        made.exchange(false);
      }
      for (const auto& site : model->sites()) site.attach(nullptr);
      put_on(before);
      throw;
    }
    adapters[name] = std::move(made);
    used = name;
  }

  /// With the adapters in their slots; `base` becomes what the weights that are trained themselves were.
  std::unique_ptr<AdaptedModel> build(const Adaptation& a, std::vector<torch::Tensor>& base) {
    const AdapterMethods known = all_methods();
    const AdapterMethod& method = known.at(a.method);
    check(method.trains == AdapterMethod::Trains::adapters, "method '", a.method,
          "' has no adapters: train the model's parameters with torch::optim, or choose one of ",
          join(known.names(), ", ", 64));
    const AdapterFactory factory = factory_of(method, a.options, a.method);
    const std::vector<AdapterSite> all = sites_with_blocks();
    const std::vector<AdapterSite> sites = choose_sites(all, at_tied_sites(a.targets, *files, all));
    std::set<std::string> paths;
    for (const auto& site : sites) paths.insert(site.archive_path());
    auto out = std::make_unique<AdaptedModel>(model, nullptr);
    out->train_also(at_own_names(a.train_also, *files, model->base_parameters()), paths, true);
    for (const auto& [unused, value] : out->trained_base()) base.push_back(value.detach().clone());
    out->add_adapters(sites, factory, a.seed, sites.front().weight.device(), no_gradients, no_inputs);
    return out;
  }

  torch::IValue run(std::vector<torch::IValue> arguments) {
    if (graph) return graph->run(std::move(arguments));
    check(arguments.size() >= 1 && arguments.size() <= 3, "model ", files->file().string(),
          ": expected input_ids, attention_mask and token_type_ids, or the first of them, found ", arguments.size(),
          " arguments");
    Batch batch;
    torch::Tensor* const places[] = {&batch.input_ids, &batch.attention_mask, &batch.token_type_ids};
    for (size_t i = 0; i < arguments.size(); ++i) *places[i] = arguments[i].toTensor();
    if (!batch.attention_mask.defined()) batch.attention_mask = torch::ones_like(batch.input_ids);
    if (!batch.token_type_ids.defined()) batch.token_type_ids = torch::zeros_like(batch.input_ids);
    const ModelOutput out = model->forward(batch);
    return out.logits.defined() ? out.logits : out.hidden;
  }
};

Model::Model(std::unique_ptr<State> state) : state_(std::move(state)) {}
Model::Model(Model&&) noexcept = default;
Model& Model::operator=(Model&&) noexcept = default;
Model::~Model() = default;

Model Model::open(const fs::path& file, const OpenOptions& options) {
  return Model(std::make_unique<State>(file, options));
}

Model Model::of(const torch::jit::Module& module, const OpenOptions& options) {
  auto scratch = std::make_unique<ScratchFolder>("module");
  const fs::path file = scratch->path() / "module.pt";
  try {
    module.save(file.string());
  } catch (const std::exception& e) {
    fail("the module cannot be saved, and so not be copied: ", short_reason(e));
  }
  auto state = std::make_unique<State>(file, options);
  state->scratch = std::move(scratch);
  return Model(std::move(state));
}

std::vector<AdaptableWeight> Model::weights() const {
  std::vector<AdaptableWeight> out;
  for (const auto& site : state_->model->sites())
    out.push_back({site.path, site.role, site.op, site.weight.sizes().vec()});
  return out;
}

std::vector<std::string> Model::inputs() const { return state_->files->inputs(); }

void Model::adapt(const Adaptation& adaptation, const std::string& name) {
  state_->put(name, adaptation, [](AdaptedModel&) {});
}

std::vector<torch::Tensor> Model::parameters() const {
  std::vector<torch::Tensor> out;
  if (const AdaptedModel* adapted = state_->current())
    for (const auto& group : adapted->param_groups())
      for (const auto& parameter : group.params) out.push_back(parameter.value);
  return out;
}

Optimizer Model::optimizer(double lr, double weight_decay) const {
  auto state = std::unique_ptr<Optimizer::State>(
      new Optimizer::State{GroupOptimizer({.weight_decay = weight_decay}, state_->needed("optimizer").param_groups())});
  state->optimizer.set_learning_rate(lr);
  return Optimizer(std::move(state));
}

torch::IValue Model::forward(std::vector<torch::IValue> arguments) { return state_->run(std::move(arguments)); }

torch::Tensor Model::operator()(std::vector<torch::IValue> arguments) {
  const torch::Tensor out = first_tensor(forward(std::move(arguments)));
  check(out.defined(), "model ", state_->files->file().string(), ": its forward gives no tensor");
  return out;
}

void Model::train(bool on) { state_->model->train(on); }
bool Model::is_training() const { return state_->model->is_training(); }

void Model::use(const std::string& name) {
  check(name.empty() || state_->adapters.count(name), "no adapters are called '", name,
        "'; there are: ", state_->adapters.empty() ? "none" : join(adapters(), ", ", 64));
  state_->put_away();
  state_->put_on(name);
}

const std::string& Model::in_use() const { return state_->used; }

std::vector<std::string> Model::adapters() const {
  std::vector<std::string> out;
  for (const auto& [name, unused] : state_->adapters) out.push_back(name);
  return out;
}

void Model::remove(const std::string& name) {
  if (name == state_->used) state_->put_away();
  state_->adapters.erase(name);
}

void Model::save_adapter(const fs::path& file) const {
  const AdaptedModel& adapted = state_->needed("save_adapter");
  const Adaptation& told = state_->adapters.at(state_->used).told;
  save_tensors(file, adapted.state(),
               {{"format", "pt"},
                {"method", told.method},
                {"adaptation", described(told).dump()},
                {"base_fingerprint", state_->files->fingerprint()}});
}

void Model::load_adapter(const fs::path& file, const std::string& name) {
  if (is_peft_folder(file)) {
    check_peft_folder(file, *state_->files, state_->sites_with_blocks());
    state_->put(name, peft_adaptation(file), [&](AdaptedModel& made) {
      made.load_state(load_peft_state(file, *state_->files, made), file.string());
    });
    return;
  }
  const TensorFile read = load_tensors(file);
  check(read.metadata.count("adaptation") && read.metadata.count("base_fingerprint"), file.string(),
        " was not written by save_adapter: it does not say how the model was adapted");
  check(state_->files->is(read.metadata.at("base_fingerprint")), file.string(),
        " belongs to a base model with fingerprint ", read.metadata.at("base_fingerprint"), ", but ",
        state_->files->file().string(), " has ", state_->files->fingerprint());
  state_->put(
      name,
      adaptation_of(parse_json<nlohmann::ordered_json>(file.string(), read.metadata.at("adaptation")), file.string()),
      [&](AdaptedModel& made) { made.load_state(read.tensors, file.string()); });
}

namespace {

bool same(const torch::IValue& merged, const torch::IValue& live) {
  const torch::Tensor a = first_tensor(merged), b = first_tensor(live);
  if (!a.defined() || !b.defined() || a.sizes() != b.sizes()) return false;
  const double tolerance = a.scalar_type() == torch::kFloat64           ? 1e-9
                           : at::isReducedFloatingType(a.scalar_type()) ? 3e-2
                                                                        : 1e-4;
  const double scale = std::max(1.0, b.to(torch::kFloat64).abs().max().item<double>());
  return (a.to(torch::kFloat64) - b.to(torch::kFloat64)).abs().max().item<double>() <= tolerance * scale;
}

/// Throws Error unless the file that was written gives what the model gives.
void check_written(const CodeFiles& written, const std::vector<torch::IValue>& example, const torch::IValue& live) {
  if (example.empty()) return;
  torch::jit::Module module = written.module();
  module.eval();
  check(same(module.forward(example), live),
        "the merged file does not give what the adapted model gives on the example; nothing was written");
}

/// As deeplora.json beside the model's other extra files.
std::map<std::string, std::string> with_merge_noted(const ModelFiles& files, const std::string& method) {
  std::map<std::string, std::string> out = files.extras();
  out["deeplora.json"] = json{{"method", method}, {"base_fingerprint", files.fingerprint()}}.dump();
  return out;
}

}  // namespace

void Model::merge(const fs::path& output, const std::vector<torch::IValue>& example) {
  const AdaptedModel& adapted = state_->needed("merge");
  const ModelFiles& files = *state_->files;
  std::error_code ignored;
  check(!fs::exists(output, ignored), output.string(), " exists already");
  const torch::NoGradGuard no_grad;
  const bool was_training = is_training();
  eval();
  const torch::IValue live = example.empty() ? torch::IValue() : forward(example);
  train(was_training);
  const auto extras = with_merge_noted(files, state_->adapters.at(state_->used).told.method);
  MergeReport report;
  if (dynamic_cast<const TorchScriptArchive*>(&files)) {
    TorchScriptArchive target = TorchScriptArchive::load(files.file());
    merge_into(target, files, adapted, report);
    write_file_atomically(output, [&](const fs::path& temporary) {
      TorchScriptArchive::save(target.module(), extras, temporary);
      check_written(TorchScriptArchive::load(temporary), example, live);
    });
  } else if (dynamic_cast<const ExportedFile*>(&files)) {
    ExportedFile target = ExportedFile::load(files.file());
    merge_into(target, files, adapted, report);
    write_file_atomically(output, [&](const fs::path& temporary) {
      save_program(target, extras, temporary);
      check_written(ExportedFile::load(temporary.string() + "#" + target.model()), example, live);
    });
  } else {
    export_safetensors(files, adapted, output);
  }
}

torch::jit::Module Model::merged() const {
  const AdaptedModel& adapted = state_->needed("merged");
  check(dynamic_cast<const TorchScriptArchive*>(state_->files.get()) != nullptr, "merged: model ",
        state_->files->file().string(), " is a ", state_->files->kind(), ", no TorchScript; merge() writes a file");
  TorchScriptArchive target = TorchScriptArchive::load(state_->files->file());
  MergeReport report;
  merge_into(target, *state_->files, adapted, report);
  return target.module();
}

}  // namespace deeplora
