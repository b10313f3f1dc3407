// Where the files that a run's configuration names lie, after the run folder, the files or both have moved. Free of LibTorch.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <vector>

#include "core/json_file.h"

namespace deeplora {

/// A run remembers every file relative to its own folder and absolutely, so that it works from any working directory.
class RunPlaces {
 public:
  RunPlaces() = default;
  /// Of a run in `folder` whose configuration names these paths, here and now. Empty paths are left out.
  static RunPlaces of(const std::filesystem::path& folder, const std::vector<std::filesystem::path>& named);
  /// From json() of a run that lies in `folder` now; knows nothing where `json` is empty (runs of earlier versions).
  static RunPlaces read(const std::filesystem::path& folder, const OrderedJsonFile& json);
  nlohmann::ordered_json json() const;

  /// Where `named` may lie, in the order of trust: beside the run as it lay then, where it lay then, as it is named.
  std::vector<std::filesystem::path> candidates(const std::filesystem::path& named) const;
  /// The first candidate that exists; `named` itself where none does.
  std::filesystem::path find(const std::filesystem::path& named) const;

 private:
  std::filesystem::path folder_;
  /// As named -> {relative to the run folder, absolute}.
  std::map<std::string, std::pair<std::string, std::string>> places_;
};

}  // namespace deeplora
