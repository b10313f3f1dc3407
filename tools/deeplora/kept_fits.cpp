#include "kept_fits.h"

#include <cmath>

#include "completion_identity.h"
#include "core/files.h"
#include "core/fingerprint.h"
#include "core/json_file.h"
#include "core/log.h"
#include "ratings/ratings_file.h"
#include "train/checkpoint.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

std::string ratings_checksum(const Ratings& ratings) {
  Fingerprint print;
  for (const IdIndex* ids : {&ratings.rows, &ratings.cols})
    for (const auto& name : ids->names()) print.add(std::string_view(name));
  for (size_t i = 0; i < ratings.value.size(); ++i) {
    print.add(static_cast<int64_t>(ratings.row[i]));
    print.add(static_cast<int64_t>(ratings.col[i]));
    print.add(ratings.value[i]);
  }
  for (const double time : ratings.time) print.add(time);
  return cat(ratings.size(), " ratings, checksum ", print.hex());
}

Json course_of(const RatingsFit& fit) {
  return {{"sweeps", fit.sweeps},
          {"sweeps_done", fit.sweeps_done},
          {"rmse", fit.dev.rmse},
          {"mae", fit.dev.mae},
          {"curve", fit.curve}};
}

/// Throws Error for a damaged file.
RatingsFit read_fit(const fs::path& file) {
  std::map<std::string, std::string> metadata;
  RatingsFit fit;
  fit.model = load_ratings_factors(file, &metadata);
  const JsonFile course = JsonFile::parse(file.string() + ": course", metadata["course"]);
  fit.sweeps = course.at<int64_t>("sweeps");
  fit.sweeps_done = course.at<int64_t>("sweeps_done");
  fit.dev = {course.at<double>("rmse"), course.at<double>("mae")};
  fit.curve = course.at<std::vector<double>>("curve");
  return fit;
}

bool all_finite(const RatingsFit& fit) {
  bool out = std::isfinite(fit.dev.rmse) && std::isfinite(fit.dev.mae);
  for (const double value : fit.curve) out = out && std::isfinite(value);
  return out;
}

}  // namespace

const std::set<std::string>& places_of_ratings() {
  static const std::set<std::string> places{"completion.train", "completion.dev", "completion.test"};
  return places;
}

Json ratings_settings(const std::string& resolved) { return deciding_settings(resolved, places_of_ratings()); }

Json data_identity(const RatingsData& data) {
  Json out{{"training ratings", ratings_checksum(data.train)}};
  if (data.dev) out["dev ratings"] = ratings_checksum(*data.dev);
  if (data.test) out["test ratings"] = ratings_checksum(*data.test);
  return out;
}

Json ratings_identity(const std::string& resolved, const RatingsData& data) {
  Json out = ratings_settings(resolved);
  out.update(data_identity(data));
  return out;
}

KeptFits::KeptFits(const fs::path& run, Json identity) : folder_(run / "fits"), identity_(std::move(identity)) {
  const fs::path file = folder_ / "identity.json";
  if (!fs::exists(file)) return;
  const Json saved = Json::parse(read_file(file), nullptr, /*allow_exceptions=*/false);
  check(saved.is_object(), file.string(), ": not a list of settings; remove the folder ", folder_.string(),
        " to begin the fits again");
  check_same_identity(saved, identity_);
}

void KeptFits::begin() const {
  if (fs::exists(folder_ / "identity.json")) return;
  std::error_code ignored;
  fs::remove_all(folder_, ignored);  // without its identity a fit is no one's
  fs::create_directories(folder_);
  write_file_atomically(folder_ / "identity.json", identity_.dump(2) + "\n");
}

RatingsFit KeptFits::operator()(const std::string& name, const std::function<RatingsFit()>& make) const {
  begin();
  const fs::path file = folder_ / (file_name_of(name) + ".safetensors");
  if (fs::exists(file)) {
    try {
      RatingsFit fit = read_fit(file);
      log_info(name, ": kept from before");
      return fit;
    } catch (const Error& e) {
      log_warning(file.string(), " is damaged and made again: ", e.what());
    }
  }
  RatingsFit fit = make();
  if (all_finite(fit)) save_ratings_factors(file, fit.model, {{"course", course_of(fit).dump()}});
  return fit;
}

void KeptFits::remove(const fs::path& run) {
  std::error_code ignored;
  fs::remove_all(run / "fits", ignored);
}

}  // namespace deeplora
