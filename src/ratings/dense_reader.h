// Dense tables of ratings from delimited text. Free of LibTorch.
#pragma once

#include <filesystem>
#include <string_view>

#include "ratings/ratings.h"
#include "ratings/table_layout.h"

namespace deeplora {

/// A row a line, blanks missing; names as `layout` says, else "0", "1", ... . Jester's coding (99: not rated) and
/// leading count are taken out. Throws one Error with file:line for the first dozen mistakes.
Ratings read_dense_table(const std::filesystem::path& file, std::string_view text, const TableLook& look,
                         const TableLayout& layout);

}  // namespace deeplora
