#include "train/run_folder.h"

#include <fcntl.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <ranges>
#include <vector>

#include "core/error.h"
#include "core/leftovers.h"
#include "core/log.h"
#include "train/checkpoint.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

void make_folder(const fs::path& folder) {
  std::error_code failed;
  fs::create_directories(folder, failed);
  check(!failed, "cannot create the run folder ", folder.string(), ": ", failed.message(), "; choose another --run");
}

}  // namespace

void RunFolder::check_empty() const {
  check(!fs::exists(config_file()), "run folder ", path_.string(),
        " holds a run already; continue it with --resume, or choose another --run");
}

RunFolder RunFolder::create(const fs::path& folder) {
  RunFolder run(folder);
  run.fresh_ = true;
  std::error_code unreadable;
  const auto status = fs::status(folder, unreadable);
  if (status.type() == fs::file_type::not_found) return run;
  check(!unreadable, "cannot read the run folder ", folder.string(), ": ", unreadable.message());
  check(fs::is_directory(status), "run folder ", folder.string(), " is a file; choose another --run");
  if (fs::exists(folder / ".lock", unreadable))
    FolderLock probe(folder);  // "in use" says more than "holds a run already"
  run.check_empty();
  std::vector<std::string> strange;
  for (const auto& entry : fs::directory_iterator(folder, unreadable))
    if (entry.path().filename() != ".lock" && !is_leftover(entry.path()))
      strange.push_back(entry.path().filename().string());
  check(!unreadable, "cannot read the run folder ", folder.string(), ": ", unreadable.message());
  check(strange.empty(), "run folder ", folder.string(), " holds files that are not a run's (", join(strange, ", ", 3),
        "); choose an empty or a new folder with --run");
  return run;
}

RunFolder RunFolder::open(const fs::path& folder) {
  RunFolder run(folder);
  std::error_code ignored;
  check(fs::exists(folder, ignored), "run folder ", folder.string(), " does not exist");
  check(fs::is_directory(folder, ignored), folder.string(), " is not a run folder but a file");
  check(fs::exists(run.config_file(), ignored), folder.string(),
        " is not a run folder: it has no config.yaml; expected a folder written by 'deeplora finetune'");
  return run;
}

void RunFolder::lock() {
  if (lock_) return;
  make_folder(path_);
  auto lock = std::make_unique<FolderLock>(path_);
  if (fresh_) check_empty();
  lock_ = std::move(lock);
  remove_leftovers(path_);
  remove_leftovers(checkpoints());
}

void RunFolder::write(const fs::path& file, const std::string& content) {
  make_folder(path_);
  write_file_atomically(file, content);
  fresh_ = false;  // what lock() would find from here on is our own
}

void RunFolder::append_metrics(const nlohmann::ordered_json& row) {
  make_folder(path_);
  const fs::path file = metrics_file();
  const int descriptor = ::open(file.c_str(), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
  check(descriptor >= 0, "cannot write ", file.string(), ": ", std::strerror(errno));
  try {
    write_all(descriptor, row.dump() + "\n", file);
  } catch (...) {
    ::close(descriptor);
    throw;
  }
  check(::close(descriptor) == 0, "cannot write ", file.string(), ": ", std::strerror(errno));
}

void RunFolder::truncate_metrics(uint64_t bytes) {
  const uint64_t size = metrics_size();
  if (size < bytes)
    log_warning(metrics_file().string(), " has ", size, " bytes where the checkpoint saw ", bytes,
                ": some rows are lost");
  if (size <= bytes) return;
  std::error_code failed;
  fs::resize_file(metrics_file(), bytes, failed);
  check(!failed, "cannot write ", metrics_file().string(), ": ", failed.message());
}

uint64_t RunFolder::metrics_size() const {
  std::error_code absent;
  const uint64_t size = fs::file_size(metrics_file(), absent);
  return absent ? 0 : size;
}

std::optional<fs::path> RunFolder::newest_checkpoint() const {
  const auto all = list_checkpoints(checkpoints());
  for (const auto& path : all | std::views::reverse) {
    const std::string defect = checkpoint_defect(path);
    if (defect.empty()) return path;
    log_warning("checkpoint left out: ", defect);
  }
  return std::nullopt;
}

bool RunFolder::finished() const {
  std::error_code ignored;
  return fs::exists(result_file(), ignored);
}

}  // namespace deeplora
