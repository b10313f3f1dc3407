// Where the files that a run's configuration names lie, after the run folder, the files or both have moved. Free of
// LibTorch.
#pragma once

#include <filesystem>
#include <map>
#include <string>
#include <utility>
#include <vector>

#include "core/json_file.h"

namespace deeplora {

/// A key of the configuration and the file or folder that it names.
using NamedFile = std::pair<std::string, std::filesystem::path>;

/// A run remembers every file relative to its own folder and absolutely, so that it works from any working directory.
class RunPlaces {
 public:
  RunPlaces() = default;
  /// Of a run in `folder` whose configuration names these files, here and now. Empty names are left out. A file that
  /// `before`, of the same run, knew under another name keeps that name too: the configuration that the user typed has
  /// it. So does one whose old place is empty: it was moved.
  static RunPlaces of(const std::filesystem::path& folder, const std::vector<NamedFile>& files,
                      const RunPlaces& before = {});
  /// From json() of a run that lies in `folder` now. Throws Error when that is not what json() writes.
  static RunPlaces read(const std::filesystem::path& folder, const OrderedJsonFile& json);
  /// {"model.path": {"names": [...], "from_run", "absolute"}, ...}
  nlohmann::ordered_json json() const;

  enum class First { remembered, as_named };
  /// Where the file may lie, in the order of trust: beside the run as it lay then, where it lay then, as it is named
  /// from here. A name that somebody typed here and now comes first (`as_named`). Only the name itself where the run
  /// remembers another name under that key, or none (runs of earlier versions).
  std::vector<std::filesystem::path> candidates(const NamedFile& file, First first) const;
  /// Those that exist, each file once; the name itself where it is the same file as a better candidate.
  std::vector<std::filesystem::path> existing(const NamedFile& file, First first) const;

 private:
  struct Place {
    std::vector<std::string> names;
    std::string from_run, absolute;
  };
  std::filesystem::path folder_;
  std::map<std::string, Place> places_;  ///< by key
};

}  // namespace deeplora
