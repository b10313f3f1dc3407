// Ratings in `deeplora complete`: training on a file, and what a trained run is used for.
#pragma once

#include <CLI/CLI.hpp>

#include <filesystem>
#include <string>
#include <vector>

#include "completion/config.h"
#include "core/system.h"
#include "ratings/ratings_config.h"
#include "train/run_folder.h"

namespace deeplora {

/// Reads the ratings' keys of `completion`; call before Config::finish(). Nothing when the section names no `train`.
std::optional<RatingsConfig> read_ratings_config(const Config& completion, const CompletionConfig& common);

/// Trains, chooses, scores, and writes the run folder: adapter.safetensors, ids, metrics.jsonl, result.json,
/// report.html, config.yaml.
void complete_ratings(const RatingsConfig& config, const CompletionConfig& common, const std::string& resolved,
                      RunFolder& folder);

/// What `deeplora complete --run RUN` can be asked to do with a finished run.
struct RatingsUse {
  std::string predict, rows, titles, export_to, fold_in, update, output;
  int64_t top = 0;
  bool any() const { return !predict.empty() || !export_to.empty() || !fold_in.empty() || !update.empty() || top > 0; }
};
void add_ratings_options(CLI::App& command, RatingsUse& use);
/// `overrides` are --set of how files are read (completion.format, separator, header, row_names, encoding, columns,
/// duplicates, range, out_of_range), and with --update how long its fit goes on.
void use_ratings_run(const std::filesystem::path& run, const RatingsUse& use,
                     const std::vector<std::string>& overrides);

/// The settings of the finished run in `folder` under such --set.
RatingsConfig settings_of_finished(const std::filesystem::path& folder, const RatingsUse& use,
                                   const std::vector<std::string>& overrides);

/// --update: RUN/updates/N takes the model that learned from further ratings too.
void update_ratings_run(const std::filesystem::path& folder, const RatingsUse& use, const RatingsConfig& config);

}  // namespace deeplora
