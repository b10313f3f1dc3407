// The finished fits of a run on ratings, on disk until the run ends, so that a run which was killed goes on with the
// next one.
#pragma once

#include <filesystem>
#include <functional>
#include <nlohmann/json.hpp>
#include <set>
#include <string>

#include "ratings/ratings_run.h"

namespace deeplora {

/// Settings of a run on ratings that may change when it goes on: the places of its files, whose ratings are compared
/// instead.
const std::set<std::string>& places_of_ratings();

/// The settings that must be the same when a run on ratings goes on; the places of its files may change.
nlohmann::ordered_json ratings_settings(const std::string& resolved);

/// {"training ratings": "100 ratings, checksum ...", "dev ratings", "test ratings"}, the parts that there are.
nlohmann::ordered_json data_identity(const RatingsData& data);

/// The part of a run on ratings that must be the same when it goes on: settings (not the places of files) and the
/// ratings themselves.
nlohmann::ordered_json ratings_identity(const std::string& resolved, const RatingsData& data);

class KeptFits {
 public:
  /// Fits lie in RUN/fits. Throws Error, naming the differences, when those there are of another `identity`; writes
  /// nothing yet.
  KeptFits(const std::filesystem::path& run, nlohmann::ordered_json identity);

  /// The fit `name` from disk (doubles come back with all their bits), else what `make` gives, which is kept.
  RatingsFit operator()(const std::string& name, const std::function<RatingsFit()>& make) const;

  /// The run is finished: nothing is needed any more.
  static void remove(const std::filesystem::path& run);

 private:
  void begin() const;
  std::filesystem::path folder_;
  nlohmann::ordered_json identity_;
};

}  // namespace deeplora
