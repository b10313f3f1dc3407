#include "completion_identity.h"

#include <cctype>
#include <string_view>

#include "core/config.h"
#include "core/files.h"
#include "core/fingerprint.h"
#include "train/checkpoint.h"

namespace deeplora {

nlohmann::ordered_json deciding_settings(const std::string& resolved, const std::set<std::string>& also_free) {
  static const std::set<std::string> kFree = {"completion.title", "completion.threads", "completion.log_every",
                                              "completion.save_every", "completion.keep_checkpoints"};
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [path, value] : settings_of(resolved))
    if (kFree.count(path) == 0 && also_free.count(path) == 0) out[path] = value;
  return out;
}

namespace {

/// Without the settings that say which members a sweep has.
nlohmann::ordered_json without_sweep(const nlohmann::ordered_json& settings) {
  nlohmann::ordered_json out = nlohmann::ordered_json::object();
  for (const auto& [path, value] : settings.items())
    if (!path.starts_with("completion.sweep") && path != "completion.variants" && path != "completion.trials")
      out[path] = value;
  return out;
}

}  // namespace

const std::set<std::string>& free_of_synthetic_runs() {
  static const std::set<std::string> free{"completion.steps", "completion.tolerance", "completion.eval_every"};
  return free;
}

void check_same_settings(const RunFolder& folder, const std::string& resolved, const std::set<std::string>& also_free,
                         bool sweep) {
  std::error_code ignored;
  if (!std::filesystem::exists(folder.config_file(), ignored)) return;
  const bool was_sweep = std::filesystem::exists(folder.path() / "runs", ignored);
  const bool was_single = !was_sweep && (folder.finished() || folder.newest_checkpoint());
  check(!(sweep ? was_single : was_sweep), folder.path().string(), ": this run was begun ", sweep ? "without" : "with",
        " completion.sweep, variants or trials; resume it so, or choose another --run");
  // A checkpoint knows best what it belongs to.
  const auto checkpoint = was_single ? folder.newest_checkpoint() : std::nullopt;
  const auto saved = checkpoint ? read_checkpoint(*checkpoint).identity
                                : deciding_settings(read_file(folder.config_file()), also_free);
  check_same_identity(without_sweep(saved), without_sweep(deciding_settings(resolved, also_free)));
}

std::string file_name_of(const std::string& name) {
  std::string out;
  for (const char c : name)
    out += std::isalnum(static_cast<unsigned char>(c)) || std::string_view("=.+-_").find(c) != std::string_view::npos
               ? c
               : '_';
  constexpr size_t kLongest = 200;  // file systems take 255 bytes; endings and temporary names need some
  if (out.size() <= kLongest) return out;
  Fingerprint print;
  print.add(std::string_view(name));
  return cat(out.substr(0, kLongest - 17), "-", print.hex());
}

}  // namespace deeplora
