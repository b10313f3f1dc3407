#include "compare/cell_files.h"

#include <algorithm>
#include <cmath>
#include <map>
#include <set>

#include "core/json_file.h"

namespace deeplora {
namespace {

/// NaN for null and for what is not there: an undefined score.
double number(const OrderedJsonFile& json, const std::string& key) { return json.value(key, std::nan("")); }

LearnedUpdate read_update(const OrderedJsonFile& site, int64_t seed) {
  LearnedUpdate out{.seed = seed, .path = site.at<std::string>("path"), .role = site.at<std::string>("role")};
  out.layer = layer_of(out.path);
  const auto shape = site.at<std::vector<int64_t>>("shape");
  check(shape.size() == 2, site.name, ": shape: expected two numbers, found ", shown(site.root["shape"]));
  out.out = shape[0];
  out.in = shape[1];
  out.numerical_rank = site.at<int64_t>("numerical_rank");
  out.update_norm = number(site, "update_norm");
  out.weight_norm = number(site, "weight_norm");
  const std::string where = site.name + ": singular_values";
  const auto& values = json_member(site.root, "singular_values", site.name);
  check(values.is_array(), where, ": expected a list of numbers, found ", shown(values));
  for (const auto& value : values)
    out.singular_values.push_back(value.is_null() ? std::nan("") : json_as<double>(value, where));
  return out;
}

}  // namespace

double score_step(const std::string& metric, double rows) {
  static const std::set<std::string> kWithoutSteps = {"loss", "perplexity", "mse",      "rmse",
                                                      "mae",  "pearson",    "spearman", "margin"};
  if (!(rows > 0) || kWithoutSteps.count(metric) > 0) return 0;
  static const std::map<std::string, double> kLargest = {
      {"matthews", 2}, {"bleu", 100}, {"chrf", 100}};  // worst to best
  const auto found = kLargest.find(metric);
  return (found == kLargest.end() ? 1 : found->second) / rows;
}

CellResult read_cell_result(const std::string& file, std::string_view text, const std::string& metric) {
  const auto result = OrderedJsonFile::parse(file, text);
  CellResult out;
  out.metric = result.value("metric", metric);
  out.higher_is_better = result.value("higher_is_better", true);
  const OrderedJsonFile best = result.section("best");
  out.outcome.state = CellState::done;
  out.outcome.dev = number(best, out.metric);
  out.outcome.test = number(result.section("test"), out.metric);
  out.outcome.test_step = score_step(out.metric, number(result.section("rows"), "test"));
  out.outcome.best_step = number(best, "step");
  out.outcome.steps = number(result, "steps");
  out.outcome.seconds = number(result, "seconds");
  out.outcome.samples_per_second = number(result, "samples_per_second");
  out.outcome.peak_rss_mb = number(result, "peak_rss_mb");
  out.outcome.parameters = number(result, "trainable_parameters");
  return out;
}

std::string read_cell_message(const std::string& file, std::string_view text) {
  const std::string message = OrderedJsonFile::parse(file, text).value("message", std::string());
  return message.substr(0, std::min(message.find(" (rows"), message.find("; ")));
}

std::vector<LearnedUpdate> read_cell_updates(const std::string& file, std::string_view text, int64_t seed) {
  const auto read = parse_json<nlohmann::ordered_json>(file, text);
  check(read.is_array(), file, ": expected a list, found ", read.type_name());
  std::vector<LearnedUpdate> out;
  for (size_t i = 0; i < read.size(); ++i) {
    const OrderedJsonFile site{cat(file, ": entry ", i + 1), read[i]};
    check(site.root.is_object(), site.name, ": expected an object, found ", shown(site.root));
    out.push_back(read_update(site, seed));
  }
  return out;
}

}  // namespace deeplora
