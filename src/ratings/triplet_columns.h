// Which columns of a delimited text hold the parts of ratings. Free of LibTorch.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

#include "ratings/ratings_reader.h"
#include "ratings/table_look.h"

namespace deeplora {

/// Where a triplet's parts stand; -1: not there.
struct TripletColumns {
  int row = 0, col = 1, value = 2, time = -1;
  bool header = false;
  size_t count = 0;
  std::vector<std::string> remarks;  ///< what was guessed

  /// The header's name of a column; empty without header.
  std::string name(const TableLook& look, int column) const;
};

/// By the settings, else by usual names, else by place.
/// Throws one Error for everything that is not found.
TripletColumns triplet_columns(const std::filesystem::path& file, const TableLook& look, const RatingsFormat& format);

/// The same for pairs, which have no value, and a time only where a header or the settings name it.
TripletColumns pair_columns(const std::filesystem::path& file, const TableLook& look, const RatingsFormat& format,
                            const KnownIds& known);

}  // namespace deeplora
