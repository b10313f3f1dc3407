#include <torch/version.h>

#include <algorithm>
#include <iostream>

#include "commands.h"
#include "compare/evidence.h"
#include "compare/page.h"
#include "compare/table.h"
#include "compare_config.h"
#include "compare_run.h"
#include "core/log.h"
#include "core/parallel.h"
#include "deeplora_version.h"
#include "figure_files.h"
#include "moved_files.h"
#include "run_options.h"
#include "text_table.h"

namespace deeplora {
namespace {
namespace fs = std::filesystem;

struct CompareCommand : RunOptions {
  std::string model;
  bool report_only = false;
};

/// Writes every file of the report from the cells that are finished.
void write_reports(const CompareRun& run, const CompareConfig& config) {
  const Comparison& comparison = run.comparison();
  const auto rows = comparison_rows(comparison);
  const fs::path& folder = run.folder();
  ComparePage page;
  page.title = config.options().title.empty() ? "Comparison of fine-tuning methods" : config.options().title;
  page.metric = run.metric();
  page.config_yaml = config.resolved();
  page.facts = {
      {"program", cat("deeplora ", kVersion, " on LibTorch ", TORCH_VERSION)},
      {"machine", cat(usable_cores(), " cores")},
      {"cells at once",
       cat(run.workers(), run.processes() > 1 ? cat(" by each of ", run.processes(), " processes") : std::string())},
      {"threads of a cell", cat(run.threads() > 0 ? run.threads() : default_threads())}};
  page.evidence = read_evidence(rows, comparison, [&](size_t cell) { return run.cell_folder(cell); });
  nlohmann::ordered_json json = comparison_json(rows, comparison, run.metric());
  for (size_t i = 0; i < rows.size(); ++i)
    if (const auto summary = summarize_updates(page.evidence[i]))
      json["rows"][i]["updates"] = {{"mean_rank", summary->rank.mean},
                                    {"lowest_rank", summary->lowest},
                                    {"highest_rank", summary->highest},
                                    {"relative_norm", summary->relative_norm}};
  json["title"] = page.title;
  json["deeplora"] = kVersion;
  json["libtorch"] = TORCH_VERSION;
  json["workers"] = run.workers();
  json["threads"] = run.threads();
  if (run.processes() > 1) json["processes"] = run.processes();
  write_file_atomically(folder / "results.json", json.dump(2) + "\n");
  write_file_atomically(folder / "table.csv", rows_csv(rows, comparison));
  write_file_atomically(folder / "cells.csv", cells_csv(comparison));
  write_file_atomically(folder / "updates.csv", updates_csv(page.evidence, rows, comparison));
  const auto updates = updates_cells(page.evidence, rows, comparison);
  const std::string learned =
      updates.empty() ? ""
                      : cat("## Learned updates\n\nNumerical rank: singular values above 1 % of the largest.\n\n",
                            markdown_table(updates_header(), updates), "\n");
  write_file_atomically(folder / "report.md",
                        comparison_markdown(rows, comparison, page.title, run.metric(), learned, config.resolved()));
  const SplitTable table = without_equal_columns(table_header(run.metric()), table_cells(rows, comparison));
  write_file_atomically(folder / "table.tex", latex_table(table.header, table.rows, page.title));
  write_file_atomically(folder / "curves.csv", learning_curves_csv(page.evidence, rows, comparison));
  const Page whole = comparison_page(page, rows, comparison);
  write_file_atomically(folder / "report.html", whole.html());
  write_figures(folder, whole);
}

void print_summary(const CompareRun& run) {
  const Comparison& comparison = run.comparison();
  const auto rows = comparison_rows(comparison);
  std::vector<std::vector<std::string>> table = {table_header(run.metric())};
  for (auto& row : table_cells(rows, comparison)) table.push_back(std::move(row));
  print_table(std::cout, table);
  std::cout << "\n" << overall_verdict(rows, comparison, run.metric()) << "\n";
  for (const ComparisonRow& row : rows)
    if (row.difference) std::cout << "- " << verdict(row, comparison, run.metric()) << "\n";
  for (const std::string& line : missing_cells(comparison)) std::cout << "- " << line << "\n";
  std::cout << "report   " << (run.folder() / "report.html").string() << "\n";
}

/// Runs what is open and writes the report from all that is finished.
void run_and_report(CompareRun& run, const CompareConfig& config) {
  log_info("compare: ", run.comparison().cells().size(), " cells, ", run.comparison().count(CellState::open),
           " to run, ", run.workers(), " at once");
  for (const std::string& remark : config.options().remarks) log_info(remark);
  try {
    run.run();
  } catch (const Interrupted&) {
    write_reports(run, config);
    throw;
  }
  write_reports(run, config);
  print_summary(run);
  const size_t failed = run.comparison().count(CellState::failed);
  check(failed == 0, failed, " of ", run.comparison().cells().size(), " cells failed (named above; their logs are in ",
        (run.folder() / "cells").string(), "); the same command tries them again");
}

/// This process's part of a comparison that several processes run. Rank 0 checks, begins and reports.
void compare_together(const CompareConfig& config, const Registries& registries, const fs::path& folder,
                      const Launch& launch) {
  const double timeout =
      config.cell_run(Comparison(config.plan()).cells().front(), registries).train.distributed_timeout;
  Rendezvous meeting(launch, std::chrono::milliseconds(static_cast<int64_t>(timeout * 1000)));
  try {
    if (launch.leads()) {
      CompareRun run(config, registries, folder, CompareRun::Purpose::run, &meeting);
      run.check_methods();
      run.open(config.resolved());
      meeting.set("open", "1");
      return run_and_report(run, config);
    }
    meeting.wait("open", "rank 0 to check the methods");
    CompareRun run(config, registries, folder, CompareRun::Purpose::run, &meeting);
    run.open_beside(config.resolved());
    run.run();
  } catch (const PeerLost&) {
    throw;
  } catch (const Error& e) {
    meeting.announce_failure(e.what());
    throw;
  }
}

/// The configuration as the command line gives it, with its files where they lie now. A report needs none of them.
Config comparison_configuration(const CompareCommand& o) {
  const fs::path folder = run_folder_of(o);
  std::error_code ignored;
  check(!o.config.empty() || fs::exists(folder / "compare.yaml", ignored), "run folder ", folder.string(),
        " holds no comparison: it has no compare.yaml");
  Config config = given_config(o, "compare.yaml");
  if (!o.model.empty()) set_path(config, "model.path", o.model);
  if (!o.report_only)
    find_moved_files(config, read_places(folder),
                     o.config.empty() ? RunPlaces::First::remembered : RunPlaces::First::as_named);
  return config;
}

void compare(const CompareCommand& o) {
  const Registries registries = make_registries();
  const CompareConfig config = CompareConfig::read(comparison_configuration(o), registries);
  if (o.print_config) {
    std::cout << config.resolved();
    return;
  }
  const fs::path folder = run_folder_of(o);
  const Launch launch = launch_from_environment();
  if (launch.several() && !o.report_only) return compare_together(config, registries, folder, launch);
  CompareRun run(config, registries, folder, o.report_only ? CompareRun::Purpose::report : CompareRun::Purpose::run);
  if (o.report_only) {
    std::error_code ignored;
    check(fs::exists(folder / "compare.yaml", ignored), "run folder ", folder.string(),
          " holds no comparison yet; run it without --report-only");
    run.open(config.resolved());
    write_reports(run, config);
    return print_summary(run);
  }
  run.check_methods();
  run.open(config.resolved());
  run_and_report(run, config);
}

}  // namespace

void setup_compare(CLI::App& app, Action& action) {
  auto o = std::make_shared<CompareCommand>();
  CLI::App* command =
      app.add_subcommand("compare", "Compares methods over learning rates, ranks, numbers of training rows and seeds");
  command->add_option("CONFIG", o->config,
                      "YAML configuration with a `compare` section (with --run: the folder's own when left out)");
  command->add_option("--set", o->overrides, "Override a key: --set compare.seeds=[1,2,3] (may be repeated)")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_option(
      "--run", o->run,
      "Folder of the comparison (default: runs/<configuration name>); finished cells there are not repeated");
  command->add_option("--model", o->model,
                      "The model: short for --set model.path=PATH; of a comparison that goes on, where it lies now");
  command->add_flag("--print-config", o->print_config, "Print the configuration with every default and stop");
  command->add_flag("--report-only", o->report_only,
                    "Write the report from the cells that are finished and stop; needs nothing but the folder");
  command->footer(
      "Example:\n  deeplora compare configs/compare/quickstart.yaml --set model.path=minilm.pt --run runs/compare\n"
      "Interrupted or killed: the same command goes on where it stopped.");
  command->callback([o, &action] {
    if (o->config.empty() && o->run.empty()) throw CLI::RequiredError("CONFIG (or --run of a comparison that goes on)");
    action = [o] { compare(*o); };
  });
}

}  // namespace deeplora
