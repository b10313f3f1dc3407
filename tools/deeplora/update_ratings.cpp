// Further ratings for a finished run.
#include <iostream>

#include "complete_ratings.h"
#include "core/files.h"
#include "core/json_file.h"
#include "core/log.h"
#include "deeplora_version.h"
#include "ratings/ratings_update.h"

namespace deeplora {
namespace {
namespace fs = std::filesystem;
using Json = nlohmann::ordered_json;

/// How the run's model was fitted.
RatingsCandidate chosen_of(const RunFolder& folder) {
  const auto result = OrderedJsonFile::parse(folder.result_file().string(), read_file(folder.result_file()));
  const Json chosen = result.root.value("chosen", Json());
  RatingsCandidate out;
  if (!chosen.is_object()) return out;  // the biases alone
  out.solver = chosen.value("solver", out.solver);
  out.rank = chosen.value("rank", out.rank);
  out.depth = chosen.value("depth", out.depth);
  if (chosen.contains("regularization") && chosen["regularization"].is_number())
    out.regularization = chosen["regularization"].get<double>();
  return out;
}

Json record_of(const RatingsUpdate& update, const std::string& file) {
  return {{"file", file},
          {"ratings", update.given},
          {"replaced", update.replaced},
          {"new_rows", update.new_rows},
          {"new_cols", update.new_cols},
          {"sweeps", update.sweeps},
          {"all_ratings", update.all.size()},
          {"remarks", update.remarks},
          {"deeplora", kVersion}};
}

}  // namespace

void update_ratings_run(const fs::path& run, const RatingsUse& use, const RatingsConfig& config) {
  RunFolder folder = RunFolder::open(run);
  check(folder.finished(), run.string(), ": the run is not finished; go on with it by --resume");
  folder.lock();
  const NamedRatingsModel before = load_ratings_model(run);
  Ratings given = read_ratings(use.update, config.format, "--update");
  if (config.range) apply_range(given, config.range->first, config.range->second, config.out_of_range, "--update");
  check(given.size() > 0, "--update ", use.update, ": the file holds no ratings");
  StopSignal stop;
  RatingsUpdate update = update_ratings(before, given, config, chosen_of(folder), [&stop] {
    if (stop.requested()) throw Interrupted("stopped by a signal; the run is as it was");
  });
  update.remarks.insert(update.remarks.begin(), given.remarks.begin(), given.remarks.end());
  for (const auto& remark : update.remarks) log_warning(remark);
  const auto newest = newest_update(run);
  const fs::path place = run / "updates" / std::to_string(newest.value_or(0) + 1);
  fs::create_directories(run / "updates");
  write_folder_atomically(place, [&](const fs::path& into) {
    save_ratings_model(into, update.model, update.all, {{"deeplora", kVersion}});
    write_file_atomically(into / "update.json", record_of(update, use.update).dump(2) + "\n");
  });
  std::error_code ignored;
  if (newest) fs::remove_all(run / "updates" / std::to_string(*newest), ignored);
  std::cout << "took in " << update.given << " ratings (" << update.replaced << " of pairs that were known), "
            << update.new_rows << " new rows, " << update.new_cols << " new columns; "
            << (update.sweeps > 0 ? cat(update.sweeps, " further passes") : "the biases were fitted anew") << " on "
            << update.all.size() << " ratings\nscores in result.json are those from before\n";
}

}  // namespace deeplora
