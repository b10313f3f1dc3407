#include <torch/version.h>

#include <chrono>
#include <fstream>
#include <iostream>
#include <map>
#include <set>

#include "commands.h"
#include "core/fingerprint.h"
#include "core/log.h"
#include "core/process_group.h"
#include "core/system.h"
#include "data_findings.h"
#include "deeplora_version.h"
#include "figure_files.h"
#include "finetune_report.h"
#include "moved_files.h"
#include "guess_task.h"
#include "rate_search.h"
#include "run_options.h"
#include "session.h"
#include "tasks/contrastive.h"
#include "tasks/task_state.h"
#include "text_table.h"
#include "train/checkpoint.h"
#include "train/distributed.h"
#include "usage_hints.h"

namespace deeplora {
namespace {
namespace fs = std::filesystem;

struct FinetuneOptions : RunOptions {
  bool dry_run = false, restart_refused = false;
};

void announce(const Session& s) {
  log_info("model: ", s.config.model.path.string(), " (", s.model().family(), ", ", s.files->parameter_count(),
           " parameters", s.files->holds_code() ? cat("; equals the archive to ", s.parity_difference) : std::string(),
           ")");
  log_info("data: ", s.train.rows.size(), " of ", s.train_rows_in_file, " training rows; task ", s.config.data.task);
  log_info("adapter: ", s.config.adapter.method, " at ", s.adapted->adapters().size(), " weights; ",
           s.adapted->trainable_parameters(), " trained parameters");
  if (s.config.model.precision == "bfloat16" && !s.in_bfloat16())
    log_info(
        "precision: float32, since this processor has no products of bfloat16 (AMX, AVX512_BF16) and would be slower; "
        "model.precision: bfloat16-always insists");
}

/// What can only be known with the data in hand, said before any training.
void announce_data(const Session& s, const LoadedData& dev, const LoadedData& test) {
  const DataConfig& data = s.config.data;
  if (data.draws_unasked() && !dev.rows.empty())
    log_info(
        "dev: no dev rows are named, so a tenth of data.train is drawn (data.dev_share: 0.1; 0 trains on all rows and "
        "gives no dev score)");
  else if (dev.rows.empty())
    log_warning("no dev rows", data.draws_unasked() ? " (too few rows to draw some)" : "",
                ": there will be no dev score, and the last state is kept; name data.dev or set data.dev_share");
  for (const auto& finding : data_findings(s.task(), s.train.rows, dev.rows, test.rows)) log_warning(finding);
}

/// The processes that train together, all of them there; null for a process alone. Rank 0 speaks.
std::unique_ptr<ProcessGroup> meet_others(Config& config, const Registries& registries) {
  const Launch launch = launch_from_environment();
  if (!launch.several()) return nullptr;
  if (!launch.leads()) set_log_level(LogLevel::warning);
  const RunConfig run = RunConfig::read(config.copy(), registries);
  check_device(run.model);
  if (run.model.device == "cuda" && launch.local_rank > 0) config.set(cat("model.device=cuda:", launch.local_rank));
  log_info("waiting for ", launch.size - 1, " other processes at ", launch.master, ":", launch.port);
  const std::chrono::milliseconds timeout(static_cast<int64_t>(run.train.distributed_timeout * 1000));
  auto group = std::make_unique<ProcessGroup>(launch, timeout, torch::Device(run.model.device));
  log_info("processes: ", launch.size, " over ", group->backend(), "; train.batch_size is of all together");
  return group;
}

/// The adapter and head of rank 0 in every process: whatever they start from, they start from the same.
void share_state(const Session& s, ProcessGroup& group) {
  std::vector<torch::Tensor> tensors;
  for (const auto& [name, value] : s.adapted->state()) tensors.push_back(value);
  group.broadcast(tensors);
}

/// What the best adapter makes of the test rows, without them of the dev rows (not of a language model's: that takes a
/// whole pass, and says nothing new), after what is chosen on dev is chosen (`decided`: the dev scores with it); the
/// model is left with the best adapter.
ScoredRows score_best(Session& s, const RunFolder& folder, const LoadedData& dev, const LoadedData& test,
                      ProcessGroup* group, std::optional<Scores>& decided) {
  if (!group || group->leads()) {
    s.save_adapter(folder.last_adapter_file());
    s.load_adapter(folder.adapter_file());
  }
  if (group) share_state(s, *group);
  EvaluationOptions options = s.evaluation();
  options.group = group;
  decided = s.task().choose_on_dev(s.model(), dev.examples, options);
  const bool on_dev = test.examples.empty() && s.task().outputs() > 0;
  const LoadedData& rows = on_dev ? dev : test;
  if (rows.examples.empty()) return {};
  options.final = true;
  return {on_dev ? "dev" : "test", s.task().assess(s.model(), rows.examples, options)};
}

/// What the model says to the first test rows before it is trained, where the page shows what it says after.
std::vector<std::string> texts_before(const Session& s, const LoadedData& test, ProcessGroup* group) {
  EvaluationOptions options = s.evaluation();
  options.group = group;
  options.final = true;
  if (test.examples.empty() || s.config.train.steps == int64_t{0} || !s.task().generates(options)) return {};
  const torch::NoGradGuard no_grad;
  s.model().eval();
  const std::span<const Example> shown(test.examples.data(), std::min(kShownTexts, test.examples.size()));
  std::vector<std::string> out;
  for (const auto& said : s.task().predict(s.model(), shown, options)) out.push_back(said.value("text", std::string()));
  return out;
}

nlohmann::ordered_json result_json(const Session& s, const TrainResult& result, const ScoredRows& scored,
                                   const LoadedData& dev, const LoadedData& test_data) {
  const Scores* test = scored.split == "test" ? &scored.found.scores : nullptr;
  nlohmann::ordered_json out;
  out["task"] = s.config.data.task;
  out["method"] = s.config.adapter.method;
  const auto evaluation = [](const std::optional<TrainResult::Evaluation>& e) {
    nlohmann::ordered_json json = nlohmann::ordered_json::object();
    if (!e) return json;
    json = e->scores.json();
    json["step"] = e->step;
    return json;
  };
  out["best"] = evaluation(result.best);
  out["last"] = evaluation(result.last);
  out["test"] = test ? test->json() : nlohmann::ordered_json::object();
  if (const Scores* scores = test ? test : result.last ? &result.last->scores : nullptr) {
    out["metric"] = scores->headline_name();
    out["higher_is_better"] = scores->higher_is_better;
  }
  if (!scored.found.details.empty()) {
    out["labels_of"] = scored.split;
    out.update(scored.found.details);
  }
  out["trainable_parameters"] = s.adapted->trainable_parameters();
  out["total_parameters"] = s.files->parameter_count();
  out["adapted_weights"] = s.adapted->adapters().size();
  out["steps"] = result.steps;
  out["stopped_early"] = result.stopped_early;
  out["seconds"] = result.seconds;
  out["samples_per_second"] = result.samples_per_second;
  out["seconds_to_first_step"] = result.seconds_to_first_step;
  out["peak_rss_mb"] = peak_memory_mb();
  out["model_bytes"] = s.adapted->model_bytes();
  out["family"] = s.model().family();
  out["parity_difference"] = s.parity_difference;
  out["rows"] = {{"train", s.train.rows.size()},
                 {"train_file", s.train_rows_in_file},
                 {"dev", dev.rows.size()},
                 {"test", test_data.rows.size()}};
  out["truncated"] = {{"train", s.train.truncated}, {"dev", dev.truncated}, {"test", test_data.truncated}};
  out["deeplora"] = kVersion;
  out["libtorch"] = TORCH_VERSION;
  return out;
}

/// Keys that may change when a run goes on. All others decide its course or its scores: a new key is refused until it
/// is named here.
const std::set<std::string>& free_keys() {
  static const std::set<std::string> keys = {
      "model.device",                      // the trainer compares its kind
      "train.steps",      "train.epochs",  // the trainer compares the steps that come of them
      "report.title",     "train.threads",          "train.eval_batch_size",        "train.log_every",
      "train.save_every", "train.keep_checkpoints", "train.gradient_checkpointing", "train.distributed_timeout"};
  return keys;
}

std::string checksum_of(const Session& s, bool frozen_only) {
  Fingerprint print;
  for (const auto& [name, value] : s.adapted->state()) {
    if (frozen_only && value.requires_grad()) continue;
    const torch::Tensor bytes = value.detach().to(torch::kCPU).contiguous();
    print.add(std::string_view(name));
    print.add(bytes.const_data_ptr(), bytes.nbytes());
  }
  return print.hex();
}

/// What decides the course of the run and what the trainer does not know of. Files may move: what is in them counts.
/// Made before the first step, while the factors are where they start.
nlohmann::ordered_json identity_of(const Session& s) {
  nlohmann::ordered_json out = {{"weights of the model", s.files->fingerprint()}};
  for (const auto& [key, value] : settings_of(s.config.resolved))
    if (free_keys().count(key) == 0 && !names_a_file(key)) out[key] = value;  // of a file, what is in it counts
  if (!s.config.adapter.path.empty()) out["factors to start from (adapter.path)"] = checksum_of(s, false);
  out["frozen factors (they depend on train.threads)"] = checksum_of(s, true);
  return out;
}

void print_summary(const nlohmann::ordered_json& result, const RunFolder& folder,
                   const std::vector<std::string>& next) {
  const auto line = [](const char* name, const nlohmann::ordered_json& scores) {
    if (scores.empty()) return;
    std::cout << name;
    for (const auto& item : scores.items())
      if (item.key() != "step") std::cout << "  " << item.key() << " " << score_text(item.value());
    if (scores.contains("step")) std::cout << "  (step " << scores["step"] << ")";
    std::cout << "\n";
  };
  line("best dev ", result["best"]);
  line("test     ", result["test"]);
  std::cout << "run      " << folder.path().string() << "\nreport   " << folder.report_file().string() << "\n";
  for (size_t i = 0; i < next.size(); ++i) std::cout << (i == 0 ? "next     " : "         ") << next[i] << "\n";
}

/// Of the model that the run was trained on; empty where the run was killed before it said so.
std::string fingerprint_of_run(const fs::path& run) {
  const fs::path file = RunFolder::of_another(run).task_file();
  std::error_code ignored;
  return fs::exists(file, ignored) ? SavedTask::parse(file.string(), read_file(file, "task of the run")).fingerprint
                                   : "";
}

/// What --model names; empty where it was not given.
std::string given_model(const FinetuneOptions& o) {
  for (auto flag = o.flags.rbegin(); flag != o.flags.rend(); ++flag)
    if (flag->first == "model.path") return flag->second;
  return {};
}

/// The configuration as the command line gives it; of a run that goes on, with its files where they lie now.
Config configuration_of(const FinetuneOptions& o) {
  Config config = given_config(o);
  if (!o.resume) return config;
  const fs::path run = run_folder_of(o);
  const RunPlaces places = read_places(run);
  find_moved_files(config, places, o.config.empty() ? RunPlaces::First::remembered : RunPlaces::First::as_named,
                   fingerprint_of_run(run));
  for (const auto& file : named_files(config))
    if (o.config.empty())
      check_is_there(places, file, run,
                     file.first == "model.path" ? "say with --model PATH where it lies now"
                                                : cat("--set ", file.first, "=FILE names another place"));
  return config;
}

fs::path rate_search_file(const RunFolder& folder) { return folder.path() / "lr_search.json"; }

/// train.lr: auto: the learning rate goes into the session's configuration. A run that goes on has it from its folder.
std::optional<RateSearch> find_rate(Session& s, const LoadedData& dev, const RunFolder& folder, bool resume,
                                    const ProcessGroup* group, const StopSignal* stop) {
  if (!s.config.train.search_lr || s.config.train.steps == int64_t{0}) return std::nullopt;
  check(!dev.examples.empty(),
        "train.lr: auto chooses on dev rows, and there are none; name data.dev, set data.dev_share, or give train.lr a "
        "number");
  check(group == nullptr, "train.lr: auto is for a process alone; give train.lr a number where several train together");
  const fs::path file = rate_search_file(folder);
  std::error_code ignored;
  RateSearch search =
      resume && fs::exists(file, ignored)
          ? RateSearch::read(OrderedJsonFile::parse(file.string(), read_file(file, "learning rates that were tried")))
          : search_rate(s, dev, stop);
  s.config.train.lr = search.lr;
  return search;
}

/// train.contrastive: the task as the trainer sees it, and the pairs that it trains on.
struct ContrastiveRows {
  Contrastive task;
  std::vector<Example> pairs;

  explicit ContrastiveRows(const Session& s)
      : task(s.task(), s.train.examples, head_of(s), s.evaluation()), pairs(contrastive_pairs(s.train.examples)) {
    log_info("contrastive: ", pairs.size(), " pairs of ", s.train.examples.size(),
             " rows; the head is fitted on their vectors");
  }

 private:
  static ModelWithHead& head_of(const Session& s) {
    check(s.adapted->new_head() != nullptr, "train.contrastive fits a new linear head, but the model ",
          s.files->file().string(), " has one of its own; name the encoder alone");
    return *s.adapted->new_head();
  }
};

/// What the loss compares with, while the model is as its files have it. A run that goes on has it from its folder.
void find_references(Session& s, LoadedData& dev, LoadedData& test, const fs::path& run, ProcessGroup* group,
                     bool resume) {
  if (!s.task().needs_reference()) return;
  if (resume && (!group || group->leads())) s.reference = ReferenceValues::read(run, s.files->fingerprint());
  s.refer("train", s.train, group);
  s.refer("dev", dev, group);
  s.refer("test", test, group);
}

/// What a finished run knows, for its files.
struct Finished {
  const TrainResult& result;
  const LoadedData &dev, &test;
  const ScoredRows& scored;
  const std::optional<Scores>& decided;  ///< dev scores with what dev decided, where a task decides something
  const std::optional<RateSearch>& searched;
  const std::vector<std::string>& said_before;
};

/// result.json, the updates, the report with its figures, and the summary on the terminal.
void write_results(const FinetuneOptions& o, const Session& session, RunFolder& folder, ProcessGroup* group,
                   const Finished& run) {
  if (run.decided)  // with what was chosen
    folder.write(folder.task_file(), session.task_state().dump(2) + "\n");
  const auto sites = describe_sites(session);
  folder.write(folder.updates_file(), updates_json(sites).dump(1) + "\n");
  auto json = result_json(session, run.result, run.scored, run.dev, run.test);  // behind all that takes memory
  if (run.searched) json["lr_search"] = run.searched->json();
  if (run.decided) {
    json["best_decided"] = run.decided->json();
    if (const auto state = session.task().state(); state.contains("threshold")) json["threshold"] = state["threshold"];
  }
  if (group)
    json.update(
        {{"processes", group->size()}, {"backend", group->backend()}, {"bytes_per_step", run.result.bytes_per_step}});
  const auto next = next_commands(session, folder);
  const RunReport report = finetune_report(
      session, sites, json, folder, {run.dev, run.test, run.scored, run.said_before, command_of("finetune", o), next});
  const Page page = run_report(report);
  folder.write(folder.report_file(), page.html());
  folder.write(folder.path() / "curves.csv", curves_csv(report));
  write_figures(folder.path(), page);
  folder.write(folder.result_file(), json.dump(2) + "\n");
  print_summary(json, folder, next);
}

/// A run, or this process's part of one.
void train(const FinetuneOptions& o, const Config& config, const Registries& registries, ProcessGroup* group) {
  const bool leads = !group || group->leads();
  const fs::path path = run_folder_of(o);
  RunFolder folder = !leads ? RunFolder::of_another(path) : o.resume ? RunFolder::open(path) : RunFolder::create(path);
  if (leads && o.resume) folder.lock();  // a new folder is made when nothing can be wrong any more
  StopSignal stop;
  const Session::Accept accept = [&](const ModelFiles& files) {
    const std::string expected = o.resume ? fingerprint_of_run(path) : "";
    if (expected.empty()) return;
    if (given_model(o).empty()) static_cast<void>(files.is(expected));  // the checkpoint says what differs
    else check_recognised(path, expected, files.file(), files);
  };
  Session session = Session::start(config, registries, accept);
  LoadedData dev = session.load_split("dev"), test = session.load_split("test");
  announce(session);
  announce_data(session, dev, test);
  if (group) {
    check_same_run(*group, session.task_state());
    share_state(session, *group);
  }
  find_references(session, dev, test, path, group, o.resume);
  const std::optional<RateSearch> searched = find_rate(session, dev, folder, o.resume, group, &stop);
  const auto describe = [&] {
    if (!leads) return;
    folder.write(folder.config_file(), session.config.resolved);
    folder.write(folder.task_file(), session.task_state().dump(2) + "\n");
    write_places(folder.path(), session.config.resolved);
    session.reference.write(folder.path(), session.files->fingerprint());
    if (searched) folder.write(rate_search_file(folder), searched->json().dump(2) + "\n");
  };
  const std::vector<std::string> said_before = texts_before(session, test, group);
  const double lr = *session.config.train.lr;
  const HeadRates head = head_rates(session.config);
  std::optional<ContrastiveRows> contrastive;
  if (session.config.train.contrastive) contrastive.emplace(session);
  const auto save_adapter = [&](const fs::path& file) {
    if (contrastive) contrastive->task.fit_head();  // of the weights as they are now
    session.save_adapter(file);
  };
  Trainer trainer({.model = session.model(),
                   .task = contrastive ? static_cast<const Task&>(contrastive->task) : session.task(),
                   .groups = session.adapted->param_groups(head.made / lr, head.own / lr),
                   .config = session.config.train,
                   .device = session.device,
                   .bf16 = session.in_bfloat16(),
                   .save_adapter = save_adapter,
                   .stop = &stop,
                   .identity = identity_of(session),
                   .accepted = describe,  // what goes on keeps its files until then
                   .group = group});
  TrainResult result;
  try {
    result = trainer.run(contrastive ? contrastive->pairs : session.train.examples, dev.examples, folder, o.resume);
  } catch (const Diverged& e) {
    if (leads) folder.write(folder.diverged_file(), nlohmann::ordered_json{{"message", e.what()}}.dump(2) + "\n");
    throw;
  }
  std::optional<Scores> decided;
  const ScoredRows scored = score_best(session, folder, dev, test, group, decided);
  if (leads) write_results(o, session, folder, group, {result, dev, test, scored, decided, searched, said_before});
}

/// The run from its start, in an empty folder.
void begin_again(FinetuneOptions o, const Config& config, const Registries& registries) {
  std::error_code failed;
  fs::remove_all(run_folder_of(o), failed);
  check(!failed, "cannot empty the run folder ", run_folder_of(o).string(), ": ", failed.message());
  o.resume = false;
  train(o, config, registries, nullptr);
}

void finetune(const FinetuneOptions& o) {
  const Registries registries = make_registries();
  Config config = configuration_of(o);
  if (!launch_from_environment().leads()) set_log_level(LogLevel::warning);
  complete_task(config, registries);
  if (o.print_config) {
    const RunConfig run = RunConfig::read(config, registries);
    head_rates(run);
    std::cout << run.resolved;
    return;
  }
  if (o.dry_run) {
    Session session = Session::start(config, registries);
    const LoadedData dev = session.load_split("dev"), test = session.load_split("test");
    announce(session);
    return announce_data(session, dev, test);
  }
  const auto group = meet_others(config, registries);
  try {
    try {
      train(o, config, registries, group.get());
    } catch (const CheckpointRefused& e) {
      if (!o.restart_refused || group) throw;
      log_warning(e.what(), "; this run begins again");
      begin_again(o, config, registries);
    }
  } catch (const PeerLost&) {
    throw;
  } catch (const Interrupted&) {
    throw;
  } catch (const std::exception& e) {
    if (group) group->meeting().announce_failure(short_reason(e));
    throw;
  }
}

/// Options that are short for keys, with the keys' own defaults.
void add_key_flags(CLI::App& command, FinetuneOptions& o) {
  const std::map<std::string, const char*> help{
      {"--model",
       "Model: a TorchScript .pt, an exported .pt2 or a Hugging Face folder (with --resume: where it lies now)"},
      {"--train", "Training rows: CSV, TSV, JSON, JSONL or text"},
      {"--dev", "Rows that choose the best checkpoint (default: a tenth of the training rows)"},
      {"--test", "Rows that are scored once, at the end (default: none)"},
      {"--task",
       "classification, regression, multi-label, token-classification, ranking, embedding, causal-lm, preference, "
       "seq2seq or a GLUE name (default: as the training rows' "
       "columns "
       "say)"},
      {"--text", "Column of the text (default: text)"},
      {"--text-pair", "Column of a second text (default: none)"},
      {"--label", "Column of the label (default: label)"},
      {"--method", "none, full, lora, deep-lora, ... (default: lora)"},
      {"--rank", "Rank of the adapters (default: 8)"},
      {"--lr", "Peak learning rate, or auto (default: by method, 0.002 for lora)"},
      {"--steps", "Optimizer steps (default: as --epochs says)"},
      {"--epochs", "Passes over the training rows (default: 3)"},
      {"--seed", "Decides order, new weights, dropout and drawn rows (default: 1)"}};
  for (const auto& [flag, key] : key_flags())
    command.add_option_function<std::string>(
        flag, [&o, key = std::string(key)](const std::string& value) { o.flags.emplace_back(key, value); },
        cat(help.at(flag), " [", key, "]"));
  command.get_option("--steps")->excludes("--epochs");
}

}  // namespace

void setup_finetune(CLI::App& app, Action& action) {
  auto o = std::make_shared<FinetuneOptions>();
  CLI::App* command = app.add_subcommand("finetune", "Trains adapters on a model and writes a run folder");
  command->add_option("CONFIG", o->config,
                      "YAML configuration (default: what the options below say; with --resume the run's own)");
  add_key_flags(*command, *o);
  command->add_option("--set", o->overrides, "Override a key: --set train.lr=1e-3 (may be repeated)")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_option("--run", o->run,
                      "Run folder (default: runs/<configuration name>, or runs/<name of the training file>-<method>)");
  command->add_option_function<std::string>(
      "--title",
      [o](const std::string& title) { o->overrides.push_back("report.title=" + nlohmann::json(title).dump()); },
      "Heading of report.html (report.title)");
  command->add_flag("--resume", o->resume, "Go on from the newest checkpoint of the run folder");
  command->add_flag("--restart-refused", o->restart_refused,
                    "With --resume: begin again when the run's checkpoint was made with other settings or data, "
                    "instead of ending with an error");
  command->add_flag("--print-config", o->print_config, "Print the resolved configuration and stop");
  command->add_flag("--dry-run", o->dry_run,
                    "Check configuration, model and data, build the adapters, train and write nothing");
  command->footer(
      "Example:\n  deeplora finetune --model model.pt --train rows.csv\n"
      "  deeplora finetune configs/sentiment_lora.yaml --lr 1e-3 --run runs/lora");
  command->callback([o, &action] {
    if (o->config.empty() && !o->resume && o->flags.empty())
      throw CLI::RequiredError("--model and --train, or a CONFIG (or --resume with --run)");
    if (o->config.empty() && o->resume && o->run.empty())
      throw CLI::RequiredError("--run (the folder that --resume goes on with), or a CONFIG");
    action = [o] { finetune(*o); };
  });
}

}  // namespace deeplora
