// dev and test rows that are drawn from the training file: data.dev_share, data.test_share.
#pragma once

#include "run_config.h"

namespace deeplora {

/// The training file's rows as they are dealt out.
struct DrawnRows {
  std::vector<Row> train, dev, test;
  /// Of the drawn rows; "" where none were drawn.
  std::string fingerprint() const;
};

/// Deals rows out as the configuration says, by data.split_seed, stratified as the task says. Throws Error when a share
/// that was asked for comes to no row.
DrawnRows draw_rows(const RunConfig& run, std::vector<Row> rows);

}  // namespace deeplora
