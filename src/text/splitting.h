// Which rows of one file are kept apart for dev and test. Free of LibTorch; the same on every platform.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

namespace deeplora {

/// What matters of a row when a file is dealt out.
struct SplitRow {
  std::string input;    ///< rows with the same stay together
  std::string stratum;  ///< every part holds each as often as the whole, as far as whole rows allow
};

/// Row numbers, ascending; every row is in one of them.
struct SplitRows {
  std::vector<size_t> train, dev, test;
};

/// Deals N rows out: ceil(share x N) rows each for dev and test, the sizes that scikit-learn's train_test_split gives,
/// and of every stratum its share by largest remainders. A stratum leaves at least one row (or set of equal rows) to
/// train. Where equal rows stand in the way, a part may be smaller. Shares from 0 to 0.5.
SplitRows split_rows(std::span<const SplitRow> rows, double dev_share, double test_share, uint64_t seed);

}  // namespace deeplora
