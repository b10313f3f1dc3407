#include "core/findings.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <ctime>
#include <fstream>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/error.h"
#include "core/fingerprint.h"
#include "core/system.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr time_t kSettled = 2;     ///< seconds: the coarsest times that file systems in use give files
constexpr size_t kMostKept = 512;  ///< files of a few hundred bytes

/// Process-wide like the log: files are opened in many places, and none of them decides it.
struct Keeping {
  fs::path folder;
  bool recompute = false;
};

Keeping& keeping() {
  static Keeping one;
  return one;
}

/// Of all files; empty where one of them is not there, or was changed too lately.
std::string state_of(const std::vector<fs::path>& files) {
  std::string out = host_name();
  const time_t now = std::time(nullptr);
  for (const fs::path& file : files) {
    struct stat s = {};
    std::error_code failed;
    const fs::path whole = fs::absolute(file, failed);
    if (failed || ::stat(file.c_str(), &s) != 0) return {};
    if (std::max(s.st_mtim.tv_sec, s.st_ctim.tv_sec) + kSettled > now) return {};
    out += cat("\n", whole.string(), " ", s.st_dev, " ", s.st_ino, " ", s.st_size, " ", s.st_mtim.tv_sec, ".",
               s.st_mtim.tv_nsec, " ", s.st_ctim.tv_sec, ".", s.st_ctim.tv_nsec);
  }
  return out;
}

/// The oldest of them, where there are too many.
void make_room(const fs::path& folder) {
  std::error_code ignored;
  std::vector<std::pair<fs::file_time_type, fs::path>> all;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.path().extension() == ".json") all.emplace_back(entry.last_write_time(ignored), entry.path());
  if (all.size() < kMostKept) return;
  std::sort(all.begin(), all.end());
  for (size_t i = 0; i + kMostKept <= all.size(); ++i) fs::remove(all[i].second, ignored);
}

}  // namespace

void keep_findings(fs::path folder, bool recompute) { keeping() = {std::move(folder), recompute}; }

fs::path user_cache_folder() {
  for (const auto& [name, below] : {std::pair("XDG_CACHE_HOME", "deeplora"), std::pair("HOME", ".cache/deeplora")}) {
    const char* folder = std::getenv(name);
    if (folder != nullptr && *folder == '/') return fs::path(folder) / below;  // others are to be ignored, XDG says
  }
  return {};
}

Findings::Findings(std::string kind, std::vector<fs::path> files) : kind_(std::move(kind)), files_(std::move(files)) {
  if (!keeping().folder.empty()) state_ = state_of(files_);
}

fs::path Findings::place() const {
  Fingerprint name;  // of what stays: the file of a model that changed is written over
  name.add(std::string_view(kind_));
  name.add(std::string_view(host_name()));
  std::error_code ignored;
  for (const fs::path& file : files_) name.add(std::string_view(fs::absolute(file, ignored).string()));
  return keeping().folder / (name.hex() + ".json");
}

std::optional<std::string> Findings::known() const {
  if (state_.empty() || keeping().folder.empty() || keeping().recompute) return std::nullopt;
  std::ifstream in(place());
  const auto kept = nlohmann::json::parse(in, nullptr, /*allow_exceptions=*/false);
  if (!kept.is_object()) return std::nullopt;
  const auto text = [&](const char* key) {
    const auto found = kept.find(key);
    return found != kept.end() && found->is_string() ? found->get<std::string>() : std::string();
  };
  const std::string found = text("found");
  if (text("kind") != kind_ || text("files") != state_ || found.empty()) return std::nullopt;
  return found;
}

void Findings::remember(const std::string& found) const {
  if (state_.empty() || keeping().folder.empty() || state_of(files_) != state_) return;
  std::error_code failed;
  fs::create_directories(keeping().folder, failed);
  if (failed) return;
  make_room(keeping().folder);
  const fs::path file = place(), whole = cat(file.string(), ".", ::getpid());
  {  // not flushed to the disk: what is lost there is found again
    std::ofstream out(whole);
    out << nlohmann::json{{"kind", kind_}, {"files", state_}, {"found", found}}.dump(
        1, ' ', false, nlohmann::json::error_handler_t::replace);
    if (!out.flush()) failed = std::make_error_code(std::errc::io_error);
  }
  if (!failed) fs::rename(whole, file, failed);
  if (failed) fs::remove(whole, failed);
}

}  // namespace deeplora
