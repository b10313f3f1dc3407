#include "train/distributed.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/files.h"
#include "train/checkpoint.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// Places in front of the gradients: loss, wish to stop, number of processes with bad rows.
enum Head : int64_t { kLoss, kStop, kBad, kHeadSize };

/// float32, or float64 as soon as one parameter is: a sum of many in bfloat16 would lose what was gained.
torch::Dtype sum_type(const std::vector<torch::Tensor>& parameters) {
  const bool wide = std::any_of(parameters.begin(), parameters.end(),
                                [](const torch::Tensor& p) { return p.scalar_type() == torch::kFloat64; });
  return wide ? torch::kFloat64 : torch::kFloat32;
}

}  // namespace

std::vector<MicroBatch> share_of_step(std::span<const MicroBatch> micro_batches, int64_t batch_size, int rank,
                                      int size) {
  std::vector<MicroBatch> out;
  size_t number = 0;  // of the row within the step
  for (const MicroBatch& batch : micro_batches) {
    MicroBatch mine;
    for (const size_t row : batch)
      if (static_cast<int>(number++ % static_cast<size_t>(size)) == rank) mine.push_back(row);
    if (mine.empty()) continue;
    if (!out.empty() && static_cast<int64_t>(out.back().size() + mine.size()) <= batch_size)
      out.back().insert(out.back().end(), mine.begin(), mine.end());
    else out.push_back(std::move(mine));
  }
  return out;
}

StepSum::StepSum(ProcessGroup& group, const std::vector<ParamGroup>& groups) : group_(group) {
  for (const auto& one : groups)
    for (const auto& parameter : one.params) {
      parameters_.push_back(parameter.value);
      values_ += parameter.value.numel();
    }
}

int64_t StepSum::bytes() const {
  const auto count = kHeadSize + static_cast<int64_t>(parameters_.size()) + values_;
  return count * static_cast<int64_t>(c10::elementSize(sum_type(parameters_)));
}

torch::Tensor StepSum::flatten(const StepLoss& loss, bool stop) const {
  const auto options = torch::TensorOptions()
                           .dtype(sum_type(parameters_))
                           .device(parameters_.empty() ? torch::kCPU : parameters_[0].device());
  std::vector<double> head = {loss.sum, stop ? 1.0 : 0.0, loss.bad_rows.empty() ? 0.0 : 1.0};
  for (const auto& parameter : parameters_) head.push_back(parameter.grad().defined() ? 1.0 : 0.0);
  std::vector<torch::Tensor> parts = {torch::tensor(head, torch::kFloat64).to(options)};
  for (const auto& parameter : parameters_)
    parts.push_back(parameter.grad().defined() ? parameter.grad().reshape({-1}).to(options)
                                               : torch::zeros({parameter.numel()}, options));
  return torch::cat(parts);
}

void StepSum::take_gradients(const torch::Tensor& flat) const {
  const torch::Tensor defined =
      flat.slice(0, kHeadSize, kHeadSize + static_cast<int64_t>(parameters_.size())).to(torch::kCPU, torch::kFloat64);
  int64_t at = kHeadSize + static_cast<int64_t>(parameters_.size());
  for (size_t i = 0; i < parameters_.size(); ++i) {
    torch::Tensor parameter = parameters_[i];
    const torch::Tensor sum = flat.slice(0, at, at + parameter.numel()).view(parameter.sizes());
    at += parameter.numel();
    if (defined[static_cast<int64_t>(i)].item<double>() == 0) continue;
    if (parameter.grad().defined()) parameter.mutable_grad().copy_(sum);
    else parameter.mutable_grad() = sum.to(parameter.scalar_type()).clone();
  }
}

bool StepSum::reduce(StepLoss& loss, bool stop) {
  const torch::NoGradGuard no_grad;
  const torch::Tensor flat = flatten(loss, stop);
  group_.sum(flat);
  take_gradients(flat);
  const torch::Tensor head = flat.slice(0, 0, kHeadSize).to(torch::kCPU, torch::kFloat64);
  loss.sum = head[kLoss].item<double>();
  if (head[kBad].item<double>() > 0) {
    std::vector<std::string> bad;
    for (auto& rows : group_.gather(loss.bad_rows))
      if (!rows.empty()) bad.push_back(std::move(rows));
    loss.bad_rows = join(bad);
  }
  return head[kStop].item<double>() > 0;
}

void broadcast_parameters(ProcessGroup& group, const std::vector<ParamGroup>& groups) {
  std::vector<torch::Tensor> all;
  for (const auto& one : groups)
    for (const auto& parameter : one.params) all.push_back(parameter.value);
  group.broadcast(all);
}

void broadcast_scores(ProcessGroup& group, Scores& scores) {
  torch::Tensor values = torch::empty({static_cast<int64_t>(scores.values.size())}, torch::kFloat64);
  for (size_t i = 0; i < scores.values.size(); ++i) values[static_cast<int64_t>(i)] = scores.values[i].second;
  group.broadcast({values});
  for (size_t i = 0; i < scores.values.size(); ++i)
    scores.values[i].second = values[static_cast<int64_t>(i)].item<double>();
}

void check_same_run(ProcessGroup& group, const nlohmann::ordered_json& identity) {
  const auto leaders = nlohmann::ordered_json::parse(group.broadcast(identity.dump()));
  std::string difference;
  for (const auto& [key, value] : leaders.items()) {
    const auto mine = identity.find(key);
    if (mine != identity.end() && *mine == value) continue;
    difference += cat(difference.empty() ? "" : "; ", key, " is ", mine == identity.end() ? "absent" : mine->dump(),
                      ", with rank 0 ", value.dump());
  }
  Errors errors;
  const auto all = group.gather(difference);
  for (int rank = 0; rank < group.size(); ++rank)
    if (!all[static_cast<size_t>(rank)].empty()) errors.add("rank ", rank, ": ", all[static_cast<size_t>(rank)]);
  errors.throw_if_any(
      "the processes do not train the same run; give all of them the same configuration, model and data");
}

std::optional<fs::path> share_newest_checkpoint(ProcessGroup& group, const RunFolder& folder, const fs::path& scratch) {
  const auto newest = group.leads() ? folder.newest_checkpoint() : std::nullopt;
  const std::string name = group.broadcast(newest ? newest->filename().string() : std::string());
  if (name.empty()) return std::nullopt;
  std::vector<std::string> files;
  if (newest)
    for (const auto& entry : fs::directory_iterator(*newest)) files.push_back(entry.path().filename().string());
  const auto names =
      nlohmann::json::parse(group.broadcast(nlohmann::json(files).dump())).get<std::vector<std::string>>();
  if (!group.leads()) fs::create_directories(scratch / name);
  for (const std::string& file : names) {
    const std::string bytes = group.broadcast(newest ? read_file(*newest / file, "checkpoint") : std::string());
    if (!group.leads()) write_file_atomically(scratch / name / file, bytes);
  }
  return newest ? newest : scratch / name;
}

}  // namespace deeplora
