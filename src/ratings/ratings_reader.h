// Ratings from files: triplets in any delimited text, dense tables, MatrixMarket, NPY. Free of LibTorch.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "ratings/ratings.h"

namespace deeplora {

/// How a ratings file is read. The names are those of the `completion` section.
struct RatingsFormat {
  std::string format = "auto";     ///< auto, triplets, dense, matrix-market or npy
  std::string separator = "auto";  ///< auto, comma, tab, semicolon, space or "::"
  std::string header = "auto";     ///< auto, yes or no
  std::string row_names = "auto";  ///< dense: whether the first column names the rows; auto, yes or no
  std::string encoding = "utf-8";  ///< one of encoding_names()
  /// Columns of triplets by name or 0-based index; empty: found by usual names, else 0, 1, 2 and (if there) 3.
  std::string row = {}, col = {}, value = {}, time = {};
};

/// All ratings of a file, by content where the format is auto:
/// - triplets: row, column, value[, time] a line, ids any text (quotes allowed), with or without a header: MovieLens
/// ratings.csv, u.data,
///   ratings.dat ("::"), COO. A time is a number or what as_time() reads (kept in seconds). Further columns are ignored
///   and named in a remark.
/// - dense: a row a line, blanks, NA, NaN and null missing. Texts in the first line name the columns, texts in the
/// first column the rows; ids
///   that are numbers are told from ratings by a text or a blank above the first column (what pandas' pivot().to_csv()
///   writes). Without names they are called "0", "1", .... Jester's files are told by their values (99 where no joke
///   was rated, all others within [-10, 10]); their leading count of ratings is dropped.
/// - MatrixMarket: coordinate (general, symmetric, skew-symmetric) and array; rows and columns are called "1", "2", ...
/// .
/// - NPY: float or integer; [N, 3] or [N, 4] holds row, column, value[, time] (ids are integers), any other [m, n] is
/// dense with NaN missing. A folder is read through the first of ratings.csv, ratings.dat, u.data in it. Ids that are
/// equal numbers are one id (IdIndex).
///
/// Entries come in the file's order, duplicates included. Throws one Error with file:line for every mistake (the first
/// dozen): wrong number of columns, empty ids, values that are no finite number, columns not found, broken headers; and
/// an Error that names the deciding setting for a file whose lines could be read in two ways. NaN values of triplets
/// are left out and counted in remarks, as is everything else that was not taken as it stood.
Ratings read_ratings(const std::filesystem::path& file, const RatingsFormat& format,
                     std::string_view what = "ratings file");

/// Pairs to predict.
struct RatingPairs {
  std::vector<std::string> row, col;
  std::vector<double> time;          ///< empty when the file has none
  std::vector<std::string> source;   ///< file:line, for messages
  std::vector<std::string> remarks;  ///< as those of Ratings
};

/// What a model knows, to tell names of columns from a first pair.
struct KnownIds {
  const IdIndex* rows = nullptr;
  const IdIndex* cols = nullptr;
  std::string row_column, col_column;  ///< what the columns of ids were called in the training file
};

/// Row and column ids of a delimited text, by the rules for triplets, and times where a column is named so; further
/// columns are not looked at. A first line
/// of usual names, or of those of the training file, or of texts over numbers that are no known ids, is a header.
/// Throws Error, naming completion.header, when the first pair alone is not known.
RatingPairs read_pairs(const std::filesystem::path& file, const RatingsFormat& format, const KnownIds& known = {});

/// Titles of ids: id and title a line, in columns of usual names, else the first two. A header's own line is among them
/// when its names are unusual.
std::vector<std::pair<std::string, std::string>> read_titles(const std::filesystem::path& file,
                                                             const RatingsFormat& format);

/// Ids, one a line (blank lines skipped).
std::vector<std::string> read_ids(const std::filesystem::path& file, const RatingsFormat& format = {});

}  // namespace deeplora
