#include "train/checkpoint.h"

#include <fcntl.h>
#include <torch/torch.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <map>
#include <tuple>

#include "core/files.h"
#include "train/checkpoint_numbers.h"
#include "train/fingerprint.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

using Json = nlohmann::ordered_json;

constexpr const char* kTensors = "state.pt";
constexpr const char* kNumbers = "state.json";
constexpr const char* kBest = "best.safetensors";
constexpr std::string_view kFormer = ".former";

c10::IValue pack(const std::vector<NamedTensor>& tensors) {
  c10::Dict<std::string, torch::Tensor> dict;
  for (const auto& [name, value] : tensors) {
    // A view would drag its whole storage into the file.
    const bool whole = value.is_contiguous() && value.storage().nbytes() == value.nbytes();
    dict.insert(name, whole ? value : value.clone(torch::MemoryFormat::Contiguous));
  }
  return dict;
}

std::vector<NamedTensor> unpack(const c10::IValue& value) {
  std::vector<NamedTensor> out;
  for (const auto& entry : value.toGenericDict()) out.push_back({entry.key().toStringRef(), entry.value().toTensor()});
  return out;
}

std::string tensor_bytes(const Checkpoint& checkpoint) {
  c10::Dict<std::string, c10::Dict<std::string, torch::Tensor>> all;
  const auto dict = [](const std::vector<NamedTensor>& tensors) {
    return pack(tensors).to<c10::Dict<std::string, torch::Tensor>>();
  };
  all.insert("parameters", dict(checkpoint.parameters));
  all.insert("optimizer", dict(checkpoint.optimizer));
  all.insert("generators", dict(checkpoint.generators));
  const std::vector<char> bytes = torch::pickle_save(c10::IValue(all));
  return std::string(bytes.begin(), bytes.end());
}

/// A copy, not a hard link: damage to one checkpoint's file must not reach the others'.
void copy_whole(const fs::path& from, const fs::path& to) {
  std::error_code failed;
  fs::copy_file(from, to, fs::copy_options::overwrite_existing, failed);
  check(!failed, "cannot copy ", from.string(), " to ", to.string(), ": ", failed.message());
}

CheckpointNumbers read_numbers(const fs::path& folder) {
  return CheckpointNumbers::parse((folder / kNumbers).string(), read_file(folder / kNumbers, "checkpoint"));
}

/// The bytes of each file that state.json names.
std::map<std::string, std::string> read_checked_files(const fs::path& folder, const CheckpointNumbers& numbers) {
  std::map<std::string, std::string> out;
  for (const auto& [name, checksum] : numbers.files) {
    check(name == kTensors || name == kBest, (folder / kNumbers).string(), ": files: '", name,
          "' is no file of a checkpoint");
    std::string bytes = read_file(folder / name, "checkpoint");
    check(checksum == fingerprint(bytes), (folder / name).string(), " is damaged: its checksum is wrong");
    out.emplace(name, std::move(bytes));
  }
  check(out.count(kTensors) > 0, (folder / kNumbers).string(), ": files: ", kTensors, " is missing");
  return out;
}

/// Where a checkpoint waits until another of its step has its name; list_checkpoints() knows it there too.
fs::path former_of(const fs::path& checkpoint) { return checkpoint.string() + std::string(kFormer); }

/// A folder cannot be renamed over another: a checkpoint of this step steps aside, so that a kill at any moment leaves
/// a whole one.
void make_way(const fs::path& target) {
  std::error_code failed;
  if (!fs::exists(target, failed)) return;
  if (!checkpoint_defect(target).empty()) {
    fs::remove_all(target, failed);
    return;
  }
  fs::remove_all(former_of(target), failed);
  fs::rename(target, former_of(target), failed);
  check(!failed, "cannot write ", target.string(), ": ", failed.message());
}

/// Throws Error when the file is there, or may be, and does not open.
void check_readable(const fs::path& file) {
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  if (descriptor >= 0) ::close(descriptor);
  const bool absent = descriptor < 0 && (errno == ENOENT || errno == ENOTDIR);
  check(descriptor >= 0 || absent, "checkpoint ", file.string(), " cannot be read: ", std::strerror(errno),
        "; it is kept");
}

void remove_outdated(const RunFolder& folder, int64_t step, int64_t keep) {
  const fs::path newest = checkpoint_path(folder, step);
  auto all = list_checkpoints(folder.checkpoints());
  const auto end = std::find(all.begin(), all.end(), newest) + 1;
  const int64_t too_many = std::max<int64_t>(0, (end - all.begin()) - std::max<int64_t>(1, keep));
  std::vector<fs::path> outdated(all.begin(), all.begin() + too_many);
  outdated.insert(outdated.end(), end, all.end());
  for (const auto& path : outdated) {
    std::error_code ignored;  // an old checkpoint that cannot be removed costs space, not the run
    fs::remove_all(path, ignored);
  }
}

}  // namespace

fs::path checkpoint_path(const RunFolder& folder, int64_t step) {
  std::string digits = std::to_string(step);
  digits.insert(0, digits.size() < 8 ? 8 - digits.size() : 0, '0');
  return folder.checkpoints() / ("step-" + digits);
}

void write_checkpoint(const RunFolder& folder, const Checkpoint& checkpoint, int64_t keep) {
  const fs::path target = checkpoint_path(folder, checkpoint.state.step);
  std::error_code failed;
  fs::create_directories(folder.checkpoints(), failed);
  check(!failed, "cannot create ", folder.checkpoints().string(), ": ", failed.message());
  write_folder_atomically(target, [&](const fs::path& temporary) {
    const std::string tensors = tensor_bytes(checkpoint);
    write_file_atomically(temporary / kTensors, tensors);
    CheckpointNumbers numbers{
        checkpoint.state, checkpoint.identity, checkpoint.movement, {{kTensors, fingerprint(tensors)}}};
    if (checkpoint.state.best) {
      copy_whole(folder.adapter_file(), temporary / kBest);
      numbers.files[kBest] = fingerprint(read_file(temporary / kBest, "checkpoint"));
    }
    write_file_atomically(temporary / kNumbers, numbers.text());
    make_way(target);
  });
  fs::remove_all(former_of(target), failed);
  remove_outdated(folder, checkpoint.state.step, keep);
}

Checkpoint read_checkpoint(const fs::path& folder) {
  try {
    CheckpointNumbers numbers = read_numbers(folder);
    const auto files = read_checked_files(folder, numbers);
    Checkpoint out;
    out.state = std::move(numbers.state);
    out.identity = std::move(numbers.identity);
    out.movement = std::move(numbers.movement);
    const std::string& bytes = files.at(kTensors);
    const c10::IValue tensors = torch::pickle_load(std::vector<char>(bytes.begin(), bytes.end()));
    const auto groups = tensors.toGenericDict();
    out.parameters = unpack(groups.at("parameters"));
    out.optimizer = unpack(groups.at("optimizer"));
    out.generators = unpack(groups.at("generators"));
    return out;
  } catch (const c10::Error& e) {
    fail((folder / kTensors).string(), " is damaged: ", e.what_without_backtrace());
  } catch (const std::out_of_range&) {
    fail((folder / kTensors).string(), " is damaged: an entry is missing");
  }
}

void restore_best_adapter(const fs::path& checkpoint, const RunFolder& folder) {
  const fs::path best = checkpoint / kBest;
  if (fs::exists(best)) {
    write_file_atomically(folder.adapter_file(), [&](const fs::path& temporary) { copy_whole(best, temporary); });
  } else {
    std::error_code absent;
    fs::remove(folder.adapter_file(), absent);
  }
}

std::string checkpoint_defect(const fs::path& folder) {
  for (const char* name : {kNumbers, kTensors, kBest}) check_readable(folder / name);
  try {
    read_checked_files(folder, read_numbers(folder));
    return "";
  } catch (const Error& e) {
    return e.what();
  }
}

std::vector<fs::path> list_checkpoints(const fs::path& checkpoints) {
  std::vector<std::tuple<int64_t, bool, fs::path>> found;
  std::error_code absent;
  for (const auto& entry : fs::directory_iterator(checkpoints, absent)) {
    std::string name = entry.path().filename().string();
    const bool former = name.ends_with(kFormer);
    if (former) name.resize(name.size() - kFormer.size());
    const std::string digits = name.substr(std::min<size_t>(5, name.size()));
    const bool numbered = name.starts_with("step-") && !digits.empty() && digits.size() < 18 &&
                          digits.find_first_not_of("0123456789") == std::string::npos;
    if (numbered && entry.is_directory()) found.emplace_back(std::stoll(digits), !former, entry.path());
  }
  std::sort(found.begin(), found.end());
  std::vector<fs::path> out;
  for (auto& [step, newer, path] : found) out.push_back(std::move(path));
  return out;
}

void check_same_identity(const Json& saved, const Json& now) {
  Errors errors;
  for (const auto& [key, value] : saved.items()) {
    if (!now.contains(key)) errors.add(key, " was ", value.dump(), ", now absent");
    else if (now[key] != value) errors.add(key, " was ", value.dump(), ", now ", now[key].dump());
  }
  for (const auto& [key, value] : now.items())
    if (!saved.contains(key)) errors.add(key, " was absent, now ", value.dump());
  errors.throw_if_any(
      "this run cannot go on, because it was begun otherwise; take the former values or choose another "
      "--run");
}

void restore_parameters(const std::vector<NamedTensor>& saved, const std::vector<ParamGroup>& groups) {
  const torch::NoGradGuard no_grad;
  std::map<std::string, torch::Tensor> left;
  for (const auto& [name, value] : saved) left[name] = value;
  Errors errors;
  std::vector<std::pair<torch::Tensor, torch::Tensor>> copies;
  for (const auto& group : groups)
    for (const auto& [name, value] : group.params) {
      const auto found = left.find(name);
      if (found == left.end()) {
        errors.add(name, " is trained now but not in the checkpoint");
        continue;
      }
      const torch::Tensor& before = found->second;
      if (before.sizes() != value.sizes() || before.scalar_type() != value.scalar_type())
        errors.add(name, " was ", before.sizes(), " ", before.scalar_type(), ", now ", value.sizes(), " ",
                   value.scalar_type());
      copies.emplace_back(value, before);
      left.erase(found);
    }
  for (const auto& [name, value] : left) errors.add(name, " is in the checkpoint but not trained now");
  errors.throw_if_any("the checkpoint does not fit this model and adapter");
  for (auto& [to, from] : copies) to.copy_(from);
}

std::vector<NamedTensor> copy_parameters(const std::vector<ParamGroup>& groups) {
  std::vector<NamedTensor> out;
  for (const auto& group : groups)
    for (const auto& [name, value] : group.params)
      out.push_back({name, value.detach().to(torch::kCPU, /*non_blocking=*/false, /*copy=*/true)});
  return out;
}

}  // namespace deeplora
