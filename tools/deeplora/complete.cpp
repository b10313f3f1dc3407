#include <algorithm>
#include <iostream>
#include <map>

#include "commands.h"
#include "complete_ratings.h"
#include "completion/config.h"
#include "completion_identity.h"
#include "completion_report.h"
#include "completion_sweep.h"
#include "core/files.h"
#include "core/json_file.h"
#include "core/log.h"
#include "core/system.h"
#include "figure_files.h"
#include "kept_fits.h"
#include "run_options.h"
#include "synthetic_run.h"

namespace deeplora {
namespace {
namespace fs = std::filesystem;

struct CompleteOptions : RunOptions {
  RatingsUse use;
};

/// One configuration, read and checked.
struct Resolved {
  CompletionConfig completion;
  std::optional<RatingsConfig> ratings;  ///< in place of a synthetic target
  CompletionSweep sweep;
  std::string yaml;   ///< of the run itself, without sweep
  std::string whole;  ///< with it
  nlohmann::ordered_json identity;
};

Resolved resolve(const Config& config) {
  const Config section = config.section("completion");
  Resolved out;
  out.completion = CompletionConfig::read(section);
  out.ratings = read_ratings_config(section, out.completion);
  if (!out.ratings && !out.completion.synthetic.given())
    section.mistake("train",
                    "expected a file of ratings, or the size of a synthetic target; the smallest: completion: {train: "
                    "ratings.csv} or "
                    "completion: {synthetic: {rows: 100}}");
  section.require(!out.ratings || !out.completion.synthetic.given(), "synthetic.rows",
                  "nothing when completion.train names a file");
  out.yaml = config.dump();
  out.identity = deciding_settings(out.yaml, free_of_synthetic_runs());
  out.sweep = CompletionSweep::read(section);
  config.finish();
  out.whole = config.dump();
  return out;
}

void print_completion(const nlohmann::ordered_json& result, const RunFolder& folder) {
  if (result.contains("recovery_error"))
    std::cout << "recovery error  " << result["recovery_error"] << "\niterations      " << result["iterations"] << " ("
              << result["stopped"].get<std::string>() << ")\nseconds         " << result["seconds"] << "\n";
  std::cout << "run             " << folder.path().string() << "\nreport          " << folder.report_file().string()
            << "\n";
}

fs::path member_folder(const RunFolder& folder, const std::string& name) {
  return folder.path() / "runs" / file_name_of(name);
}

/// The result of a finished member, with everything that the whole sweep reads of it.
nlohmann::ordered_json finished_result(const RunFolder& folder) {
  const auto result = OrderedJsonFile::parse(folder.result_file().string(), read_file(folder.result_file()));
  try {
    for (const char* key : {"seconds", "training_seconds"}) result.at<double>(key);
    result.at<int64_t>("iterations");
    for (const char* key : {"recovery_error", "seconds_per_iteration"}) json_member(result.root, key, result.name);
  } catch (const Error& e) {
    fail(e.what(), "; remove the folder ", folder.path().string(), " to run that part again");
  }
  return result.root;
}

/// Whether a finished member would go on under these settings.
bool goes_on(const RunFolder& folder, const Resolved& resolved) {
  const auto course = [](const std::string& yaml) {
    std::vector<std::string> out;
    for (const auto& [path, value] : settings_of(yaml))
      if (path == "completion.steps" || path == "completion.tolerance") out.push_back(value);
    return out;
  };
  return course(read_file(folder.config_file())) != course(resolved.yaml);
}

/// Runs or resumes a member; a finished one is read. One whose numbers leave the finite ones is kept as a failure;
/// anything else that ends it ends the sweep.
void run_member(CompletionMember& member, const Resolved& resolved, const StopSignal& stop) {
  const bool begun = fs::exists(member.folder / "config.yaml");
  RunFolder folder = begun ? RunFolder::open(member.folder) : RunFolder::create(member.folder);
  if (folder.finished() && !goes_on(folder, resolved)) {
    member.result = finished_result(folder);
    return;
  }
  std::error_code ignored;
  fs::remove(folder.result_file(), ignored);  // of fewer steps: were the run killed now, it would pass for the new one
  try {
    member.result =
        run_synthetic(resolved.completion, resolved.yaml, resolved.identity, folder, begun, &stop, member.name);
  } catch (const Diverged& e) {
    member.failure = e.what();
    log_warning(member.name, ": ", e.what());
  }
}

/// The configuration of one member: the sweep's with the member's settings over it, its trial's number added to its
/// seed.
Resolved member_configuration(const CompleteOptions& o, const CompletionSweep::Member& member) {
  const auto given = [&] {
    Config config = given_config(o);
    for (const auto& assignment : member.assignments) config.set(assignment);
    return config;
  };
  const Resolved first = resolve(given());
  if (member.further_seeds == 0) return first;
  Config config = given();
  config.set(cat("completion.seed=", first.completion.fit.seed + member.further_seeds));
  return resolve(config);
}

void run_sweep(const CompleteOptions& o, const Resolved& base, RunFolder& folder, const StopSignal& stop) {
  // Every member's configuration is checked before the first one starts.
  std::vector<CompletionMember> members;
  std::vector<Resolved> configurations;
  std::map<std::string, std::string> first_with;  // these settings
  for (const auto& member : base.sweep.members()) {
    configurations.push_back(member_configuration(o, member));
    if (member.further_seeds == 0) {  // further trials of neighbouring seeds may be the same
      const auto [other, fresh] = first_with.emplace(configurations.back().yaml, member.name);
      check(fresh, "completion: '", other->second, "' and '", member.name,
            "' are one run; take one of them out of variants or sweep");
    }
    members.push_back({.name = member.name,
                       .values = member.values,
                       .folder = member_folder(folder, member.name),
                       .result = {},
                       .failure = {}});
    if (fs::exists(members.back().folder / "config.yaml"))
      check_same_settings(RunFolder::open(members.back().folder), configurations.back().yaml, free_of_synthetic_runs(),
                          /*sweep=*/false);
  }
  folder.lock();
  folder.write(folder.config_file(), base.whole);
  nlohmann::ordered_json result = {{"task", "completion"}, {"runs", nlohmann::ordered_json::array()}};
  double seconds = 0, training_seconds = 0;
  int64_t iterations = 0;
  for (size_t i = 0; i < members.size(); ++i) {
    log_info("run ", i + 1, " of ", members.size(), ": ", members[i].name);
    run_member(members[i], configurations[i], stop);
    nlohmann::ordered_json row = nlohmann::ordered_json::object();
    for (const auto& [key, value] : members[i].values) row[key] = value;
    if (members[i].result.is_null()) row["failure"] = members[i].failure;
    else {
      row["result"] = members[i].result;
      seconds += members[i].result["seconds"].get<double>();
      training_seconds += members[i].result["training_seconds"].get<double>();
      iterations += members[i].result["iterations"].get<int64_t>();
    }
    result["runs"].push_back(std::move(row));
    const Page page = completion_report({members.begin(), members.begin() + static_cast<int64_t>(i) + 1},
                                        base.completion.title, base.whole);
    folder.write(folder.report_file(), page.html());
    write_figures(folder.path(), page);
  }
  result["iterations"] = iterations;
  result["seconds"] = seconds;
  result["seconds_per_iteration"] = training_seconds / static_cast<double>(std::max<int64_t>(1, iterations));
  folder.write(folder.result_file(), result.dump(2) + "\n");
  print_completion(result, folder);
  std::vector<std::string> failed;
  for (const auto& member : members)
    if (!member.failure.empty()) failed.push_back(member.name);
  check(failed.empty(), failed.size(), " of ", members.size(), " runs left the finite numbers: ", join(failed, "; ", 8),
        "; what the others came to is in ", folder.report_file().string());
}

void complete(const CompleteOptions& o) {
  const Resolved resolved = resolve(given_config(o));
  if (o.print_config) {
    std::cout << resolved.whole;
    return;
  }
  RunFolder folder = o.resume ? RunFolder::open(run_folder_of(o)) : RunFolder::create(run_folder_of(o));
  check(!resolved.ratings || !resolved.sweep.given(),
        "completion.sweep varies synthetic targets; use completion.grid with ratings");
  if (o.resume)
    check_same_settings(folder, resolved.whole, resolved.ratings ? places_of_ratings() : free_of_synthetic_runs(),
                        resolved.sweep.given());
  if (resolved.ratings) return complete_ratings(*resolved.ratings, resolved.completion, resolved.whole, folder);
  StopSignal stop;
  if (resolved.sweep.given()) return run_sweep(o, resolved, folder, stop);
  print_completion(
      run_synthetic(resolved.completion, resolved.yaml, resolved.identity, folder, o.resume, &stop, "complete"),
      folder);
}

}  // namespace

void setup_complete(CLI::App& app, Action& action) {
  auto o = std::make_shared<CompleteOptions>();
  CLI::App* command =
      app.add_subcommand("complete", "Completes a matrix from some of its entries with a deep factor chain");
  command->add_option("CONFIG", o->config, "YAML configuration (with --resume: the run's own when left out)");
  command->add_option("--set", o->overrides, "Override a key: --set completion.rank=5 (may be repeated)")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command->add_option("--run", o->run, "Run folder (default: runs/<configuration name>)");
  command->add_flag("--resume", o->resume, "Go on from the newest checkpoint of the run folder");
  command->add_flag("--print-config", o->print_config, "Print the resolved configuration and stop");
  add_ratings_options(*command, o->use);
  command->footer(
      "Example:\n  deeplora complete configs/completion/synthetic.yaml --set completion.synthetic.observed=0.1 --run "
      "runs/completion\n"
      "  deeplora complete configs/completion/ratings.yaml --set completion.train=ratings.csv --run runs/ratings\n"
      "  deeplora complete --run runs/ratings --top 10 --output best.csv");
  command->callback([o, &action] {
    if (o->use.any()) {
      if (o->run.empty() || !o->config.empty() || o->resume)
        throw CLI::ValidationError(
            "--predict, --top, --fold-in, --update and --export use a finished run: name it with --run, without CONFIG "
            "and "
            "--resume");
      action = [o] { use_ratings_run(o->run, o->use, o->overrides); };
      return;
    }
    if (o->config.empty() && !o->resume) throw CLI::RequiredError("CONFIG (or --resume with --run)");
    action = [o] { complete(*o); };
  });
}

}  // namespace deeplora
