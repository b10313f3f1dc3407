#include "session.h"

#include <ATen/Context.h>
#include <torch/torch.h>

#include <algorithm>
#include <iomanip>
#include <set>

#include "core/log.h"
#include "core/long_work.h"
#include "core/parallel.h"
#include "core/random.h"
#include "core/safetensors.h"
#include "core/stage.h"
#include "core/system.h"
#include "deeplora_version.h"
#include "graph/graph_model.h"
#include "graph/unknown_weights.h"
#include "interchange/peft.h"
#include "lm/autocast.h"
#include "lm/fused_rows.h"
#include "lm/targets.h"
#include "model_files/registration.h"
#include "model_files/tensor_file.h"
#include "moved_files.h"
#include "starting_directions.h"
#include "tasks/id_limits.h"
#include "tasks/row_tensors.h"
#include "tasks/task_state.h"
#include "text/row_errors.h"
#include "core/number_text.h"
#include "text/sampling.h"

namespace deeplora {
namespace fs = std::filesystem;

TokenizerFiles tokenizer_files(const fs::path& path, const ModelFiles& files) {
  if (path.empty()) return [&files](const std::string& name) { return files.extra(name); };
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

std::unique_ptr<Tokenizer> load_tokenizer(const fs::path& path, const ModelFiles& files, const Languages& languages) {
  auto made = make_tokenizer(tokenizer_files(path, files), languages);
  check(path.empty() || made != nullptr, "model.tokenizer: ", path.string(),
        " holds no tokenizer; known files: ", join(tokenizer_file_names()));
  return made;
}

int64_t pad_id_of(const Tokenizer* tokenizer, const ModelFiles& files) {
  int64_t pad = tokenizer ? tokenizer->special().pad : -1;
  if (pad < 0) pad = files.config().value("pad_token_id", int64_t{-1});
  return std::max<int64_t>(pad, 0);
}

std::shared_ptr<Tokenizer> load_tokenizer_for(Task& task, const fs::path& path, const ModelFiles& files,
                                              const ArchiveInterface& interface) {
  std::shared_ptr<Tokenizer> tokenizer;
  try {
    tokenizer = load_tokenizer(path, files, task.languages());
  } catch (const Error& e) {
    if (!path.empty() || !task.languages().source.empty() || !task.languages().target.empty()) throw;
    log_warning("the model's tokenizer cannot be used, so rows must carry input_ids: ", e.what());
  }
  task.set_pad_id(pad_id_of(tokenizer.get(), files));
  // The task keeps what it is given: files by value, so that the archive may move.
  std::map<std::string, std::string> texts;
  const auto from = tokenizer_files(path, files);
  for (const char* name : {"tokenizer_config.json", "special_tokens_map.json", "chat_template.jinja",
                           "additional_chat_templates/tool_use.jinja", "additional_chat_templates/rag.jinja"})
    if (auto content = from(name)) texts[name] = std::move(*content);
  const RowInputs inputs = row_inputs(files, interface);
  task.use_model(
      {.config = files.config(),
       .generation_config = files.json("generation_config.json"),
       .tokenizer_files =
           [texts](const std::string& name) {
             const auto found = texts.find(name);
             return found == texts.end() ? std::nullopt : std::optional(found->second);
           },
       .tokenizer = tokenizer,
       .has_decoder = takes_input(files, interface, "decoder_input_ids"),
       .gives_hidden = interface.output.empty() && files.export_info().value("output", std::string()) == "hidden",
       .tensors = inputs.tensors,
       .takes_ids = inputs.ids});
  return tokenizer;
}

std::shared_ptr<LanguageModel> build_native(const ModelFiles& files, const ArchiveInterface& interface,
                                            const ModelOptions& options, const ModelFamilies& families,
                                            double* difference) {
  const auto reference = reference_forward(files, interface);
  if (const ModelFamily* family = family_of(files, families)) {
    auto model = family->build(files, options);
    if (!reference) return model;
    const Stage stage("comparison with the archive's own forward", files.bytes());
    check_reads_nothing_beside(archive_of(files, "a native family's check"), *model);
    const ParityResult parity = compare_with_reference(files, *reference, *model);
    check(parity.equal, "model ", files.file().string(), ": the native family ", model->family(),
          " does not compute what the archive computes: ", parity.message,
          "; its config.json may belong to another model");
    if (difference) *difference = parity.difference;
    return model;
  }
  const std::string type = files.config().value("model_type", std::string());
  fail("model ", files.file().string(), ": no native family fits (",
       type.empty() ? "no config.json with a model_type" : "model_type '" + type + "'",
       "); families: ", join(families.names(), ", ", families.names().size()), "; ",
       reference ? "export with tools/export_torchscript.py"
                 : "a TorchScript file of any model works: tools/export_torchscript.py makes one from the folder");
}

std::shared_ptr<LanguageModel> build_graph(const ModelFiles& files, const ArchiveInterface& interface,
                                           const ModelOptions& options, double* difference, bool language_model) {
  const CodeFiles& archive = archive_of(files, "model.backend: graph");
  const LongWork work("finding the weights in the model's graph");
  auto model = std::make_shared<GraphModel>(archive, interface, options);
  if (language_model && !archive.export_info().has("output")) model->take_output_as_logits();
  const Stage stage("probes and comparison with the archive's own forward", files.bytes());
  model->probe(archive);
  const ParityResult parity = compare_with_archive(archive, interface, *model);
  check(parity.equal, "model ", archive.file().string(),
        ": its graph does not compute what its forward computes: ", parity.message);
  if (difference) *difference = parity.difference;
  return model;
}

Table read_rows(const TableOptions& options, const fs::path& file, std::string_view what) {
  try {
    const LongWork work(cat("reading ", file.string()));
    Table table = read_table(file, options);
    if (table.skipped > 0) log_warning(what, ": ", table.skipped_rows);
    return table;
  } catch (const Error& e) {
    fail(what, ": ", e.what());
  }
}

namespace {

TableOptions options_for(const DataConfig& data, const Task& task, bool labelled) {
  TableOptions out = data.table_options();
  task.table_options(out, labelled);
  return out;
}

/// "0.4 %"
std::string percent(int64_t part, int64_t all) {
  const double share = 100.0 * static_cast<double>(part) / static_cast<double>(std::max<int64_t>(all, 1));
  return cat(std::fixed, std::setprecision(share < 10 ? 1 : 0), share, " %");
}

/// The line that tells what a file was taken for.
void say_what_was_read(const Task& task, const fs::path& file, const std::string& table,
                       std::span<const Example> examples) {
  if (examples.empty()) return;
  const std::string labels = task.label_summary(examples), tensors = tensors_shown(task.tensor_inputs());
  std::string said = cat("data: ", file.string(), ": ", table, labels.empty() ? "" : "; " + labels,
                         tensors.empty() ? "" : "; " + tensors);
  if (task.reads_tokens()) {
    std::vector<int64_t> lengths;
    for (const auto& example : examples) lengths.push_back(example.tokens());
    std::sort(lengths.begin(), lengths.end());
    said += cat("; lengths median ", lengths[lengths.size() / 2], ", longest ", with_commas(lengths.back()), " tokens");
  }
  log_info(said);
}

}  // namespace

std::vector<Example> encode_rows(const Task& task, const Tokenizer* tokenizer, const std::vector<Row>& rows,
                                 std::string_view what, bool labelled, int64_t* truncated) {
  std::vector<Example> out;
  RowErrors errors;
  int64_t cut = 0, lost = 0, left = 0;
  if (!tokenizer && task.reads_tokens())  // said once, not for every row
    for (const auto& row : rows)
      check(row.fields.contains("input_ids"), what, ": ", row.source,
            ": the model has no tokenizer, so rows must carry input_ids; put tokenizer files ",
            "into the archive (tools/export_torchscript.py does) or name them in model.tokenizer");
  LongWork work(cat("tokenizing ", what), static_cast<int64_t>(rows.size()));
  for (const auto& row : rows) {
    work.advance();
    try {
      out.push_back(task.encode(row, tokenizer, labelled));
      cut += out.back().truncated;
      lost += out.back().tokens_cut;
      if (out.back().tokens_cut > 0) left += out.back().tokens();
    } catch (const Error& e) {
      errors.add_what(row.source, e.what());
    }
  }
  errors.throw_if_any(what);
  for (const auto& remark : task.remarks(rows, labelled)) log_warning(what, ": ", remark);
  if (cut > 0)
    log_warning(what, ": ", cut, " of ", rows.size(), " texts (", percent(cut, static_cast<int64_t>(rows.size())),
                ") were cut to data.max_length tokens",
                lost > 0 ? cat(" and lose ", percent(lost, lost + left), " of theirs; data.max_length raises it")
                         : std::string());
  if (truncated) *truncated = cut;
  return out;
}

Session::Session(RunConfig read) : config(std::move(read)), device(config.model.device) {
  check_device(config.model);
  use_threads(config.train.threads);  // also when a finished run is scored: the same threads give the same bits
  const bool deterministic =
      config.model.deterministic == "auto" ? device.is_cpu() : config.model.deterministic == "yes";
  at::globalContext().setDeterministicAlgorithms(deterministic, /*warn_only=*/true);
  at::globalContext().setDeterministicFillUninitializedMemory(
      false);  // costs time and only finds reads of uninitialised memory
}

void Session::load_model_files(const ModelFamilies& families, const Accept& accept) {
  {
    const Stage stage("model files opened");
    const LongWork work(cat("reading ", config.model.path.string()));
    files = open_model_files(config.model.path, device);
  }
  if (config.model.quantize != Quantization::none) files->leave_what_is_checked();
  if (accept) accept(*files);
  if (!config.model.interface.inputs.empty() || !config.model.interface.output.empty())
    archive_of(*files, "what model.inputs and model.output name");
  files->check_finite();
  files->fingerprint();  // of the file's weights: later the model, which shares them, may be trained
  tokenizer = load_tokenizer_for(task(), config.model.tokenizer, *files, config.model.interface);
  plan_ = plan_head(config, *files, families);
}

void Session::deal_out() {
  check(!config.data.train.empty(), "data.train: expected a file of training rows, found nothing");
  Table table = read_rows(options_for(config.data, task(), true), config.data.train, "data.train");
  train_table = table.summary();
  drawn = draw_rows(config, task().documents(std::move(table.rows)));
  split_fingerprint = drawn.fingerprint();
  for (const auto& [part, name] : {std::pair(&drawn.dev, "dev"), std::pair(&drawn.test, "test")})
    if (!part->empty()) train_table += cat("; ", with_commas(part->size()), " of them drawn as ", name);
}

void Session::load_training_rows() {
  deal_out();
  const std::vector<Row> all = std::move(drawn.train);
  train_rows_in_file = static_cast<int64_t>(all.size());
  if (config.data.samples) {
    const auto samples = static_cast<size_t>(*config.data.samples);
    auto chosen =
        sample_rows(all.size(), samples, static_cast<uint64_t>(config.train.seed), config.data.train.string());
    if (!config.train.shuffle) std::sort(chosen.begin(), chosen.end());  // the order of the file
    for (const size_t i : chosen) train.rows.push_back(all[i]);
  } else {
    train.rows = all;
  }
  task().fit(train.rows, all);
}

LoadedData Session::load_rows(std::vector<Row> rows, const fs::path& file, const std::string& summary,
                              std::string_view what, bool labelled) const {
  LoadedData out;
  out.rows = std::move(rows);
  out.examples = encode_rows(task(), tokenizer.get(), out.rows, what, labelled, &out.truncated);
  check_ids(task(), model(), out.examples, device, what);
  if (labelled) say_what_was_read(task(), file, summary, out.examples);
  if (labelled) out.examples = task().arrange(std::move(out.examples), what);
  return out;
}

/// A head of the family's own, not one of ours.
static bool is_of_family(HeadKind kind) { return kind == HeadKind::classes || kind == HeadKind::tokens; }

ModelOptions Session::prepare_head(const ModelFamilies& families) {
  ModelOptions options{.dropout = config.model.dropout};
  options.head = plan_.kind;
  if (!is_of_family(plan_.kind)) return options;
  put_class_head(*files, *family_of(*files, families), plan_.kind, task().outputs(),
                 static_cast<uint64_t>(config.train.seed), device);
  const std::string weight = files->class_head()->output + ".weight", bias = files->class_head()->output + ".bias";
  if (!files->is_started(weight)) return options;
  // A new output layer learns standardised targets. Without a bias the mean has no place in the file.
  std::tie(options.shift, options.scale) = task().output_scale();
  if (!files->has(bias)) options.shift = 0;
  units_ = {weight, bias, options.shift, options.scale};
  return options;
}

LoadedData Session::load(const fs::path& file, std::string_view what, bool labelled) const {
  Table table = read_rows(options_for(config.data, task(), labelled), file, what);
  const std::string summary = table.summary();
  return load_rows(labelled ? task().documents(std::move(table.rows)) : std::move(table.rows), file, summary, what,
                   labelled);
}

LoadedData Session::load_split(const std::string& split) {
  const fs::path& file = split == "dev" ? config.data.dev : config.data.test;
  if (!file.empty()) return load(file, "data." + split, true);
  const bool has = split == "dev" ? config.data.has_dev() : config.data.has_test();
  if (!has) return {};
  if (train_table.empty()) {  // a finished run, which reads its training rows for this alone
    deal_out();
    check(known_split.empty() || known_split == split_fingerprint, "data.train: ", config.data.train.string(),
          " is not what it was when the run drew its ", split, " rows from it; name a file with --data");
  }
  std::vector<Row>& rows = split == "dev" ? drawn.dev : drawn.test;
  if (rows.empty()) return {};
  const std::string summary = cat(with_commas(rows.size()), rows.size() == 1 ? " row" : " rows", " drawn as ", split);
  return load_rows(std::move(rows), config.data.train, summary, "data." + split, true);
}

std::shared_ptr<LanguageModel> Session::build_base(const Registries& registries, const ModelOptions& options) {
  const ArchiveInterface& interface = config.model.interface;
  if (config.model.backend == "graph")
    return build_graph(*files, interface, options, &parity_difference, task().outputs() == 0);
  try {
    auto base = build_native(*files, interface, options, registries.families, &parity_difference);
    base->to(device);
    return base;
  } catch (const Error& reason) {
    if (config.model.backend == "native" || !files->holds_code()) throw;
    auto base = build_graph(*files, interface, options, &parity_difference, task().outputs() == 0);
    log_info("backend graph: ", reason.what());
    return base;
  }
}

ModelOutput Session::run_probe(LanguageModel& model) const {
  const torch::NoGradGuard no_grad;
  const bool was_training = model.is_training();
  model.eval();
  Batch batch = probe_batch(*files, model);
  // Some families' heads read a text at its end token.
  if (const auto end = files->config().root.find("eos_token_id");
      plan_.kind == HeadKind::classes && end != files->config().root.end() && end->is_number_integer())
    batch.input_ids.select(1, 0).fill_(end->get<int64_t>());
  ModelOutput out = model.forward(batch.to(device));
  model.train(was_training);
  return out;
}

Pooling Session::choose_pooling() const {
  if (config.model.pooling != "auto") return parse_pooling(config.model.pooling);
  const auto own = pooling_of(*files);
  const auto behind = own_head_of(*files) ? std::vector<std::string>{} : modules_behind_pooling(*files);
  for (const auto& module : behind)
    check(module == "Normalize", "model ", files->file().string(), ": modules.json: a ", module,
          " behind the pooling is not read; model.pooling: ", to_string(own.value_or(Pooling::mean)),
          " puts the head on the pooled states without it");
  if (own)
    log_info("pooling: ", to_string(*own), ", as the model's own pooling file says",
             behind.empty() || config.model.normalize
                 ? ""
                 : "; its Normalize is left out, which model.normalize: true takes in");
  return own.value_or(Pooling::mean);
}

void Session::check_is_hidden(const ModelOutput& probed) const {
  const torch::Tensor probe = output_of(probed);
  check(probe.dim() == 3, "model.output: expected hidden states [B, T, D] or one vector a text, found ", probe.sizes());
  check(probed.hidden.defined(), "model ", files->file().string(),
        " is a language model: it gives logits of every token ", probe.sizes(),
        ", no hidden states; name those in model.output, or export an encoder or classifier");
}

std::shared_ptr<LanguageModel> Session::add_pooling(const std::shared_ptr<LanguageModel>& base) {
  torch::NoGradGuard no_grad;
  const ModelOutput probed = run_probe(*base);
  const torch::Tensor probe = output_of(probed);
  if (probe.dim() == 2) {
    log_info("vectors: the model's own, ", probe.size(1), " wide, as they are");
    task().use_width(probe.size(1));
    return base;
  }
  check_is_hidden(probed);
  task().use_width(probe.size(2));
  return std::make_shared<PooledModel>(base, form_of_vectors(probe.size(2)));
}

VectorForm Session::form_of_vectors(int64_t width) const {
  VectorForm form = vector_form_of(*files);
  if (config.model.pooling != "auto") form.pooling = parse_pooling(config.model.pooling);
  form.normalize |= config.model.normalize;
  log_info("vectors: ", to_string(form.pooling), " pooling, ", width, " wide, ",
           form.normalize ? "of length 1" : "not normalised", ", as ",
           config.model.pooling == "auto" ? "the model's own files say" : "model.pooling says");
  return form;
}

std::shared_ptr<ModelWithHead> Session::add_head(const std::shared_ptr<LanguageModel>& base) {
  torch::NoGradGuard no_grad;
  if (is_of_family(plan_.kind) || task().embeds()) return nullptr;
  const ModelOutput probed = run_probe(*base);
  const torch::Tensor probe = output_of(probed);
  const int64_t outputs = task().outputs();
  if (outputs == 0) {
    check(probe.dim() == 3 && probed.logits.defined(), "model ", files->file().string(), " gives ", probe.sizes(),
          ", but task ", task().name(), " needs logits of every token [B, T, V]; export it with --task ",
          task().model_kind());
    return nullptr;
  }
  if (task().tags_tokens() && probe.dim() == 3 && probed.logits.defined() && plan_.in_files) {
    check(probe.size(2) == outputs, "model ", files->file().string(), " gives ", probe.size(2),
          " outputs for every token, but the task needs ", outputs,
          "; export it as an encoder (--task encoder) to get a new head");
    return nullptr;
  }
  check(!task().tags_tokens() || probe.dim() == 3, "model ", files->file().string(), " gives ", probe.sizes(),
        ", one result for a text, but the task needs the states of every token [B, T, D]; export it as an encoder "
        "(--task encoder), or name those in model.output");
  if (probe.dim() == 2) {
    check(config.head.type == "auto", "head.type: ", config.head.type, ": model ", files->file().string(), " gives ",
          probe.size(1), " outputs by a head of its own");
    check(probe.size(1) == outputs, "model ", files->file().string(), " gives ", probe.size(1),
          " outputs, but the task needs ", outputs,
          !base->takes_ids() ? std::string("; save the model with as many, or name another part of its result in "
                                           "model.output")
          : files->holds_code()
              ? cat("; export it with --num-labels ", outputs, ", or as an encoder (--task encoder) to get a new head")
              : std::string("; name a folder whose head has as many, or its encoder alone (AutoModel's "
                            "save_pretrained) to get a new head"));
    return nullptr;
  }
  check_is_hidden(probed);
  HeadOptions options;
  options.outputs = outputs;
  const VectorForm read = config.train.contrastive  // what pairs tune is what the head stands on
                              ? form_of_vectors(probe.size(2))
                              : VectorForm{.pooling = choose_pooling(), .normalize = config.model.normalize};
  options.pooling = task().tags_tokens() ? Pooling::none : read.pooling;
  options.normalize = read.normalize;
  options.dropout = config.model.dropout.value_or(config.head.dropout);
  options.train = config.head.train;
  std::tie(options.shift, options.scale) = task().output_scale();
  return std::make_shared<ModelWithHead>(base, probe.size(2), options,
                                         make_generator(static_cast<uint64_t>(config.train.seed), "init/head"), device);
}

std::vector<AdapterSite> Session::sites_to_adapt(bool starts) const {
  auto all = adapted->model().sites();
  find_row_blocks(all, files->config(), parse_fused_layout(config.adapter.fused_layout));
  std::vector<std::string> targets = config.adapter.targets;
  if (!config.adapter.path.empty()) {
    if (starts && is_peft_folder(config.adapter.path)) check_peft_folder(config.adapter.path, *files, all);
    targets = at_tied_sites(targets, *files, all);
  }
  const auto sites = choose_sites(all, targets);
  Errors errors;
  for (const auto& pattern : config.adapter.own_values) {
    const auto matches = [&](const AdapterSite& s) {
      return glob_matches(pattern, s.path) || glob_matches(pattern, module_path(s.path));
    };
    if (std::none_of(sites.begin(), sites.end(), matches))
      errors.add("adapter.ranks, adapter.alphas: '", pattern, "' matches no adapted weight");
  }
  errors.throw_if_any();
  if (starts && config.head.train && task().outputs() > 0)
    for (const auto& site : sites)
      if (site.role == "head")
        log_info("the head's ", site.path,
                 " has an adapter, so it is not trained itself; leave it out of adapter.targets to train it");
  return sites;
}

/// Bytes of the weights in the files.
static constexpr int64_t kLargeModel = int64_t{1} << 30;

void Session::measure_weights() {
  const Stage stage("norms of the adapted weights");
  LongWork work("measuring the adapted weights", std::ssize(adapted->adapters()));
  const torch::NoGradGuard no_grad;
  for (const auto& [site, unused] : adapted->adapters()) {
    work.advance();
    weight_norms.push_back(at::linalg_vector_norm(site.weight, 2, at::OptionalIntArrayRef{}, false,
                                                  at::promote_types(site.weight.scalar_type(), torch::kFloat32))
                               .item<double>());
    if (config.model.quantize != Quantization::none) files->stored()->let_go(site.weight);
  }
}

void Session::build(const Registries& registries, bool with_gradients) {
  const auto base = build_base(registries, prepare_head(registries.families));
  if (device.is_cpu()) files->leave_widened(base->base_parameters());
  QuantizedWeights quantized;
  if (config.model.quantize != Quantization::none) {
    const Stage stage("quantising", files->bytes());
    quantized = quantize_linear_layers(*base, config.model.quantize);
  }
  base->set_gradient_checkpointing(config.train.gradient_checkpointing);
  const auto head = add_head(base);
  const auto whole = task().embeds() ? add_pooling(base) : head ? std::static_pointer_cast<LanguageModel>(head) : base;
  adapted = std::make_unique<AdaptedModel>(whole, head);
  adapted->set_output_units(units_);
  adapted->set_quantized(std::move(quantized));
  if (with_gradients) {  // of the training rows, before anything reads them
    check_ids(task(), model(), train.examples, device, "data.train");
    say_what_was_read(task(), config.data.train, train_table, train.examples);
    const LongWork work("laying data.train out");
    train.examples = task().arrange(std::move(train.examples), "data.train");
  }
  using Trains = AdapterMethod::Trains;
  const std::vector<AdapterSite> sites =
      config.adapter.trains == Trains::adapters ? sites_to_adapt(with_gradients) : std::vector<AdapterSite>{};
  std::set<std::string> paths;
  for (const auto& site : sites) paths.insert(site.archive_path());
  const bool language_model =
      task().outputs() == 0;  // whose output layer is a weight like others, not a head of the task
  check(!language_model || config.adapter.trains != Trains::head_only || config.train.steps == int64_t{0},
        "adapter.method: none trains the head only, but a language model has none; choose another method, or "
        "train.steps: 0 to score the model as it is");
  check(!task().embeds() || config.adapter.trains != Trains::head_only || config.train.steps == int64_t{0},
        "adapter.method: none trains the head only, but vectors of texts have none; choose another method, or "
        "train.steps: 0 to score the model as it is");
  if (config.adapter.trains == Trains::base) {
    adapted->train_base();
  } else if (!head && config.head.train && !language_model && !task().embeds()) {
    const bool found = adapted->train_archive_head(paths);
    check(found || config.adapter.trains != Trains::head_only,
          "adapter.method: none trains the head only, but the model has no head");
  }
  adapted->keep_started(files->started());  // trained or not, no other file holds them
  if (config.adapter.trains == Trains::adapters) {
    adapted->train_also(at_own_names(config.adapter.train_also, *files, model().base_parameters()), paths,
                        config.head.train);
    StartingDirections start(*this, sites);
    adapted->add_adapters(
        sites, config.adapter.factory, static_cast<uint64_t>(config.train.seed), device,
        with_gradients ? LeadingPairs([&](const AdapterSite& site, int64_t k) { return start.gradient(site, k); })
                       : nullptr,
        with_gradients ? LeadingPairs([&](const AdapterSite& site, int64_t k) { return start.inputs(site, k); })
                       : nullptr);
    if (!config.adapter.path.empty() && with_gradients) load_adapter(config.adapter.path);
  }
  if (with_gradients) measure_weights();
  if (in_bfloat16() && device.is_cpu()) {  // lays the weights out before anything else takes memory
    const Stage stage("first pass in bfloat16", files->bytes());
    const torch::NoGradGuard no_grad;
    const Autocast autocast(device, true);
    run_probe(model());
  }
  // Whoever quantises is short of memory; it costs a tenth of a step, which zeroes those blocks anew.
  if (config.model.quantize != Quantization::none && files->bytes() >= kLargeModel) give_large_blocks_back();
  release_freed_memory();  // of weights that were joined, widened or left to their file
}

Session Session::start(const Config& given, const Registries& registries, const Accept& accept) {
  Session session(RunConfig::read(given, registries));
  head_rates(session.config);  // a contradiction is said before anything is loaded
  session.load_model_files(registries.families, accept);
  if (session.plan_.in_files) session.task().use_classes(classes_in(*session.files, registries.families));
  if (const fs::path& path = session.config.adapter.path; is_peft_folder(path))
    if (const auto labels = peft_labels(path); !labels.empty()) session.task().use_classes(labels);
  session.load_training_rows();
  if (!session.task().tensor_inputs().empty()) {
    ArchiveInterface& interface = session.config.model.interface;
    interface.tensors = session.task().tensor_inputs();
    interface.tensors = with_dtypes(archive_of(*session.files, "rows of tensors"), interface);
    session.task().set_tensor_inputs(interface.tensors);
  }
  session.train.examples = encode_rows(session.task(), session.tokenizer.get(), session.train.rows, "data.train", true,
                                       &session.train.truncated);
  session.build(registries, true);
  return session;
}

Session Session::untrained(const Config& given, const Registries& registries, const OrderedJsonFile& state) {
  Session session(RunConfig::read(given, registries));
  session.load_model_files(registries.families);
  session.task().restore(state);
  const auto lacks = [&](const auto&... what) {
    fail("model ", session.files->file().string(), ": task ", session.task().name(), " needs a trained head, but ",
         what..., "; train one with deeplora finetune");
  };
  if (session.task().takes_class_head() && !session.plan_.in_files) lacks("its files hold none");
  session.build(registries, false);
  for (const auto& [name, unused] : session.files->started()) lacks("its files lack ", name);
  return session;
}

Session Session::of_run(const RunFolder& folder, const Registries& registries, const RunUse& use) {
  Config saved = Config::load(folder.config_file());
  check(!saved.has("completion"), folder.path().string(), " is a run of ratings or matrices: deeplora complete --run ",
        folder.path().string(), " --predict (or --top) uses it");
  const SavedTask saved_task =
      SavedTask::parse(folder.task_file().string(), read_file(folder.task_file(), "task of the run"));
  const RunPlaces places = read_places(folder.path());
  if (!use.model.empty()) set_path(saved, "model.path", use.model);
  for (const auto& assignment : use.overrides) saved.set(assignment);
  find_moved_files(saved, places, RunPlaces::First::remembered, saved_task.fingerprint);
  Session session(RunConfig::read(saved, registries));
  const fs::path& model = session.config.model.path;
  if (use.model.empty())
    check_is_there(places, {"model.path", model}, folder.path(), "say with --model PATH where it lies now");
  if (!session.config.model.tokenizer.empty())
    check_is_there(places, {"model.tokenizer", session.config.model.tokenizer}, folder.path(),
                   "put the tokenizer files back");
  session.load_model_files(registries.families, [&](const ModelFiles& files) {
    check_recognised(folder.path(), saved_task.fingerprint, model, files);
  });
  session.known_split = saved_task.split;
  session.task().restore(saved_task.state);
  session.config.model.interface.tensors = session.task().tensor_inputs();
  session.build(registries, false);
  const fs::path file = use.last ? folder.last_adapter_file() : folder.adapter_file();
  check(fs::exists(file), "run ", folder.path().string(), " holds no ", file.filename().string(),
        " yet; let it finish with: deeplora finetune --run ", folder.path().string(), " --resume");
  session.load_adapter(file);
  if (session.task().needs_reference())
    session.reference = ReferenceValues::read(folder.path(), session.files->fingerprint());
  return session;
}

EvaluationOptions Session::evaluation() const { return {config.train.eval_batch_size, device, in_bfloat16()}; }

bool Session::in_bfloat16() const {
  const std::string& precision = config.model.precision;
  return precision == "bfloat16-always" || (precision == "bfloat16" && (!device.is_cpu() || has_fast_bfloat16()));
}

std::map<std::string, std::string> Session::adapter_metadata() const {
  std::map<std::string, std::string> out{{"format", "pt"},
                                         {"deeplora", kVersion},
                                         {"method", config.adapter.method},
                                         {"task", config.data.task},
                                         {"base_fingerprint", files->fingerprint()}};
  if (config.model.quantize != Quantization::none) out["quantize"] = to_string(config.model.quantize);
  return out;
}

void Session::save_adapter(const fs::path& file) const {
  files->check_untouched();
  save_tensors(file, adapted->state(), adapter_metadata());
}

std::vector<NamedTensor> Session::put_base_back() const {
  if (!base_replaced_) return {};
  const torch::NoGradGuard no_grad;
  const auto original = open_model_files(config.model.path, device);  // this session's files share the trained memory
  std::vector<NamedTensor> before;
  for (auto [name, value] : adapted->trained_base()) {
    before.push_back({name, value.detach().clone()});
    value.copy_(original->tensor(name));
  }
  return before;
}

void Session::as_loaded(const std::function<void()>& use) const {
  adapted->detach();
  const std::vector<NamedTensor> before = put_base_back();
  use();
  const torch::NoGradGuard no_grad;
  for (size_t i = 0; i < before.size(); ++i) {
    torch::Tensor value = adapted->trained_base()[i].value;
    value.copy_(before[i].value);
  }
  adapted->attach();
}

/// Says where an adapter was trained on weights that were kept in another way than `now`; nobody knows where its file
/// does not say: a PEFT folder may come from elsewhere.
static void warn_of_other_weights(const fs::path& adapter, const std::map<std::string, std::string>& metadata,
                                  Quantization now) {
  const auto found = metadata.find("quantize");
  if (found == metadata.end() && is_peft_folder(adapter)) return;
  const std::string before = found == metadata.end() ? to_string(Quantization::none) : found->second;
  if (before != to_string(now))
    log_warning("adapter ", adapter.string(), " was trained on weights with quantize: ", before,
                ", and stands on weights with quantize: ", to_string(now), " now, which is another model");
}

void Session::load_adapter(const fs::path& file) {
  base_replaced_ = !adapted->trained_base().empty();
  if (is_peft_folder(file)) {
    adapted->load_state(load_peft_state(file, *files, *adapted), file.string());
    const fs::path weights = file / "adapter_model.safetensors";
    if (fs::exists(weights))
      warn_of_other_weights(file, SafeTensorsFile::read(weights).metadata(), config.model.quantize);
    return;
  }
  const TensorFile read = load_tensors(file);
  const auto found = read.metadata.find("base_fingerprint");
  check(found != read.metadata.end(), file.string(),
        " was not written by deeplora (no base_fingerprint in its metadata)");
  check(files->is(found->second), file.string(), " belongs to a base model with fingerprint ", found->second, ", but ",
        files->file().string(), " has ", files->fingerprint());
  adapted->load_state(read.tensors, file.string());
  warn_of_other_weights(file, read.metadata, config.model.quantize);
}

nlohmann::ordered_json Session::task_state() const {
  nlohmann::ordered_json out{{"task", config.data.task},
                             {"state", config.task->state()},
                             {"fingerprint", files->fingerprint()},
                             {"columns", config.task->columns(true)}};
  if (!split_fingerprint.empty()) out["split"] = split_fingerprint;
  return out;
}

}  // namespace deeplora
