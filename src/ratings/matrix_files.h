// The two matrix file formats of the ratings reader. Free of LibTorch.
#pragma once

#include <filesystem>
#include <string_view>

#include "ratings/ratings.h"

namespace deeplora {

/// MatrixMarket (https://math.nist.gov/MatrixMarket/formats.html): coordinate and array; real, integer; general,
/// symmetric and skew-symmetric (both halves are given out). Rows and columns are called "1".."m", "1".."n", all of
/// them, also those without entries. Throws Error with file:line, for pattern and complex too.
Ratings read_matrix_market(const std::filesystem::path& file, std::string_view text);

/// NumPy's .npy, versions 1 to 3, little-endian integers and floats, C and Fortran order. as_triplets: -1 decides by
/// the shape
/// ([N, 3] and [N, 4] are triplets), 0 dense, 1 triplets. Throws Error for other dtypes and shapes.
Ratings read_npy(const std::filesystem::path& file, std::string_view bytes, int as_triplets);

}  // namespace deeplora
