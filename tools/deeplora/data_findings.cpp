#include "data_findings.h"

#include <map>
#include <set>

#include "core/number_text.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

constexpr double kNearlyAll = 0.99;

/// Input -> class of the first row with it.
using Inputs = std::map<std::string, std::string>;

std::string of_rows(size_t count, size_t all) { return cat(with_commas(count), " of ", with_commas(all), " rows "); }

/// The training rows under their inputs; says how many repeat another.
Inputs training_inputs(const Task& task, std::span<const Row> rows, std::vector<std::string>& out) {
  Inputs inputs;
  size_t repeated = 0, otherwise = 0;
  std::string first;
  for (const auto& row : rows) {
    const std::string stratum = task.stratum(row);
    const auto [found, fresh] = inputs.emplace(task.input_of(row), stratum);
    if (fresh) continue;
    if (repeated++ == 0) first = row.source;
    otherwise += found->second != stratum;
  }
  if (repeated > 0 && task.outputs() > 0)  // a prompt may have several answers
    out.push_back(cat("data.train: ", of_rows(repeated, rows.size()), "repeat the input of another",
                      otherwise > 0 ? cat(", ", with_commas(otherwise), " of them with another label") : "",
                      "; the first at ", first));
  return inputs;
}

template <class Others>
void say_shared(const Task& task, std::span<const Row> rows, const char* what, const Others& others, const char* other,
                std::vector<std::string>& out) {
  size_t shared = 0;
  std::string first;
  for (const auto& row : rows)
    if (others.contains(task.input_of(row)) && shared++ == 0) first = row.source;
  if (shared > 0)
    out.push_back(cat(what, ": ", of_rows(shared, rows.size()), "have the input of a row of ", other,
                      ", so that their score flatters; the first at ", first));
}

std::map<std::string, size_t> strata_of(const Task& task, std::span<const Row> rows) {
  std::map<std::string, size_t> out;
  for (const auto& row : rows) ++out[task.stratum(row)];
  return out;
}

void say_missing_labels(const Task& task, std::span<const Row> rows, const char* what,
                        const std::map<std::string, size_t>& known, std::vector<std::string>& out) {
  for (const auto& [label, count] : strata_of(task, rows))
    if (!known.contains(label))
      out.push_back(
          cat(what, ": ", of_rows(count, rows.size()), "have label '", label, "', which no training row has"));
}

}  // namespace

std::vector<std::string> data_findings(const Task& task, std::span<const Row> train, std::span<const Row> dev,
                                       std::span<const Row> test) {
  std::vector<std::string> out;
  const auto strata = strata_of(task, train);
  for (const auto& [label, count] : strata)
    if (strata.size() > 1 && static_cast<double>(count) > kNearlyAll * static_cast<double>(train.size()))
      out.push_back(cat("data.train: ", of_rows(count, train.size()), "have label '", label,
                        "': to say so always is right as often; data.metric: f1 or matthews and ",
                        "data.class_weights: balanced look at the others"));
  const Inputs known = training_inputs(task, train, out);
  for (const auto& [rows, what] : {std::pair(dev, "data.dev"), std::pair(test, "data.test")}) {
    say_missing_labels(task, rows, what, strata, out);
    say_shared(task, rows, what, known, "data.train", out);
  }
  std::set<std::string> chosen;
  if (!test.empty())
    for (const auto& row : dev) chosen.insert(task.input_of(row));
  say_shared(task, test, "data.test", chosen, "data.dev", out);
  return out;
}

}  // namespace deeplora
