// What a comparison's folder holds, and what is checked before anything runs.
#include <algorithm>
#include <chrono>
#include <cmath>
#include <fstream>
#include <iterator>
#include <thread>

#include "compare/cell_files.h"
#include "compare_run.h"
#include "core/fingerprint.h"
#include "core/json_file.h"
#include "core/leftovers.h"
#include "core/scratch_folder.h"
#include "moved_files.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

/// `read` of a cell's file; the message of what is wrong with it says what to do.
template <class Read>
auto from_cell(const fs::path& file, const Read& read) {
  try {
    return read(file.string(), read_file(file));
  } catch (const Error& e) {
    fail(e.what(), "; remove the folder ", file.parent_path().string(), " to run that cell again");
  }
}

/// Memory that the system can give to new processes, in MB; 0 when it does not say.
double available_memory_mb() {
  std::ifstream in("/proc/meminfo");
  std::string word;
  double kilobytes = 0;
  while (in >> word)
    if (word == "MemAvailable:" && in >> kilobytes) return kilobytes / 1024;
  return 0;
}

using Settings = std::map<std::string, std::string>;

Settings settings_in(const std::string& yaml) {
  Settings out;
  for (const auto& [path, value] : settings_of(yaml)) out[path] = value;
  return out;
}

/// "train.steps was 20, now 30" for every setting that differs.
std::vector<std::string> differing_settings(const Settings& before, const Settings& now) {
  std::vector<std::string> out;
  const auto value = [](const Settings& settings, const std::string& key) {
    const auto found = settings.find(key);
    return found == settings.end() ? std::string("absent") : found->second;
  };
  std::set<std::string> keys;
  for (const auto& settings : {before, now})
    for (const auto& [key, unused] : settings) keys.insert(key);
  for (const auto& key : keys)
    if (value(before, key) != value(now, key))
      out.push_back(cat(key, " was ", value(before, key), ", now ", value(now, key)));
  return out;
}

/// Of a file, or of all files below a folder with their names.
std::string fingerprint_of(const fs::path& path) {
  Fingerprint print;
  std::error_code ignored;
  if (!fs::is_directory(path, ignored)) {
    print.add(std::string_view(read_file(path)));
    return print.hex();
  }
  std::vector<fs::path> files;
  for (const auto& entry : fs::recursive_directory_iterator(path))
    if (entry.is_regular_file()) files.push_back(entry.path());
  std::sort(files.begin(), files.end());
  for (const auto& file : files) {
    print.add(std::string_view(fs::relative(file, path).generic_string()));
    print.add(std::string_view(read_file(file)));
  }
  return print.hex();
}

/// Bytes of a file, or of all safetensors in a folder.
uint64_t size_of_model(const fs::path& path, std::error_code& absent) {
  if (!fs::is_directory(path, absent)) return fs::file_size(path, absent);
  uint64_t bytes = 0;
  for (const auto& entry : fs::directory_iterator(path, absent))
    if (entry.path().extension() == ".safetensors") bytes += entry.file_size(absent);
  return bytes;
}

/// A cell's configuration as this version of the program resolves it: keys that came later have their defaults.
std::string resolved_again(const std::string& yaml, const fs::path& file, const Registries& registries) {
  try {
    return RunConfig::read(Config::parse(yaml, file.string()), registries).resolved;
  } catch (const Error&) {
    return {};
  }
}

}  // namespace

CompareRun::CompareRun(const CompareConfig& config, const Registries& registries, fs::path folder, Purpose purpose,
                       Rendezvous* meeting)
    : folder_(std::move(folder)), comparison_(config.plan()), options_(config.options()), purpose_(purpose) {
  if (meeting) shared_ = std::make_unique<SharedCells>(*meeting);
  plan_cells(config, registries);
  std::error_code ignored;
  if (!fs::exists(folder_, ignored)) return;
  check(fs::is_directory(folder_, ignored), "run folder ", folder_.string(), " is a file; choose another --run");
  const auto strange = [](const fs::directory_entry& entry) {
    return entry.path().filename() != ".lock" && entry.path().filename() != "cells";
  };
  check(fs::exists(folder_ / "compare.yaml", ignored) ||
            std::none_of(fs::directory_iterator(folder_, ignored), {}, strange),
        "run folder ", folder_.string(),
        " holds files that are not a comparison's; choose an empty or a new folder with --run");
  check_same_cells(registries);
}

/// What differs is said once, with the number of cells it concerns.
void CompareRun::check_same_cells(const Registries& registries) const {
  std::error_code ignored;
  std::map<std::string, size_t> concerned;
  std::vector<std::string> order;
  // train.eval_every follows from train.steps: who changes the steps has not touched it.
  Settings before_all;
  if (fs::exists(folder_ / "compare.yaml", ignored)) before_all = settings_in(read_file(folder_ / "compare.yaml"));
  const bool same_evaluations = options_.evaluations && before_all["compare.evaluations"] == cat(*options_.evaluations);
  for (size_t i = 0; i < cells_.size(); ++i) {
    const fs::path file = cell_file(i, ".yaml");
    if (!fs::exists(file, ignored)) continue;
    const std::string before = read_file(file);
    if (before == cells_[i].yaml) continue;
    const std::string again = resolved_again(before, file, registries);
    Settings then = settings_in(again.empty() ? before : again), now = settings_in(cells_[i].yaml);
    for (Settings* settings : {&then, &now})
      std::erase_if(*settings, [](const auto& one) { return names_a_file(one.first); });  // checked_inputs()
    if (same_evaluations && then["train.steps"] != now["train.steps"])
      then["train.eval_every"] = now["train.eval_every"];
    for (const auto& difference : differing_settings(then, now))
      if (++concerned[difference] == 1) order.push_back(difference);
  }
  Errors errors;
  for (const auto& difference : order)
    errors.add(difference, " (", concerned[difference], concerned[difference] == 1 ? " cell)" : " cells)");
  errors.throw_if_any(cat("run folder ", folder_.string(),
                          " holds cells of another configuration; choose another --run, or remove it"));
}

void CompareRun::plan_cells(const CompareConfig& config, const Registries& registries) {
  for (const Cell& cell : comparison_.cells()) {
    const RunConfig run = config.cell_run(cell, registries);
    std::string yaml = run.resolved;
    std::error_code absent;
    const fs::path written = folder_ / "cells" / (comparison_.name(cell) + ".yaml");
    // Settings that came from the factors to start from cannot be read again when those are gone.
    const bool as_written =
        purpose_ == Purpose::report && !run.adapter.path.empty() && !fs::exists(run.adapter.path, absent);
    if (as_written && fs::exists(written, absent)) yaml = read_file(written);
    twins_[yaml].push_back(cells_.size());
    cells_.push_back({yaml, run.train.steps.value_or(0)});
    device_ = run.model.device;
    for (auto& [key, file] : named_files(Config::parse(yaml))) {
      const bool shared = key.starts_with("data.");  // the others may be a method's own
      NamedFile input(shared ? key : cat(key, " of ", comparison_.plan().methods[cell.group.method].name), file);
      if (std::find(inputs_.begin(), inputs_.end(), input) == inputs_.end()) inputs_.push_back(std::move(input));
    }
  }
  choose_workers();
}

void CompareRun::choose_workers() {
  const bool on_cpu = device_ == "cpu" && options_.devices.empty();
  threads_ = options_.threads > 0 ? options_.threads : on_cpu ? 1 : 0;
  const int64_t places = on_cpu ? usable_cores() / std::max<int64_t>(1, threads_)
                                : static_cast<int64_t>(std::max<size_t>(1, options_.devices.size()));
  const int beside = shared_ ? shared_->launch().local_size : 1;  // processes that share this machine
  workers_ = static_cast<int>(options_.workers > 0 ? options_.workers : std::max<int64_t>(1, places / beside));
  std::error_code absent;
  const double model_mb = static_cast<double>(size_of_model(inputs_.front().second, absent)) / (1 << 20),
               memory = available_memory_mb();
  if (options_.workers == 0 && on_cpu && !absent &&
      memory > 0)  // a run holds the model, activations and LibTorch itself
    workers_ = std::clamp(static_cast<int>(memory / (4 * model_mb + 500)), 1, workers_);
  workers_ = std::min(workers_, static_cast<int>(cells_.size()));
}

fs::path CompareRun::cell_folder(size_t cell) const {
  return folder_ / "cells" / comparison_.name(comparison_.cells().at(twins(cell).front()));
}

fs::path CompareRun::cell_file(size_t cell, const char* extension) const {
  fs::path out = cell_folder(cell);
  return out += extension;
}

Json CompareRun::checked_inputs() const {
  std::error_code ignored;
  const fs::path record = folder_ / "inputs.json";
  OrderedJsonFile before{record.string()};
  if (fs::exists(record, ignored)) before = OrderedJsonFile::parse(record.string(), read_file(record));
  Json now = Json::object();
  std::map<fs::path, std::string> prints;
  for (const auto& [key, file] : inputs_) {
    std::string& print = prints[file];
    if (print.empty()) print = fingerprint_of(file);
    // Earlier versions wrote the file's name in place of the key.
    const std::string then = before.value(key, before.value(file.string(), print));
    check(then == print, key, ": ", file.string(), " is not what the finished cells of ", folder_.string(),
          " used (checksum ", then, ", now ", print, "); put it back, or choose another --run");
    now[key] = print;
  }
  for (const auto& item : before.root.items())
    if (!now.contains(item.key())) now[item.key()] = item.value();  // of a method that was taken out, and may come back
  return now;
}

void CompareRun::open(const std::string& yaml) {
  std::error_code failed;
  fs::create_directories(folder_ / "cells", failed);
  check(!failed, "cannot create the run folder ", folder_.string(), ": ", failed.message(), "; choose another --run");
  lock_ = std::make_unique<FolderLock>(folder_);
  remove_leftovers(folder_);
  remove_leftovers(folder_ / "cells");
  if (purpose_ == Purpose::run) {
    const Json inputs = checked_inputs();  // a comparison that cannot go on keeps its files
    write_file_atomically(folder_ / "compare.yaml", yaml);
    write_file_atomically(folder_ / "inputs.json", inputs.dump(2) + "\n");
    write_places(folder_, yaml);
  } else {
    write_file_atomically(folder_ / "compare.yaml", yaml);
  }
  for (size_t i = 0; i < cells_.size(); ++i) load_finished(i);
  comparison_.drop_hopeless();  // what earlier calls gave up stays so
}

void CompareRun::open_beside(const std::string& yaml) {
  const Launch& launch = shared_->launch();
  std::error_code ignored;
  check(fs::exists(folder_ / "compare.yaml", ignored), "process ", launch.rank, " of ", launch.size,
        " does not see the comparison that rank 0 began in ", fs::absolute(folder_, ignored).string(),
        "; all processes need the same folder: choose a --run on a file system that they share");
  check(read_file(folder_ / "compare.yaml") == yaml, "process ", launch.rank, " of ", launch.size,
        " has another configuration than rank 0; give all the same");
  for (size_t i = 0; i < cells_.size(); ++i) load_finished(i);
  comparison_.drop_hopeless();
}

bool CompareRun::load_finished(size_t cell) {
  std::error_code ignored;
  const fs::path result_file = cell_folder(cell) / "result.json", diverged_file = cell_folder(cell) / "diverged.json";
  CellOutcome outcome;
  if (fs::exists(result_file, ignored)) {
    const CellResult result = from_cell(
        result_file, [&](const auto& file, const auto& text) { return read_cell_result(file, text, metric_); });
    metric_ = result.metric;
    comparison_.set_better(result.higher_is_better);
    outcome = result.outcome;
    fs::remove_all(cell_folder(cell) / "checkpoints",
                   ignored);  // hundreds of cells would fill the disk; a finished one needs none
  } else if (fs::exists(diverged_file, ignored)) {
    outcome.state = CellState::diverged;
    outcome.message = from_cell(diverged_file, read_cell_message);
    fs::remove_all(cell_folder(cell) / "checkpoints", ignored);
  } else {
    return false;
  }
  comparison_.settle(cell, outcome);
  return true;
}

void CompareRun::check_methods() {
  // The largest rank and number of rows: what fits there fits everywhere. A method with a finished cell has shown that
  // it starts.
  std::map<size_t, size_t> largest;
  std::set<size_t> known;
  std::error_code absent;
  for (size_t i = 0; i < cells_.size(); ++i)
    if (fs::exists(cell_folder(i) / "result.json", absent)) known.insert(comparison_.cells()[i].group.method);
  for (size_t i = 0; i < cells_.size(); ++i) {
    const Group& group = comparison_.cells()[i].group;
    if (known.count(group.method) > 0) continue;
    const auto at = largest.find(group.method);
    const auto size = [&](size_t cell) {
      return std::make_pair(comparison_.cells()[cell].group.rank, comparison_.cells()[cell].group.samples);
    };
    if (at == largest.end()) largest[group.method] = i;
    else if (size(i) > size(at->second)) at->second = i;
  }
  const ScratchFolder scratch("check");
  std::vector<size_t> waiting;
  for (const auto& [method, cell] : largest) waiting.push_back(cell);
  std::map<size_t, ChildProcess> running;
  Errors errors;
  std::set<std::string> seen;
  while (!waiting.empty() || !running.empty()) {
    if (!waiting.empty() && running.size() < static_cast<size_t>(workers_)) {
      const size_t cell = waiting.front();
      waiting.erase(waiting.begin());
      const fs::path yaml = scratch.path() / cat(cell, ".yaml");
      write_file_atomically(yaml, cells_[cell].yaml);
      running.emplace(cell,
                      ChildProcess({"finetune", yaml.string(), "--dry-run", "--set", cat("train.threads=", threads_)},
                                   scratch.path() / cat(cell, ".log")));
      continue;
    }
    for (auto it = running.begin(); it != running.end();) {
      const auto code = it->second.poll();
      if (!code) {
        ++it;
        continue;
      }
      const std::string reason = *code == 0 ? "" : reason_in_log(scratch.path() / cat(it->first, ".log"));
      if (*code != 0 && seen.insert(reason).second)
        errors.add(comparison_.plan().methods[comparison_.cells()[it->first].group.method].name, ": ", reason);
      it = running.erase(it);
    }
    if (stop_.requested()) throw Interrupted("stopped while checking the methods; nothing was trained");
    std::this_thread::sleep_for(kBetweenLooks);
  }
  errors.throw_if_any();
}

}  // namespace deeplora
