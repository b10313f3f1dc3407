// A ratings model in files: adapter.safetensors with its ids beside it, and exports for other programs. Free of
// LibTorch.
#pragma once

#include <filesystem>
#include <map>
#include <optional>
#include <string>

#include "ratings/ratings_model.h"
#include "ratings/sparse_side.h"

namespace deeplora {

/// A model with the names of its rows and columns and what each row has rated.
struct NamedRatingsModel {
  RatingsModel model;
  IdIndex rows, cols;
  SparseSide seen;                     ///< by row: all ratings that the run was given, those of dev and test included
  std::vector<double> seen_time;       ///< of `seen`; empty where the ratings have no times
  std::string row_column, col_column;  ///< what the training file calls its columns of ids; empty when it does not

  /// `seen` as ratings.
  Ratings ratings() const;
};

/// The highest N of RUN/updates/N; nothing when the run was not updated.
std::optional<int64_t> newest_update(const std::filesystem::path& run);

/// Where the files of a run's model lie: RUN/updates/N of the newest update, else RUN.
std::filesystem::path model_folder(const std::filesystem::path& run);

/// Writes FOLDER/adapter.safetensors (A [r, n] and B [m, r] in float64, the halves of the factor chain, biases, mean,
/// range, and what folding in needs), FOLDER/seen.safetensors, FOLDER/rows.txt and FOLDER/cols.txt (an id a line).
/// `seen`: all ratings that the run was given, over the model's rows and columns.
void save_ratings_model(const std::filesystem::path& folder, const RatingsModel& model, const Ratings& seen,
                        const std::map<std::string, std::string>& metadata = {});

/// The model alone, without names and ratings: what save_ratings_model() writes as adapter.safetensors.
void save_ratings_factors(const std::filesystem::path& file, const RatingsModel& model,
                          const std::map<std::string, std::string>& metadata = {});

/// Throws Error when the file is no such file, or its tensors do not fit each other. `metadata` takes what was saved
/// with it, if given.
RatingsModel load_ratings_factors(const std::filesystem::path& file,
                                  std::map<std::string, std::string>* metadata = nullptr);

/// The model of a run, as of its newest update. Throws Error when a file is missing, cut, or does not fit the others.
NamedRatingsModel load_ratings_model(const std::filesystem::path& run);

/// row_factors.npy [m, r], col_factors.npy [n, r], row_biases.npy [m], col_biases.npy [n] (float64), and rows.csv,
/// cols.csv: id, bias, factor_0, ...
void export_ratings_model(const std::filesystem::path& folder, const NamedRatingsModel& model);

/// An id as a field of CSV: in quotes where a blank at its end would be lost, too.
std::string id_field(const std::string& text);

/// The shortest text that reads back as the same number.
std::string exact_number(double value);

}  // namespace deeplora
