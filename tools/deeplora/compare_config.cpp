#include "compare_config.h"

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <numeric>
#include <set>

namespace deeplora {
namespace {

constexpr int64_t kMostSeeds = 1000;
constexpr const char* kSections[] = {"adapter", "head", "train", "model"};

std::string exact(double value) {
  std::ostringstream out;
  out.precision(17);
  out << value;
  return out.str();
}

/// A number as people write it: the shortest text that reads back the same.
std::string shortest(double value) {
  for (int digits = 1; digits < 17; ++digits) {
    std::ostringstream out;
    out.precision(digits);
    out << value;
    if (std::strtod(out.str().c_str(), nullptr) == value) return out.str();
  }
  return exact(value);
}

template <class T>
void require_distinct(const Config& config, const std::string& key, const std::vector<T>& values) {
  config.require(std::set<T>(values.begin(), values.end()).size() == values.size(), key, "different values");
}

void require_rates(const Config& config, const std::vector<double>& rates) {
  config.require(std::all_of(rates.begin(), rates.end(), [](double v) { return v > 0 && std::isfinite(v); }), "lr",
                 "numbers above 0");
  require_distinct(config, "lr", rates);
}

void require_whole(const Config& config, const std::string& key, const std::vector<int64_t>& values, int64_t least) {
  config.require(std::all_of(values.begin(), values.end(), [&](int64_t v) { return v >= least; }), key,
                 cat("whole numbers of at least ", least));
  require_distinct(config, key, values);
}

/// A whole number for compare.seeds is how many: 5 means 1 to 5. Made a list, so that every reader and compare.yaml see
/// one.
std::string count_of_seeds(Config& given) {
  for (const auto& [path, value] : settings_of(given.dump_all())) {
    if (path != "compare.seeds" || value.starts_with('[')) continue;
    int64_t count = 0;
    Config::parse("seeds: " + value).read("seeds", count, "");
    given.section("compare").require(count >= 1 && count <= kMostSeeds, "seeds",
                                     cat("a list of seeds, or how many: a whole number from 1 to ", kMostSeeds));
    if (count < 1 || count > kMostSeeds) return {};
    std::vector<int64_t> seeds(static_cast<size_t>(count));
    std::iota(seeds.begin(), seeds.end(), 1);
    given.set_from(cat("compare.seeds=[", join(seeds, ",", seeds.size()), "]"), "compare.seeds");
    return cat("compare.seeds: ", count, " is a count: ", count == 1 ? "seed 1" : cat("seeds 1 to ", count),
               " (a list names seeds: [", count, "])");
  }
  return {};
}

/// A number that the configuration gives at a dotted path, whoever reads it.
std::optional<double> given_number(const Config& config, const std::string& section, const std::string& key) {
  std::optional<double> out;
  config.section(section).read(key, out, "");
  return out;
}

}  // namespace

void CompareConfig::read_method(const Config& item, size_t index, const Registries& registries) {
  MethodPlan method;
  item.read("name", method.name, "what the report calls it; absent: adapter.method");
  std::vector<double> rates;
  item.read("lr", rates,
            "learning rates to try; absent: the method's train.lr, compare.lr, train.lr, or the method's default");
  double rank_scale = 1;
  item.read("rank_scale", rank_scale,
            "the method's rank is this x the compared rank (0.5 for the compressed form, whose width is 2 x rank)");
  item.require(rank_scale > 0 && std::isfinite(rank_scale), "rank_scale", "a number above 0");
  for (const char* section : kSections) item.ignore(section);
  rank_scales_.push_back(rank_scale);
  plan_.methods.push_back(method);

  // What the method's configuration knows, and its default learning rate: from reading it alone, mistakes aside.
  Config alone = given_.copy();
  alone.erase("adapter");
  for (const char* section : kSections) alone.overlay(cat("compare.methods.", index, ".", section), section);
  alone.erase("compare");
  MethodPlan& added = plan_.methods.back();
  const AdapterConfig adapter = AdapterConfig::read(alone.section("adapter"), registries.methods);
  added.method = adapter.method;
  added.ranked = false;
  std::set<std::string> known;
  for (const auto& option : alone.options()) known.insert(option.path);
  added.ranked = known.count("adapter.rank") > 0;
  if (added.name.empty()) added.name = adapter.method;
  require_rates(item, rates);
  own_rates_.push_back(rates);
  default_rates_.push_back(adapter.default_lr);
  head_only_.push_back(adapter.trains == AdapterMethod::Trains::head_only);
  std::vector<std::string> unknown;
  for (const auto& key : given_.section("adapter").keys())
    if (known.count("adapter." + key) == 0) unknown.push_back(key);
  unknown_shared_.push_back(unknown);
}

/// The learning rates of a method: the nearest place that names any. `used` takes the names of shared places that some
/// method took.
std::vector<double> CompareConfig::rates_of(const Config& compare, const Config& item, size_t index,
                                            std::set<std::string>& used) {
  const std::string own_train = cat("compare.methods.", index, ".train");
  std::vector<std::pair<std::string, double>> fixed, shared_fixed;  // single rates: where, and which
  const auto collect = [&](const std::string& section, std::vector<std::pair<std::string, double>>& out) {
    for (const char* key : {"lr", "head_lr"}) {
      if (std::string(key) == "head_lr" && !head_only_[index]) continue;  // a rate of the head, not of the method
      if (given_.section(section).text_at(key) == "auto")
        item.mistake("lr", cat("cannot be auto (", given_.section(section).where(key),
                               "): a comparison tries the learning rates that it is given; list some here"));
      if (const auto rate = given_number(given_, section, key))
        out.emplace_back(given_.section(section).where(key), *rate);
    }
  };
  collect(own_train, fixed);
  collect("train", shared_fixed);
  const auto& own = own_rates_[index];
  for (const auto& [where, rate] : fixed) {
    if (!own.empty() && own != std::vector{rate})
      item.mistake("lr", cat("is given beside ", where, "; take one of them out"));
    if (rate != fixed.front().second)
      item.mistake("lr",
                   cat("cannot be taken from both ", fixed.front().first, " and ", where, "; take one of them out"));
  }
  if (!own.empty()) return own;
  if (!fixed.empty()) return {fixed.front().second};
  if (!shared_rates_.empty()) {
    used.insert("compare.lr");
    const std::string place = given_.section("train").where("lr");
    for (const auto& [where, rate] : shared_fixed)
      if (where == place && shared_rates_ != std::vector{rate})
        compare.mistake("lr", cat("is given beside ", where, "; take one of them out"));
    return shared_rates_;
  }
  if (shared_fixed.empty()) return {default_rates_[index]};
  used.insert("train.lr");
  return {shared_fixed.front().second};
}

void CompareConfig::choose_rates(const Config& compare, const std::vector<Config>& items) {
  std::set<std::string> used;
  for (size_t i = 0; i < items.size(); ++i) {
    plan_.methods[i].lr = rates_of(compare, items[i], i, used);
    std::sort(plan_.methods[i].lr.begin(), plan_.methods[i].lr.end());
  }
  const auto unused = [&](const std::string& where) {
    compare.mistake("methods",
                    cat("every method has learning rates of its own, so ", where, " changes nothing; take it out"));
  };
  if (!shared_rates_.empty() && used.count("compare.lr") == 0 && !items.empty()) unused(compare.where("lr"));
  const auto shared = given_number(given_, "train", "lr");
  const auto is_that = [&](const MethodPlan& method) { return method.lr == std::vector{*shared}; };
  if (shared && used.empty() && !std::all_of(plan_.methods.begin(), plan_.methods.end(), is_that))
    unused(given_.section("train").where("lr"));
  const auto head = given_number(given_, "train", "head_lr");
  for (size_t i = 0; i < items.size(); ++i)
    if (head && head_only_[i] && plan_.methods[i].lr != std::vector{*head})
      options_.remarks.push_back(
          cat(plan_.methods[i].name,
              " trains nothing but the head, at its own learning rates; train.head_lr is for the other methods"));
}

/// A key of `compare` beside the key whose values it lists, where they say different things.
void CompareConfig::refuse_both(const Config& compare, size_t sample_sizes,
                                const std::set<std::string>& empty_lists) const {
  const auto refuse = [&](const std::string& key, const std::string& section, const std::string& other,
                          const auto& agrees) {
    if (!compare.has(key) || empty_lists.contains(key))
      return;  // an empty list is what a printed configuration has for an absent one
    const auto value = given_number(given_, section, other);
    if (value && !agrees(*value))
      compare.mistake(key, cat("is given beside ", given_.section(section).where(other), "; take one of them out"));
  };
  const auto only = [](const std::vector<int64_t>& values) {
    return [&values](double value) { return values.size() == 1 && static_cast<double>(values[0]) == value; };
  };
  refuse("samples", "data", "samples", only(plan_.samples));
  refuse("seeds", "train", "seed", only(plan_.seeds));
  const auto same_steps = [&](double value) {
    return options_.steps == std::vector<int64_t>(sample_sizes, static_cast<int64_t>(value));
  };
  const auto never = [](double) { return false; };
  std::vector<std::string> places = {""};
  for (size_t i = 0; i < plan_.methods.size(); ++i) places.push_back(cat("compare.methods.", i, "."));
  for (size_t i = 0; i < places.size(); ++i) {
    refuse("steps", places[i] + "train", "steps", same_steps);
    refuse("evaluations", places[i] + "train", "eval_every", never);
    refuse("ranks", places[i] + "adapter", "rank", only(plan_.ranks));
    if (i > 0 && given_number(given_, places[i] + "train", "seed"))
      compare.mistake("seeds", cat("are the same for every method; take ",
                                   given_.section(places[i] + "train").where("seed"), " out"));
  }
}

void CompareConfig::read_grids(const Config& compare) {
  std::vector<int64_t> ranks, samples;
  compare.read("ranks", ranks, "adapter.rank to compare at; absent: each method's own");
  require_whole(compare, "ranks", ranks, 1);
  compare.read("samples", samples, "data.samples to compare at; absent: as data.samples says");
  require_whole(compare, "samples", samples, 1);
  int64_t seed = 1;
  given_.section("train").read("seed", seed, "");
  plan_.seeds = {seed};
  compare.read(
      "seeds", plan_.seeds,
      "train.seed of the runs, the same for every method: a list, or how many (5: 1 to 5); absent: train.seed");
  require_whole(compare, "seeds", plan_.seeds, 0);
  compare.require(!plan_.seeds.empty(), "seeds", "at least one seed");
  compare.read("steps", options_.steps, "train.steps for each entry of compare.samples; one number for all");
  const size_t wanted = std::max<size_t>(samples.size(), 1);
  if (options_.steps.size() == 1) options_.steps.resize(wanted, options_.steps[0]);
  compare.require(options_.steps.empty() || options_.steps.size() == wanted, "steps",
                  cat("one number, or one for each of the ", wanted, " sample sizes"));
  compare.require(std::all_of(options_.steps.begin(), options_.steps.end(), [](int64_t v) { return v >= 1; }), "steps",
                  "whole numbers of at least 1");
  options_.steps.resize(options_.steps.empty() ? 0 : wanted);
  if (!ranks.empty()) plan_.ranks = ranks;
  if (!samples.empty()) plan_.samples = samples;
  compare.read("evaluations", options_.evaluations,
               "evaluations on dev per run, evenly spread over its steps; absent: as train.eval_every says");
  compare.require(options_.evaluations.value_or(1) >= 1, "evaluations", "a whole number of at least 1");
  if (options_.evaluations && options_.steps.empty() && !given_.section("train").has("steps"))
    compare.mistake("evaluations", "needs compare.steps or train.steps");
  std::set<std::string> empty_lists;
  if (ranks.empty()) empty_lists.insert("ranks");
  if (samples.empty()) empty_lists.insert("samples");
  if (options_.steps.empty()) empty_lists.insert("steps");
  refuse_both(compare, wanted, empty_lists);
}

void CompareConfig::read_workers(const Config& compare) {
  compare.read("workers", options_.workers, "cells that run at once; 0: as many as cores (or devices) allow");
  compare.read(
      "threads", options_.threads,
      "threads of each cell; 0: train.threads, else one on the CPU, so that scores do not depend on the workers");
  compare.read("devices", options_.devices,
               "devices that the workers take in turn, e.g. [cuda:0, cuda:1]; absent: model.device");
  compare.require(options_.workers >= 0, "workers", "a whole number of at least 0");
  compare.require(options_.threads >= 0, "threads", "a whole number of at least 0");

  const auto beside = [](const Config& other, const char* key) {
    return cat("is given beside ", other.where(key), "; take one of them out");
  };
  std::vector<std::string> places = {""};
  for (size_t i = 0; i < plan_.methods.size(); ++i) places.push_back(cat("compare.methods.", i, "."));
  for (const std::string& place : places) {
    const Config train = given_.section(place + "train"), model = given_.section(place + "model");
    const auto threads = static_cast<int64_t>(given_number(given_, place + "train", "threads").value_or(0));
    if (threads > 0 && !place.empty())
      compare.mistake("threads", cat("are the same for every method; take ", train.where("threads"), " out"));
    else if (threads > 0 && options_.threads == 0) options_.threads = threads;
    else if (threads > 0 && options_.threads != threads) compare.mistake("threads", beside(train, "threads"));
    std::optional<std::string> device;
    model.read("device", device, "");
    const bool others = !options_.devices.empty() && options_.devices != std::vector{device.value_or("")};
    if (device && others) compare.mistake("devices", beside(model, "device"));
  }
}

void CompareConfig::check_names(const Config& compare) const {
  std::vector<std::string> slugs, names;
  for (const MethodPlan& method : plan_.methods) {
    const std::string now = slug(method.name);
    if (now.empty()) compare.mistake("methods", cat("the name '", method.name, "' holds no letter or digit"));
    const bool taken = std::find(slugs.begin(), slugs.end(), now) != slugs.end();
    if (taken)
      compare.mistake("methods", cat("two methods are called '", method.name, "'; give each a name of its own"));
    slugs.push_back(now);
    names.push_back(method.name);
  }
}

void CompareConfig::announce(const Config& given, const Registries& registries) {
  CompareConfig(given.copy()).read_section(given, registries);
}

CompareConfig CompareConfig::read(const Config& original, const Registries& registries) {
  CompareConfig out(original.copy());
  Config given = original.copy();
  const std::string remark = count_of_seeds(given);
  count_of_seeds(out.given_);
  if (!remark.empty()) out.options_.remarks.push_back(remark);
  out.read_section(given, registries);
  for (const char* section : {"model", "data", "adapter", "head", "train"})
    given.ignore(section);  // check_cells() reads them
  given.finish();
  out.check_cells(registries);
  out.resolved_ = given.dump_all();
  return out;
}

void CompareConfig::read_section(const Config& given, const Registries& registries) {
  const Config compare = given.section("compare");
  compare.read("title", options_.title, "heading of the report");
  compare.read("lr", shared_rates_, "learning rates of every method that names none; absent: train.lr");
  require_rates(compare, shared_rates_);
  const auto items = compare.items("methods");
  if (items.empty()) compare.mistake("methods", "expected a list of methods, each with an adapter section, found none");
  for (size_t i = 0; i < items.size(); ++i) read_method(items[i], i, registries);
  choose_rates(compare, items);
  check_names(compare);
  std::vector<std::string> names;
  for (const MethodPlan& method : plan_.methods) names.push_back(method.name);
  std::string baseline = names.empty() ? "" : names.front();
  compare.read("baseline", baseline, "name of the method that the others are compared with; absent: the first");
  const auto found = std::find(names.begin(), names.end(), baseline);
  if (found == names.end() && !names.empty())
    compare.mistake("baseline",
                    cat("expected one of ", join(names), ", found '", baseline, "'", did_you_mean(baseline, names)));
  if (found != names.end()) plan_.baseline = static_cast<size_t>(found - names.begin());
  read_grids(compare);
  const Config stop = compare.section("early_stop");
  stop.read("seeds", plan_.early_stop.seeds,
            "give up hopeless learning rates once this many seeds of all have run; 0: never");
  stop.read("margin", plan_.early_stop.margin,
            "distance from the best learning rate on dev that is hopeless; 0: only the best goes on");
  stop.require(plan_.early_stop.seeds >= 0, "seeds", "a whole number of at least 0");
  stop.require(plan_.early_stop.margin >= 0 && std::isfinite(plan_.early_stop.margin), "margin",
               "a number of at least 0");
  read_workers(compare);
  for (size_t i = 0; i < unknown_shared_.size(); ++i)
    for (const std::string& key : unknown_shared_[i]) {
      const auto lacks_key = [&](const std::vector<std::string>& unknown) {
        return std::find(unknown.begin(), unknown.end(), key) != unknown.end();
      };
      if (std::all_of(unknown_shared_.begin(), unknown_shared_.end(), lacks_key))
        given.section("adapter").mistake(key, "no compared method has this key");
    }
}

Config CompareConfig::without_evaluations(const Cell& cell) const {
  const size_t m = cell.group.method;
  Config config = given_.copy();
  for (const std::string& key : unknown_shared_.at(m)) config.erase("adapter." + key);
  for (const char* section : kSections) config.overlay(cat("compare.methods.", m, ".", section), section);
  if (head_only_.at(m)) config.erase("train.head_lr");  // what it says is among the method's learning rates
  config.erase("compare");
  if (cell.group.rank > 0)
    config.set_from(cat("adapter.rank=", shortest(static_cast<double>(cell.group.rank) * rank_scales_.at(m))),
                    "compare.ranks");
  if (cell.group.samples > 0) config.set_from(cat("data.samples=", cell.group.samples), "compare.samples");
  config.set_from(cat("train.lr=", shortest(plan_.methods.at(m).lr.at(cell.lr))), cat("compare.methods.", m, ".lr"));
  config.set_from(cat("train.seed=", cell.seed), "compare.seeds");
  // Every cell has the same dev and test rows: what is chosen on dev has then never seen a test row, whichever seeds it
  // was averaged over.
  const Config data = given_.section("data");
  if ((data.has("dev_share") || data.has("test_share")) && !data.has("split_seed"))
    config.set_from(cat("data.split_seed=",
                        static_cast<int64_t>(given_number(given_, "train", "seed").value_or(TrainConfig{}.seed))),
                    "train.seed");
  if (!options_.steps.empty()) {
    const auto at = std::find(plan_.samples.begin(), plan_.samples.end(), cell.group.samples) - plan_.samples.begin();
    config.set_from(cat("train.steps=", options_.steps.at(static_cast<size_t>(at))), "compare.steps");
  }
  return config;
}

Config CompareConfig::cell_config(const Cell& cell) const {
  Config config = without_evaluations(cell);
  if (!options_.evaluations) return config;
  int64_t steps = 0;
  without_evaluations(cell).section("train").read("steps", steps, "");
  config.set_from(
      cat("train.eval_every=", std::max<int64_t>(1, (steps + *options_.evaluations - 1) / *options_.evaluations)),
      "compare.evaluations");
  return config;
}

RunConfig CompareConfig::cell_run(const Cell& cell, const Registries& registries) const {
  return RunConfig::read(cell_config(cell), registries);
}

void CompareConfig::check_cells(const Registries& registries) const {
  const Comparison comparison(plan_);
  Errors errors;
  std::set<std::string> seen, names;
  for (const Cell& cell : comparison.cells()) {
    const std::string name = comparison.name(cell);
    if (!names.insert(name).second)
      errors.add("two learning rates of ", plan_.methods[cell.group.method].name, " differ too little to tell apart");
    if (cell.lr > 0 || cell.seed != plan_.seeds.front()) continue;  // the configuration differs in these numbers only
    try {
      const RunConfig run = cell_run(cell, registries);
      head_rates(run);
      if ((!run.data.has_dev() || run.data.draws_unasked()) && seen.insert("dev").second)
        errors.add(
            "data.dev: a comparison chooses learning rates on dev rows; expected a file (or data.dev_share), found "
            "nothing");
      if (!run.data.has_test() && seen.insert("test").second)
        errors.add("data.test: a comparison scores on test rows; expected a file (or data.test_share), found nothing");
    } catch (const Error& e) {
      if (seen.insert(e.what()).second) errors.add("method ", plan_.methods[cell.group.method].name, ": ", e.what());
    }
  }
  errors.throw_if_any();
}

}  // namespace deeplora
