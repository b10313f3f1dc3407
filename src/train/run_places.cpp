#include "train/run_places.h"

#include <algorithm>

#include "model_files/exported_program.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// Whether two names stand for the same file, and the same of several programs in it.
bool same_file(const fs::path& a, const fs::path& b) {
  std::error_code ignored;
  const ExportedPlace one = exported_place(a), other = exported_place(b);
  return one.model == other.model && fs::equivalent(one.file, other.file, ignored);
}

}  // namespace

RunPlaces RunPlaces::of(const fs::path& folder, const std::vector<NamedFile>& files, const RunPlaces& before) {
  RunPlaces out;
  out.folder_ = folder;
  std::error_code ignored;
  const fs::path run = fs::absolute(folder, ignored).lexically_normal();
  for (const auto& [key, name] : files) {
    if (name.empty()) continue;
    const fs::path absolute = fs::absolute(name, ignored).lexically_normal();
    Place& place = out.places_[key];
    place = {{}, absolute.lexically_relative(run).string(), absolute.string()};
    if (const auto known = before.places_.find(key); known != before.places_.end() && !known->second.names.empty()) {
      const auto there = before.existing({key, known->second.names.front()}, First::remembered);
      const bool same =
          there.empty() || std::any_of(there.begin(), there.end(),
                                       [&, &file = name](const fs::path& path) { return same_file(path, file); });
      if (same) place.names = known->second.names;
    }
    if (std::find(place.names.begin(), place.names.end(), name.string()) == place.names.end())
      place.names.push_back(name.string());
  }
  return out;
}

RunPlaces RunPlaces::read(const fs::path& folder, const OrderedJsonFile& json) {
  RunPlaces out;
  out.folder_ = folder;
  for (const auto& item : json.root.items()) {
    const auto place = json.section(item.key());
    out.places_[item.key()] = {place.at<std::vector<std::string>>("names"), place.at<std::string>("from_run"),
                               place.at<std::string>("absolute")};
  }
  return out;
}

nlohmann::ordered_json RunPlaces::json() const {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [key, place] : places_)
    out[key] = {{"names", place.names}, {"from_run", place.from_run}, {"absolute", place.absolute}};
  return out;
}

std::vector<fs::path> RunPlaces::candidates(const NamedFile& file, First first) const {
  const auto& [key, named] = file;
  std::vector<fs::path> out;
  const auto found = places_.find(key);
  const auto has_name = [&named = named](const std::vector<std::string>& names) {
    return std::find(names.begin(), names.end(), named.string()) != names.end();
  };
  if (found != places_.end() && has_name(found->second.names)) {
    // Without a trailing slash "runs/x/" would keep an empty last part, and ".." would take that instead of the folder.
    const fs::path folder = folder_.has_filename() ? folder_ : folder_.parent_path();
    out.push_back((folder / found->second.from_run).lexically_normal());
    out.emplace_back(found->second.absolute);
  }
  out.insert(first == First::as_named ? out.begin() : out.end(), named);
  std::vector<fs::path> different;
  for (auto& path : out)
    if (std::find(different.begin(), different.end(), path) == different.end()) different.push_back(std::move(path));
  return different;
}

std::vector<fs::path> RunPlaces::existing(const NamedFile& file, First first) const {
  std::vector<fs::path> out;
  std::error_code ignored;
  for (const auto& path : candidates(file, first)) {
    if (!fs::exists(exported_place(path).file, ignored)) continue;
    const auto same =
        std::find_if(out.begin(), out.end(), [&](const fs::path& other) { return same_file(path, other); });
    if (same == out.end()) out.push_back(path);
    else if (path == file.second) *same = path;
  }
  return out;
}

}  // namespace deeplora
