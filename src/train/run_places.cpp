#include "train/run_places.h"

#include <algorithm>

namespace deeplora {
namespace fs = std::filesystem;

RunPlaces RunPlaces::of(const fs::path& folder, const std::vector<fs::path>& named) {
  RunPlaces out;
  out.folder_ = folder;
  std::error_code ignored;
  const fs::path run = fs::absolute(folder, ignored).lexically_normal();
  for (const auto& name : named) {
    if (name.empty()) continue;
    const fs::path absolute = fs::absolute(name, ignored).lexically_normal();
    out.places_[name.string()] = {absolute.lexically_relative(run).string(), absolute.string()};
  }
  return out;
}

RunPlaces RunPlaces::read(const fs::path& folder, const OrderedJsonFile& json) {
  RunPlaces out;
  out.folder_ = folder;
  for (const auto& [name, unused] : json.root.items()) {
    const auto pair = json.section(name);
    out.places_[name] = {pair.value("from_run", std::string()), pair.value("absolute", std::string())};
  }
  return out;
}

nlohmann::ordered_json RunPlaces::json() const {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [name, place] : places_) out[name] = {{"from_run", place.first}, {"absolute", place.second}};
  return out;
}

std::vector<fs::path> RunPlaces::candidates(const fs::path& named) const {
  std::vector<fs::path> out;
  const auto found = places_.find(named.string());
  if (found != places_.end()) {
    const auto& [from_run, absolute] = found->second;
    if (!from_run.empty()) out.push_back((folder_ / from_run).lexically_normal());
    if (!absolute.empty()) out.emplace_back(absolute);
  }
  out.push_back(named);
  return out;
}

fs::path RunPlaces::find(const fs::path& named) const {
  const auto all = candidates(named);
  std::error_code ignored;
  const auto there = std::find_if(all.begin(), all.end(), [&](const fs::path& path) { return fs::exists(path, ignored); });
  return there == all.end() ? named : *there;
}

}  // namespace deeplora
