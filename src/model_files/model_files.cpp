#include "model_files/model_files.h"

#include <torch/torch.h>

#include <algorithm>
#include <atomic>
#include <set>

#include "core/fingerprint.h"
#include "core/long_work.h"
#include "core/parallel.h"

namespace deeplora {
namespace {

/// The first NaN or Infinity outside of strings; empty without one.
std::string number_that_json_lacks(std::string_view text) {
  bool inside = false;
  for (size_t i = 0; i < text.size(); ++i) {
    if (text[i] == '"') inside = !inside;
    else if (inside && text[i] == '\\') ++i;
    else if (!inside)
      for (const char* word : {"NaN", "Infinity", "-Infinity"})
        if (text.substr(i).starts_with(word)) return word;
  }
  return {};
}

/// Whether a number of these bits is an infinity or NaN: its exponent has no zero.
template <class Bits>
bool any_without_zero_in(Bits exponent, const void* numbers, int64_t count) {
  const Bits* bits = static_cast<const Bits*>(numbers);
  std::atomic<bool> found{false};
  parallel_rows(count, 1, [&](int64_t first, int64_t some) {
    Bits any = 0;
    for (int64_t i = first; i < first + some; ++i)
      any = static_cast<Bits>(any | static_cast<Bits>((bits[i] & exponent) == exponent));
    if (any) found = true;
  });
  return found;
}

/// One pass over the bytes; LibTorch's isfinite() takes several, and a mask of the tensor's size.
bool is_finite(const torch::Tensor& value) {
  if (value.device().is_cpu() && value.is_contiguous()) {
    const void* numbers = value.const_data_ptr();
    switch (value.scalar_type()) {
      case torch::kFloat64: return !any_without_zero_in<uint64_t>(0x7ff0000000000000U, numbers, value.numel());
      case torch::kFloat32: return !any_without_zero_in<uint32_t>(0x7f800000U, numbers, value.numel());
      case torch::kHalf: return !any_without_zero_in<uint16_t>(0x7c00U, numbers, value.numel());
      case torch::kBFloat16: return !any_without_zero_in<uint16_t>(0x7f80U, numbers, value.numel());
      default: break;
    }
  }
  return torch::isfinite(value).all().item<bool>();
}

}  // namespace

std::vector<std::string> ModelFiles::names() const {
  std::vector<std::string> out;
  for (const auto& [name, unused] : tensors_) out.push_back(name);
  return out;
}

const torch::Tensor& ModelFiles::tensor(const std::string& name) const {
  const auto found = index_.find(name);
  if (found == index_.end()) fail("model ", file_.string(), " has no weight '", name, "'", did_you_mean(name, names()));
  return tensors_[found->second].value;
}

void ModelFiles::set_tensor(const std::string& name, const torch::Tensor& value) {
  torch::NoGradGuard no_grad;
  torch::Tensor target = tensor(name);
  check(target.sizes() == value.sizes(), name, ": expected shape ", target.sizes(), ", found ", value.sizes());
  target.copy_(value);
}

void ModelFiles::add_tensor(std::string name, torch::Tensor value) {
  index_.emplace(name, tensors_.size());
  tensors_.push_back({std::move(name), std::move(value)});
}

void ModelFiles::put_head(ClassHead head, std::vector<NamedTensor> started) {
  fingerprint();  // of what the files hold
  class_head_ = std::move(head);
  started_ = std::move(started);
  tensors_.insert(tensors_.begin() + static_cast<std::ptrdiff_t>(parameters_), started_.begin(), started_.end());
  parameters_ += started_.size();
  index_.clear();
  for (size_t i = 0; i < tensors_.size(); ++i) index_.emplace(tensors_[i].name, i);
}

bool ModelFiles::is_started(const std::string& name) const {
  return std::any_of(started_.begin(), started_.end(), [&](const NamedTensor& tensor) { return tensor.name == name; });
}

void ModelFiles::check_finite() const {
  torch::NoGradGuard no_grad;
  LongWork work("checking the weights", static_cast<int64_t>(parameters_));
  for (size_t i = 0; i < parameters_; ++i) {
    work.advance();
    const auto& [name, value] = tensors_[i];
    const bool finite = !value.is_floating_point() || is_finite(value);
    checked(value);
    if (finite) continue;
    const torch::Tensor bad = torch::isfinite(value).logical_not().nonzero();
    std::vector<int64_t> place;
    torch::Tensor entry = value;
    for (int64_t d = 0; d < bad.size(1); ++d) {
      place.push_back(bad[0][d].item<int64_t>());
      entry = entry[place.back()];
    }
    fail("model ", file_.string(), ": weight ", name, " holds ", entry.item<double>(), " at [", join(place), "] (",
         bad.size(0), " of ", value.numel(),
         " values are not finite); expected finite numbers: the file is damaged, or was saved after a training that "
         "diverged");
  }
}

void ModelFiles::check_same(const ModelFiles& other) const {
  check(fingerprint() == other.fingerprint(), "model ", file_.string(), " changed while it was in use (fingerprint ",
        other.fingerprint(), ", now ", fingerprint(), "); put the original model back and start again");
}

void ModelFiles::leave_widened(const std::vector<NamedTensor>& taken) const {
  for (const auto& [name, value] : taken)
    if (has(name) && tensor(name).scalar_type() != value.scalar_type()) stored_->take_over(tensor(name));
}

int64_t ModelFiles::parameter_count() const {
  int64_t count = 0;
  std::set<std::pair<const void*, int64_t>> places;  // a tied table has several names
  for (size_t i = 0; i < parameters_; ++i) {
    const torch::Tensor& value = tensors_[i].value;
    const bool fresh = value.numel() == 0 || places.insert({value.const_data_ptr(), value.numel()}).second;
    count += fresh ? value.numel() : 0;
  }
  return count;
}

std::optional<std::string> ModelFiles::extra(const std::string& name) const {
  const auto found = extras_.find(name);
  if (found == extras_.end()) return std::nullopt;
  return found->second;
}

JsonFile ModelFiles::json(const std::string& name) const {
  const std::string where = cat("model ", file_.string(), ": ", name);
  const auto found = extras_.find(name);
  if (found == extras_.end()) return JsonFile{where};
  const std::string bare = number_that_json_lacks(found->second);
  check(bare.empty(), where, ": holds ", bare,
        ", which Python writes and JSON does not have; put a number or null in its place");
  return JsonFile::parse(where, found->second);
}

void ModelFiles::read_settings() {
  config_ = json("config.json");
  export_info_ = json("export.json");
  deeplora_info_ = json("deeplora.json");
}

const std::string& ModelFiles::fingerprint() const {
  if (!fingerprint_.empty()) return fingerprint_;
  Fingerprint print;
  LongWork work("reading the weights", static_cast<int64_t>(tensors_.size()));
  for (const auto& [name, value] : tensors_) {
    work.advance();
    const torch::Tensor bytes = value.detach().to(torch::kCPU).contiguous();
    print.add(std::string_view(name));
    print.add(std::span<const int64_t>(bytes.sizes().data(), bytes.sizes().size()));
    print.add(static_cast<int64_t>(bytes.scalar_type()));
    print.add(bytes.const_data_ptr(), bytes.nbytes());
    checked(value);
  }
  return fingerprint_ = print.hex();
}

}  // namespace deeplora
