// The files that a run or a comparison names, found again from any working directory and after they have moved.
#pragma once

#include "core/config.h"
#include "model_files/model_files.h"
#include "train/run_places.h"

namespace deeplora {

/// The files and folders that a configuration names, by key; of a comparison those of its methods too
/// ("compare.methods.0.adapter.path").
std::vector<NamedFile> named_files(const Config& config);

/// Whether such a key of one run names a file, which may move: what is in it counts.
bool names_a_file(const std::string& key);

/// places.json of the run or comparison in `folder`; knows nothing where there is none (earlier versions).
RunPlaces read_places(const std::filesystem::path& folder);
/// Writes places.json there, of what the configuration `yaml` names from here.
void write_places(const std::filesystem::path& folder, const std::string& yaml);

/// Sets a key to a path, whatever characters that has.
void set_path(Config& config, const std::string& key, const std::filesystem::path& path);

/// Puts into `config` where each file lies now; names that are found nowhere stay. Of several models that may be meant,
/// the one with that fingerprint is taken. Keys that the command line set are the user's own and stay.
void find_moved_files(Config& config, const RunPlaces& places, RunPlaces::First first,
                      const std::string& fingerprint = {});

/// Throws Error unless the file is there: "model m.pt of RUN does not exist: looked at ...; HINT".
void check_is_there(const RunPlaces& places, const NamedFile& file, const std::filesystem::path& run,
                    const std::string& hint);

/// Throws Error unless these are the same: the fingerprint of the model that the run was trained on, and that of the
/// files `found` at `model`.
void check_recognised(const std::filesystem::path& run, const std::string& expected, const std::filesystem::path& model,
                      const ModelFiles& found);

}  // namespace deeplora
