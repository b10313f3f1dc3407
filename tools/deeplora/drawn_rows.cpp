#include "drawn_rows.h"

#include <tuple>

#include "core/fingerprint.h"
#include "core/random.h"
#include "text/row_errors.h"
#include "core/number_text.h"
#include "text/splitting.h"

namespace deeplora {
namespace {

constexpr size_t kFewestRows = 20;  ///< that dev rows are drawn of without being asked for: fewer than two tell nothing
constexpr double kUnaskedShare = 0.1;

}  // namespace

std::string DrawnRows::fingerprint() const {
  if (dev.empty() && test.empty()) return "";
  Fingerprint print;
  for (const auto* part : {&dev, &test}) {
    print.add(static_cast<int64_t>(part->size()));
    for (const auto& row : *part) print.add(std::string_view(row.fields.dump()));
  }
  return print.hex();
}

DrawnRows draw_rows(const RunConfig& run, std::vector<Row> rows) {
  const DataConfig& data = run.data;
  DrawnRows out;
  const bool unasked = data.draws_unasked();
  const bool too_few = unasked && rows.size() < kFewestRows;
  const double dev_share = !unasked ? data.dev_share.value_or(0) : too_few ? 0 : kUnaskedShare;
  const double test_share = data.test_share.value_or(0);
  if (dev_share == 0 && test_share == 0) {
    out.train = std::move(rows);
    return out;
  }
  std::vector<SplitRow> keys;
  for (const auto& row : rows) keys.push_back({run.task->stays_with(row), run.task->stratum(row)});
  const auto seed = stream_seed(static_cast<uint64_t>(data.split_seed.value_or(run.train.seed)), "split");
  const SplitRows parts = split_rows(keys, dev_share, test_share, seed);
  for (const auto& [key, share, part] :
       {std::tuple("dev_share", dev_share, &parts.dev), std::tuple("test_share", test_share, &parts.test)})
    check(share == 0 || !part->empty() || unasked, "data.", key, ": ", share, ": no row of ", data.train.string(),
          " can be drawn (", with_commas(rows.size()),
          " rows): equal texts stay together, and every label keeps a row to train on");
  for (const auto& [from, to] :
       {std::pair(&parts.train, &out.train), std::pair(&parts.dev, &out.dev), std::pair(&parts.test, &out.test)})
    for (const size_t i : *from) to->push_back(std::move(rows[i]));
  return out;
}

}  // namespace deeplora
