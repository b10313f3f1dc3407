#include "run_options.h"

namespace deeplora {
namespace fs = std::filesystem;

fs::path run_folder_of(const RunOptions& options) {
  return options.run.empty() ? fs::path("runs") / fs::path(options.config).stem() : fs::path(options.run);
}

Config given_config(const RunOptions& options, const char* own_name) {
  Config config = Config::load(options.config.empty() ? run_folder_of(options) / own_name : fs::path(options.config));
  for (const auto& assignment : options.overrides) config.set(assignment);
  return config;
}

}  // namespace deeplora
