#include "session.h"

#include <ATen/Context.h>
#include <torch/torch.h>

#include "core/log.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/system.h"
#include "deeplora_version.h"
#include "graph/graph_model.h"
#include "interchange/peft.h"
#include "lm/autocast.h"
#include "lm/fused_rows.h"
#include "lm/targets.h"
#include "model_files/tensor_file.h"
#include "start_gradients.h"
#include "tasks/task_state.h"
#include "text/sampling.h"

namespace deeplora {
namespace fs = std::filesystem;

TokenizerFiles tokenizer_files(const fs::path& path, const TorchScriptArchive& archive) {
  if (path.empty()) return [&archive](const std::string& name) { return archive.extra(name); };
  std::error_code ignored;
  check(fs::exists(path, ignored), "model.tokenizer: ", path.string(), " does not exist");
  const bool folder = fs::is_directory(path, ignored);
  return [path, folder](const std::string& name) -> std::optional<std::string> {
    const fs::path file = folder ? path / name : path;
    if (!folder && path.filename() != name) return std::nullopt;
    if (!fs::exists(file)) return std::nullopt;
    return read_file(file, "tokenizer file");
  };
}

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& path, const TorchScriptArchive& archive, const Languages& languages) {
  auto made = make_tokenizer(tokenizer_files(path, archive), languages);
  check(path.empty() || made != nullptr, "model.tokenizer: ", path.string(), " holds no tokenizer; known files: ", join(tokenizer_file_names()));
  return made;
}

std::shared_ptr<Tokenizer> load_tokenizer_for(Task& task, const fs::path& path, const TorchScriptArchive& archive, const ArchiveInterface& interface) {
  std::shared_ptr<Tokenizer> tokenizer;
  try {
    tokenizer = load_tokenizer(path, archive, task.languages());
  } catch (const Error& e) {
    if (!path.empty() || !task.languages().source.empty() || !task.languages().target.empty()) throw;
    log_warning("the archive's tokenizer cannot be used, so rows must carry input_ids: ", e.what());
  }
  int64_t pad = tokenizer ? tokenizer->special().pad : -1;
  if (pad < 0) pad = archive.config().value("pad_token_id", int64_t{-1});
  task.set_pad_id(std::max<int64_t>(pad, 0));
  // The task keeps what it is given: files by value, so that the archive may move.
  std::map<std::string, std::string> files;
  const auto from = tokenizer_files(path, archive);
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja"})
    if (auto content = from(name)) files[name] = std::move(*content);
  task.use_model({.config = archive.config(),
                  .generation_config = archive.json("generation_config.json"),
                  .tokenizer_files = [files](const std::string& name) {
                    const auto found = files.find(name);
                    return found == files.end() ? std::nullopt : std::optional(found->second);
                  },
                  .tokenizer = tokenizer,
                  .has_decoder = ArchiveForward(archive, interface).takes("decoder_input_ids"),
                  .gives_hidden = interface.output.empty() && archive.export_info().value("output", std::string()) == "hidden"});
  return tokenizer;
}

std::shared_ptr<LanguageModel> build_native(const TorchScriptArchive& archive, const ArchiveInterface& interface,
                                            const ModelOptions& options, const ModelFamilies& families, double* difference) {
  for (const auto& name : families.names()) {
    const ModelFamily& family = families.at(name);
    if (!family.recognises(archive)) continue;
    auto model = family.build(archive, options);
    const ParityResult parity = compare_with_archive(archive, interface, *model);
    check(parity.equal, "model ", archive.file().string(), ": the native family ", name, " does not compute what the archive computes: ",
          parity.message, "; its config.json may belong to another model");
    if (difference) *difference = parity.difference;
    return model;
  }
  const std::string type = archive.config().value("model_type", std::string());
  fail("model ", archive.file().string(), ": no native family fits (", type.empty() ? "its archive holds no config.json" : "model_type '" + type + "'",
       "); families: ", join(families.names()), "; export with tools/export_torchscript.py");
}

std::shared_ptr<LanguageModel> build_graph(const TorchScriptArchive& archive, const ArchiveInterface& interface, const ModelOptions& options,
                                           double* difference, bool language_model) {
  auto model = std::make_shared<GraphModel>(archive, interface, options);
  if (language_model && !archive.export_info().has("output")) model->take_output_as_logits();
  model->probe(archive);
  const ParityResult parity = compare_with_archive(archive, interface, *model);
  check(parity.equal, "model ", archive.file().string(), ": its graph does not compute what its forward computes: ", parity.message);
  if (difference) *difference = parity.difference;
  return model;
}

std::vector<Row> read_rows(const DataConfig& data, const Task& task, const fs::path& file, std::string_view what, bool labelled) {
  TableOptions options;
  options.format = data.format;
  options.header = data.header;
  task.table_options(options, labelled);
  try {
    auto rows = read_table(file, options);
    return labelled ? task.documents(std::move(rows)) : rows;
  } catch (const Error& e) {
    fail(what, ": ", e.what());
  }
}

std::vector<Example> encode_rows(const Task& task, const Tokenizer* tokenizer, const std::vector<Row>& rows, std::string_view what, bool labelled,
                                 int64_t* truncated) {
  std::vector<Example> out;
  Errors errors;
  int64_t cut = 0;
  if (!tokenizer)  // said once, not for every row
    for (const auto& row : rows)
      check(row.fields.contains("input_ids"), what, ": ", row.source, ": the model has no tokenizer, so rows must carry input_ids; put tokenizer files ",
            "into the archive (tools/export_torchscript.py does) or name them in model.tokenizer");
  for (const auto& row : rows) {
    try {
      out.push_back(task.encode(row, tokenizer, labelled));
      cut += out.back().truncated;
    } catch (const Error& e) {
      errors.add(e.what());
    }
  }
  errors.throw_if_any(what);
  if (labelled) out = task.arrange(std::move(out), what);
  if (cut > 0)
    log_warning(what, ": ", cut, " of ", rows.size(), " texts were cut to data.max_length tokens");
  if (truncated) *truncated = cut;
  return out;
}

Session::Session(RunConfig read) : config(std::move(read)), device(config.model.device) {
  use_threads(config.train.threads);  // also when a finished run is scored: the same threads give the same bits
  const bool deterministic = config.model.deterministic == "auto" ? device.is_cpu() : config.model.deterministic == "yes";
  at::globalContext().setDeterministicAlgorithms(deterministic, /*warn_only=*/true);
  at::globalContext().setDeterministicFillUninitializedMemory(false);  // costs time and only finds reads of uninitialised memory
}

void Session::load_model_files() {
  archive = TorchScriptArchive::load(config.model.path, device);
  archive.check_finite();
  archive.fingerprint();  // of the file's weights: later the model, which shares them, may be trained
  tokenizer = load_tokenizer_for(task(), config.model.tokenizer, archive, config.model.interface);
}

void Session::load_training_rows() {
  check(!config.data.train.empty(), "data.train: expected a file of training rows, found nothing");
  std::vector<Row> all = read_rows(config.data, task(), config.data.train, "data.train", true);
  train_rows_in_file = static_cast<int64_t>(all.size());
  if (config.data.samples) {
    const auto samples = static_cast<size_t>(*config.data.samples);
    for (const size_t i : sample_rows(all.size(), samples, static_cast<uint64_t>(config.train.seed), config.data.train.string()))
      train.rows.push_back(all[i]);
  } else {
    train.rows = all;
  }
  task().fit(train.rows, all);
}

LoadedData Session::load(const fs::path& file, std::string_view what, bool labelled) const {
  LoadedData out;
  out.rows = read_rows(config.data, task(), file, what, labelled);
  out.examples = encode_rows(task(), tokenizer.get(), out.rows, what, labelled, &out.truncated);
  return out;
}

std::shared_ptr<LanguageModel> Session::build_base(const Registries& registries) {
  const ModelOptions options{config.model.dropout};
  const ArchiveInterface& interface = config.model.interface;
  if (config.model.backend == "graph") return build_graph(archive, interface, options, &parity_difference, task().outputs() == 0);
  try {
    auto base = build_native(archive, interface, options, registries.families, &parity_difference);
    base->to(device);
    return base;
  } catch (const Error& reason) {
    if (config.model.backend == "native") throw;
    auto base = build_graph(archive, interface, options, &parity_difference, task().outputs() == 0);
    log_info("backend graph: ", reason.what());
    return base;
  }
}

ModelOutput Session::run_probe(LanguageModel& model) const {
  const torch::NoGradGuard no_grad;
  const bool was_training = model.is_training();
  model.eval();
  ModelOutput out = model.forward(probe_batch(archive, model).to(device));
  model.train(was_training);
  return out;
}

std::shared_ptr<ModelWithHead> Session::add_head(const std::shared_ptr<LanguageModel>& base) {
  torch::NoGradGuard no_grad;
  const ModelOutput probed = run_probe(*base);
  const torch::Tensor probe = output_of(probed);
  const int64_t outputs = task().outputs();
  if (outputs == 0) {
    check(probe.dim() == 3 && probed.logits.defined(), "model ", archive.file().string(), " gives ", probe.sizes(), ", but task ", task().name(),
          " needs logits of every token [B, T, V]; export it with --task ", task().name());
    return nullptr;
  }
  if (probe.dim() == 2) {
    check(probe.size(1) == outputs, "model ", archive.file().string(), " gives ", probe.size(1), " outputs, but the task needs ", outputs,
          "; export it with --num-labels ", outputs, ", or as an encoder (--task encoder) to get a new head");
    return nullptr;
  }
  check(probe.dim() == 3, "model.output: expected hidden states [B, T, D] or logits [B, C], found ", probe.sizes());
  check(probed.hidden.defined(), "model ", archive.file().string(), " is a language model: it gives logits of every token ", probe.sizes(),
        ", no hidden states; name those in model.output, or export an encoder or classifier");
  HeadOptions options;
  options.outputs = outputs;
  options.pooling = parse_pooling(config.model.pooling == "auto" ? "mean" : config.model.pooling);
  options.dropout = config.model.dropout.value_or(config.head.dropout);
  options.train = config.head.train;
  std::tie(options.shift, options.scale) = task().output_scale();
  return std::make_shared<ModelWithHead>(base, probe.size(2), options, make_generator(static_cast<uint64_t>(config.train.seed), "init/head"), device);
}

void Session::build(const Registries& registries, bool with_gradients) {
  const auto base = build_base(registries);
  if (device.is_cpu()) archive.leave_widened(base->base_parameters());
  base->set_gradient_checkpointing(config.train.gradient_checkpointing);
  const auto head = add_head(base);
  adapted = std::make_unique<AdaptedModel>(head ? std::static_pointer_cast<LanguageModel>(head) : base, head);
  using Trains = AdapterMethod::Trains;
  const bool language_model = task().outputs() == 0;  // whose output layer is a weight like others, not a head of the task
  check(!language_model || config.adapter.trains != Trains::head_only || config.train.steps == int64_t{0},
        "adapter.method: none trains the head only, but a language model has none; choose another method, or train.steps: 0 to score the model as it is");
  if (config.adapter.trains == Trains::base) {
    adapted->train_base();
  } else if (!head && config.head.train && !language_model) {
    const bool found = adapted->train_archive_head();
    check(found || config.adapter.trains != Trains::head_only, "adapter.method: none trains the head only, but the model has no head");
  }
  if (config.adapter.trains == Trains::adapters) {
    auto all = adapted->model().sites();
    find_row_blocks(all, archive.config(), parse_fused_layout(config.adapter.fused_layout));
    const auto sites = choose_sites(all, config.adapter.targets);
    StartGradients gradients(*this, sites);
    adapted->add_adapters(sites, config.adapter.factory, static_cast<uint64_t>(config.train.seed), device,
                          with_gradients ? LeadingGradient([&](const AdapterSite& site, int64_t k) { return gradients.at(site, k); }) : nullptr);
    if (!config.adapter.path.empty() && with_gradients) load_adapter(config.adapter.path);
  }
  torch::NoGradGuard no_grad;
  if (with_gradients)
    for (const auto& [site, unused] : adapted->adapters()) weight_norms.push_back(site.weight.norm().item<double>());
  if (in_bfloat16() && device.is_cpu()) {  // lays the weights out before anything else takes memory
    const Autocast autocast(device, true);
    run_probe(model());
  }
  release_freed_memory();  // of weights that were joined, widened or left to their file
}

Session Session::start(const Config& given, const Registries& registries) {
  Session session(RunConfig::read(given, registries));
  session.load_model_files();
  session.load_training_rows();
  session.train.examples = encode_rows(session.task(), session.tokenizer.get(), session.train.rows, "data.train", true, &session.train.truncated);
  session.build(registries, true);
  return session;
}

Session Session::of_run(const RunFolder& folder, const Registries& registries, bool last, const std::vector<std::string>& overrides) {
  Config saved = Config::load(folder.config_file());
  for (const auto& assignment : overrides) saved.set(assignment);
  Session session(RunConfig::read(saved, registries));
  const SavedTask saved_task = SavedTask::parse(folder.task_file().string(), read_file(folder.task_file(), "task of the run"));
  session.load_model_files();
  check(saved_task.fingerprint == session.archive.fingerprint(), "run ", folder.path().string(), " was trained on a model with fingerprint ", saved_task.fingerprint,
        ", but ", session.config.model.path.string(), " has ", session.archive.fingerprint(), "; put the original model back");
  session.task().restore(saved_task.state);
  session.build(registries, false);
  const fs::path file = last ? folder.last_adapter_file() : folder.adapter_file();
  check(fs::exists(file), "run ", folder.path().string(), " holds no ", file.filename().string(),
        " yet; let it finish with: deeplora finetune --run ", folder.path().string(), " --resume");
  session.load_adapter(file);
  return session;
}

EvaluationOptions Session::evaluation() const {
  return {config.train.eval_batch_size, device, in_bfloat16()};
}

bool Session::in_bfloat16() const {
  const std::string& precision = config.model.precision;
  return precision == "bfloat16-always" || (precision == "bfloat16" && (!device.is_cpu() || has_fast_bfloat16()));
}

std::map<std::string, std::string> Session::adapter_metadata() const {
  return {{"format", "pt"},
          {"deeplora", kVersion},
          {"method", config.adapter.method},
          {"task", config.data.task},
          {"base_fingerprint", archive.fingerprint()}};
}

void Session::save_adapter(const fs::path& file) const {
  save_tensors(file, adapted->state(), adapter_metadata());
}

void Session::load_adapter(const fs::path& file) {
  if (is_peft_folder(file)) {
    adapted->load_state(load_peft_state(file, archive, *adapted), file.string());
    return;
  }
  const TensorFile read = load_tensors(file);
  const auto found = read.metadata.find("base_fingerprint");
  check(found != read.metadata.end(), file.string(), " was not written by deeplora (no base_fingerprint in its metadata)");
  check(found->second == archive.fingerprint(), file.string(), " belongs to a base model with fingerprint ", found->second, ", but ",
        archive.file().string(), " has ", archive.fingerprint());
  adapted->load_state(read.tensors, file.string());
}

nlohmann::ordered_json Session::task_state() const {
  return {{"task", config.data.task}, {"state", config.task->state()}, {"fingerprint", archive.fingerprint()},
          {"columns", config.task->columns(true)}};
}

}  // namespace deeplora
