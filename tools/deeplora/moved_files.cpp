#include "moved_files.h"

#include <algorithm>

#include "core/files.h"
#include "model_files/exported_program.h"
#include "model_files/registration.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr const char* kPlacesFile = "places.json";
/// Section and key of everything that names a file; the first three may be a compared method's own.
constexpr std::pair<const char*, const char*> kFileKeys[] = {{"model", "path"},   {"model", "tokenizer"},
                                                             {"adapter", "path"}, {"data", "train"},
                                                             {"data", "dev"},     {"data", "test"}};

/// The model with that fingerprint; the first where none has it.
fs::path recognised(const std::vector<fs::path>& models, const std::string& fingerprint) {
  if (models.size() == 1 || fingerprint.empty()) return models.front();
  const auto is_it = [&](const fs::path& path) {
    try {
      return open_model_files(path)->is(fingerprint);
    } catch (const Error&) {
      return false;
    }
  };
  const auto found = std::find_if(models.begin(), models.end(), is_it);
  return found == models.end() ? models.front() : *found;
}

}  // namespace

std::vector<NamedFile> named_files(const Config& config) {
  const Config reader = config.copy();  // whose mistakes nobody is told
  std::vector<std::string> prefixes{""};
  for (size_t i = 0; i < reader.section("compare").items("methods").size(); ++i)
    prefixes.push_back(cat("compare.methods.", i, "."));
  std::vector<NamedFile> out;
  for (const auto& prefix : prefixes)
    for (const auto& [section, key] : kFileKeys) {
      fs::path named;
      reader.section(prefix + section).read(key, named, "");
      if (!named.empty()) out.emplace_back(cat(prefix, section, ".", key), named);
    }
  return out;
}

bool names_a_file(const std::string& key) {
  return std::any_of(std::begin(kFileKeys), std::end(kFileKeys),
                     [&key](const auto& file) { return key == cat(file.first, ".", file.second); });
}

RunPlaces read_places(const fs::path& folder) {
  const fs::path file = folder / kPlacesFile;
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return {};
  return RunPlaces::read(folder, OrderedJsonFile::parse(file.string(), read_file(file, "places of a run's files")));
}

void write_places(const fs::path& folder, const std::string& yaml) {
  const auto json = RunPlaces::of(folder, named_files(Config::parse(yaml)), read_places(folder)).json();
  write_file_atomically(folder / kPlacesFile,
                        json.dump(2, ' ', false, nlohmann::ordered_json::error_handler_t::replace) + "\n");
}

void set_path(Config& config, const std::string& key, const fs::path& path) {
  config.set(key + "=" + nlohmann::json(path.string()).dump(-1, ' ', false, nlohmann::json::error_handler_t::replace));
}

void find_moved_files(Config& config, const RunPlaces& places, RunPlaces::First first, const std::string& fingerprint) {
  for (const auto& file : named_files(config)) {
    const auto& [key, named] = file;
    if (config.is_overridden(key)) continue;
    const auto existing = places.existing(file, first);
    if (existing.empty()) continue;
    const bool typed_here = first == RunPlaces::First::as_named &&
                            existing.front() == named;  // another model there is refused, not passed over
    const fs::path found = key == "model.path" && !typed_here ? recognised(existing, fingerprint) : existing.front();
    if (found != named) set_path(config, key, found);
  }
}

void check_is_there(const RunPlaces& places, const NamedFile& file, const fs::path& run, const std::string& hint) {
  const auto& [key, named] = file;
  std::error_code ignored;
  if (fs::exists(exported_place(named).file, ignored)) return;
  std::vector<std::string> looked;
  for (const auto& path : places.candidates(file, RunPlaces::First::remembered)) looked.push_back(path.string());
  fail(key == "model.path" ? "model" : key, " ", named.string(), " of ", run.string(), " does not exist: looked at ",
       join(looked, ", ", looked.size()), "; ", hint);
}

void check_recognised(const fs::path& run, const std::string& expected, const fs::path& model,
                      const ModelFiles& found) {
  check(found.is(expected), "run ", run.string(), " was trained on a model with fingerprint ", expected, ", but ",
        model.string(), " has ", found.fingerprint(),
        "; put the original model back, or say with --model PATH where it lies now");
}

}  // namespace deeplora
