#include "run_config.h"

#include <algorithm>
#include <tuple>

#include "adapters/pair_options.h"
#include "adapters/registration.h"
#include "interchange/peft.h"
#include "models/registration.h"
#include "tasks/registration.h"
#include "text/encoding.h"

namespace deeplora {

Registries make_registries() {
  Registries out;
  register_adapter_methods(out.methods);
  register_model_families(out.families);
  register_tasks(out.tasks);
  return out;
}

/// model.inputs.INPUT: a name, or {name, dtype, layout}.
void read_input(const Config& inputs, const std::string& input, bool of_rows, ArchiveInterface& out) {
  std::string argument = input;
  if (inputs.has(input + ".name") || inputs.has(input + ".dtype") || inputs.has(input + ".layout")) {
    const Config form = inputs.section(input);
    std::string dtype = of_rows ? "auto" : "int64", layout = "batch-first";
    std::vector<std::string> dtypes{"int32", "int64", "bool", "float"};
    if (of_rows) dtypes.insert(dtypes.begin(), "auto");
    form.read("name", argument, "name of this input in the model's forward");
    form.read_choice("dtype", dtype, dtypes, "what its numbers are there");
    form.read_choice("layout", layout, {"batch-first", "time-first"}, "[B, T] or [T, B]");
    const bool usual = dtype == "auto" || (dtype == "int64" && !of_rows);
    const InputForm wanted{usual ? std::nullopt : std::optional(input_dtypes().at(dtype)), layout == "time-first"};
    if (!(wanted == InputForm{})) out.forms[input] = wanted;
  } else {
    inputs.read(input, argument,
                "name of this input in the model's forward; or {name, dtype: int32, int64, bool or float, layout: "
                "batch-first or time-first}");
  }
  if (argument != input || of_rows) out.inputs[input] = argument;
}

void read_inputs(const Config& inputs, ArchiveInterface& out) {
  const auto& known = known_inputs();
  for (const auto& input : known) read_input(inputs, input, false, out);
  for (const auto& key : inputs.keys())  // fields of rows
    if (std::find(known.begin(), known.end(), key) == known.end()) read_input(inputs, key, true, out);
}

ModelConfig ModelConfig::read(const Config& model) {
  ModelConfig out;
  model.read("path", out.path, "TorchScript archive (.pt), exported program (.pt2) or Hugging Face folder");
  if (out.path.empty())
    model.mistake(
        "path",
        "expected the path of a TorchScript archive, an exported program or a Hugging Face folder, found nothing");
  model.read_choice("backend", out.backend, {"auto", "native", "graph"},
                    "native: a hand-written family; graph: the archive's own code; auto: native where a family fits");
  model.read("tokenizer", out.tokenizer, "folder or file of tokenizer files; empty: those of the model itself");
  read_inputs(model.section("inputs"), out.interface);
  model.read("output", out.interface.output,
             "part of the model's result: 1, logits, 0.logits; empty: its first tensor");
  model.read_choice("pooling", out.pooling, {"auto", "mean", "cls", "max", "last"},
                    "how an encoder's tokens become one vector; auto: as the model's own pooling file says, else mean");
  model.read(
      "normalize", out.normalize,
      "a new linear head reads pooled states of length 1, as behind a Normalize module of sentence-transformers");
  model.read("dropout", out.dropout, "replaces every dropout probability of the model; absent: as the model says");
  model.require(!out.dropout || (*out.dropout >= 0 && *out.dropout < 1), "dropout", "a number from 0 to below 1");
  model.read("device", out.device, "cpu, cuda or cuda:N");
  try {
    const torch::Device device(out.device);
  } catch (const c10::Error&) {
    model.mistake("device", cat("expected cpu, cuda or cuda:N, found '", out.device, "'"));
  }
  model.read_choice("precision", out.precision, {"float32", "bfloat16", "bfloat16-always"},
                    "bfloat16: matrix products in bfloat16 by autocast, on processors without bfloat16 matrix units in "
                    "float32; factors stay float32");
  std::string bits = "none";
  model.read_choice(
      "quantize", bits, quantization_names(),
      "int8, nf4: the frozen matrices of linear layers in 8 or 4 bits, as bitsandbytes has them, in native "
      "families on the CPU; heads, tables and norms stay as they are");
  out.quantize = parse_quantization(bits);
  model.read_choice("deterministic", out.deterministic, {"auto", "yes", "no"},
                    "only operators whose sums have a fixed order, for the same bits in every run; auto: yes on the "
                    "CPU, no on CUDA, where they cost time");
  return out;
}

DataConfig DataConfig::read(const Config& data, const Tasks& tasks) {
  DataConfig out;
  data.read("task", out.task, cat("one of ", join(tasks.names(), ", ", tasks.names().size())));
  if (!tasks.find(out.task)) {
    const auto names = tasks.names();
    data.mistake("task", cat("expected one of ", join(names), ", found ",
                             out.task.empty() ? "nothing" : "'" + out.task + "'", did_you_mean(out.task, names)));
    for (const auto& key : data.keys()) data.ignore(key);  // which of them the task has is not known
  }
  data.read("train", out.train, "training rows");
  data.read("dev", out.dev, "rows that choose the best checkpoint");
  data.read("test", out.test, "rows that are scored once, at the end");
  data.read_choice("format", out.format, {"auto", "jsonl", "json", "tsv", "csv", "conll", "text"},
                   "auto: by the file's extension, else by its content; json: one list of rows; conll: words in "
                   "columns, an empty line between sentences");
  data.read_choice("header", out.header, {"auto", "true", "false", "yes", "no"},
                   "whether TSV and CSV files begin with column names; auto: when a wanted name is there");
  data.read("separator", out.separator,
            "between the columns of TSV and CSV: auto (by content), comma, semicolon, tab, pipe or a character");
  data.read_choice(
      "quoting", out.quoting, {"auto", "none", "double"},
      "of TSV and CSV: double: fields in \"\" as in RFC 4180; auto: CSV, and TSV whose quotes balance in every row");
  data.read_choice("encoding", out.encoding, encoding_names(), "of data files; a byte order mark goes before it");
  data.read_choice("bad_rows", out.bad_rows, {"error", "skip"},
                   "rows that cannot be read or used: stop, or leave them out (counted and named)");
  data.read("bad_rows_share", out.bad_rows_share,
            "largest share of a file's rows that data.bad_rows: skip may leave out");
  data.require(out.bad_rows_share >= 0 && out.bad_rows_share < 1, "bad_rows_share", "a number from 0 to below 1");
  data.read("samples", out.samples, "draw this many training rows by train.seed; absent: all");
  data.require(!out.samples || *out.samples >= 1, "samples", "a whole number from 1");
  data.read(
      "dev_share", out.dev_share,
      "share of the training file's rows that is drawn as dev; absent: 0.1 where neither dev nor a share is given");
  data.read("test_share", out.test_share, "share of the training file's rows that is drawn as test");
  data.read("split_seed", out.split_seed, "decides which rows are drawn; absent: train.seed");
  for (const auto& [key, share, file] :
       {std::tuple("dev", &out.dev_share, &out.dev), std::tuple("test", &out.test_share, &out.test)}) {
    data.require(!*share || (**share >= 0 && **share <= 0.5), cat(key, "_share"), "a number from 0 to 0.5");
    if (share->value_or(0) > 0 && !file->empty())
      data.mistake(cat(key, "_share"), cat("is given beside ", data.where(key), "; take one of them out"));
  }
  data.require(!out.split_seed || *out.split_seed >= 0, "split_seed", "a whole number from 0");
  return out;
}

TableOptions DataConfig::table_options() const {
  TableOptions out;
  out.format = format;
  out.header = header;
  out.separator = separator;
  out.quoting = quoting;
  out.encoding = encoding;
  out.bad_rows = bad_rows;
  out.bad_rows_share = bad_rows_share;
  return out;
}

AdapterConfig AdapterConfig::read(const Config& adapter, const AdapterMethods& methods) {
  AdapterConfig out;
  adapter.read("method", out.method, cat("one of ", join(methods.names())));
  const AdapterMethod* method = methods.find(out.method);
  if (!method) {
    adapter.mistake("method", cat("expected one of ", join(methods.names()), ", found '", out.method, "'",
                                  did_you_mean(out.method, methods.names())));
    return out;
  }
  out.trains = method->trains;
  out.uses_weights = method->uses_weights;
  out.default_lr = method->default_lr;
  if (method->trains == AdapterMethod::Trains::adapters) {
    adapter.read("targets", out.targets,
                 "which weights: all-linear, query-value, attention-mlp, all-dense, dense-or-linear, all-weights, "
                 "roles, path globs, re:REGEX");
    adapter.read_choice(
        "fused_layout", out.fused_layout, {"auto", "blocks", "per-head"},
        "rows of fused query-key-value weights, for targets that take some of them; auto: by config.json's model_type");
    adapter.read("path", out.path, "start from these factors: an adapter.safetensors or a PEFT folder");
    adapter.read(
        "train_also", out.train_also,
        "weights of the model that are trained themselves beside the adapters: globs over their names, e.g. '*.bias'");
  }
  out.factory = method->configure(adapter);
  const auto options = adapter.options();
  if (std::any_of(options.begin(), options.end(),
                  [](const ConfigOption& option) { return option.path == "adapter.ranks"; })) {
    const SiteValues own = read_site_values(adapter);
    for (const auto& values : {own.ranks, own.alphas})
      for (const auto& value : values) out.own_values.push_back(value.pattern);
  }
  return out;
}

HeadConfig HeadConfig::read(const Config& head) {
  HeadConfig out;
  head.read_choice("type", out.type, {"auto", "linear", "huggingface"},
                   "linear: a new linear layer on pooled states; huggingface: the family's own head of transformers; "
                   "auto: that where the family has one and no pooling is asked for");
  head.read("train", out.train, "train the head; false freezes it at its start");
  head.read("dropout", out.dropout, "dropout before a new linear head; one of type huggingface has its family's");
  head.require(out.dropout >= 0 && out.dropout < 1, "dropout", "a number from 0 to below 1");
  return out;
}

ReportConfig ReportConfig::read(const Config& report) {
  ReportConfig out;
  report.read("title", out.title, "heading of report.html; empty: the method and the task");
  return out;
}

/// train.contrastive: what cannot be beside it, and what follows from it: the head is fitted, so nothing trains it.
void read_contrastive(const Config& config, RunConfig& run) {
  if (!run.train.contrastive) return;
  const Config train = config.section("train"), data = config.section("data");
  if (run.task && !run.task->classifies())
    train.mistake("contrastive", cat("is for tasks that tell classes apart, not for ", run.data.task));
  if (run.head.type == "huggingface")
    config.section("head").mistake("type", "expected linear, as train.contrastive fits a linear head");
  if (data.has("class_weights") && data.text_at("class_weights") != "none")
    data.mistake("class_weights", "have no place in train.contrastive, whose head counts every row the same");
  run.head.train = false;
  if (run.adapter.trains == AdapterMethod::Trains::head_only) run.train.steps = 0;  // there is nothing to tune
}

/// Records a mistake where model.quantize meets what it has no form for.
void check_quantize(const Config& model, const RunConfig& run, const AdapterMethods& methods) {
  if (run.model.quantize == Quantization::none) return;
  std::vector<std::string> possible;  // those that only add to a layer
  for (const auto& name : methods.names())
    if (methods.at(name).uses_weights.empty() && methods.at(name).trains == AdapterMethod::Trains::adapters)
      possible.push_back(name);
  const std::string& name = to_string(run.model.quantize);
  if (!run.adapter.uses_weights.empty())
    model.mistake("quantize",
                  cat(name, " keeps the weights in fewer bits, but adapter.method: ", run.adapter.method, " ",
                      run.adapter.uses_weights, "; take one of ", join(possible, ", "), ", or quantize: none"));
  if (run.model.device != "cpu") model.mistake("quantize", cat(name, " is for device: cpu, found ", run.model.device));
}

RunConfig RunConfig::read(const Config& given, const Registries& registries) {
  Config config = given;
  adopt_peft_settings(config);  // a PEFT folder in adapter.path brings its own rank, alpha and targets
  RunConfig out;
  out.model = ModelConfig::read(config.section("model"));
  out.data = DataConfig::read(config.section("data"), registries.tasks);
  if (const TaskFactory* factory = registries.tasks.find(out.data.task)) out.task = (*factory)(config.section("data"));
  out.adapter = AdapterConfig::read(config.section("adapter"), registries.methods);
  out.head = HeadConfig::read(config.section("head"));
  out.train = TrainConfig::read(config.section("train"));
  out.report = ReportConfig::read(config.section("report"));
  if (!out.train.lr) {
    const bool head_only = out.adapter.trains == AdapterMethod::Trains::head_only;
    out.train.lr =
        head_only ? out.train.head_lr.value_or(out.adapter.default_lr)
                  : out.adapter.default_lr;  // recorded, so that the resolved configuration says which one was used
    if (!out.train.search_lr)
      config.section("train").read(
          "lr", out.train.lr, "peak learning rate; auto: short trials choose it on dev; absent: the method's default");
  }
  read_contrastive(config, out);
  check_quantize(config.section("model"), out, registries.methods);
  config.finish();
  out.resolved = config.dump();
  return out;
}

void check_device(const ModelConfig& model) {
  check(!torch::Device(model.device).is_cuda() || torch::cuda::is_available(), "model.device: ", model.device,
        ": this LibTorch sees no CUDA device; use cpu");
}

HeadRates head_rates(const RunConfig& run) { return head_rates_at(run, run.train.lr.value()); }

HeadRates head_rates_at(const RunConfig& run, double lr) {
  constexpr double kMadeHead = 5e-3;
  if (run.adapter.trains == AdapterMethod::Trains::head_only) {
    check(!run.train.head_lr || *run.train.head_lr == lr, "train.lr is ", lr, " and train.head_lr ",
          run.train.head_lr.value_or(lr),
          ", but adapter.method: none trains nothing but the head; give train.lr alone");
    return {lr, lr};
  }
  return {run.train.head_lr.value_or(kMadeHead), run.train.head_lr.value_or(lr)};
}

std::vector<std::string> data_overrides(const std::vector<std::string>& assignments) {
  for (const auto& assignment : assignments)
    check(assignment.starts_with("data.") && !assignment.starts_with("data.task"), "--set ", assignment,
          ": only keys of the data section can change after training, e.g. data.generation.beams=4");
  return assignments;
}

}  // namespace deeplora
