// Whether a delimited text holds triplets or a dense table, and which names it has. Free of LibTorch.
#pragma once

#include <filesystem>

#include "ratings/ratings_reader.h"
#include "ratings/table_look.h"

namespace deeplora {

/// How a text is laid out. What is about names is for dense tables; ColumnFinder looks at triplets.
struct TableLayout {
  bool dense = false;
  bool header = false;        ///< the first line names the columns
  bool row_names = false;     ///< the first column names the rows
  bool short_header = false;  ///< nothing stands above the rows' names
  bool counted = false;       ///< Jester's: the first column says how many others a row rates
};

/// By what `format` declares and, where it says auto, by what the first lines show: a text above or before numbers is a
/// name; names that are numbers are told by a corner that is a text or blank. Throws Error, with the setting that
/// decides it, where the same lines could be read in two ways.
TableLayout layout_of(const std::filesystem::path& file, const TableLook& look, const RatingsFormat& format);

}  // namespace deeplora
