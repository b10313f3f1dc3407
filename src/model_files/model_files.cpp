#include "model_files/model_files.h"

#include <torch/torch.h>

#include <algorithm>
#include <atomic>
#include <set>

#include "core/fingerprint.h"
#include "core/long_work.h"
#include "core/log.h"
#include "core/parallel.h"
#include "core/stage.h"

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
bool any_without_zero_in(Bits exponent, const void* numbers, size_t bytes) {
  const Bits* bits = static_cast<const Bits*>(numbers);
  Bits any = 0;
  for (size_t i = 0; i < bytes / sizeof(Bits); ++i)
    any = static_cast<Bits>(any | static_cast<Bits>((bits[i] & exponent) == exponent));
  return any != 0;
}

/// Whether some bytes of a tensor hold an infinity or NaN; null for types of which LibTorch has to be asked.
using Unbounded = bool (*)(const void* numbers, size_t bytes);
Unbounded unbounded_of(torch::ScalarType type) {
  switch (type) {
    case torch::kFloat64:
      return [](const void* x, size_t n) { return any_without_zero_in<uint64_t>(0x7ff0000000000000U, x, n); };
    case torch::kFloat32:
      return [](const void* x, size_t n) { return any_without_zero_in<uint32_t>(0x7f800000U, x, n); };
    case torch::kHalf: return [](const void* x, size_t n) { return any_without_zero_in<uint16_t>(0x7c00U, x, n); };
    case torch::kBFloat16: return [](const void* x, size_t n) { return any_without_zero_in<uint16_t>(0x7f80U, x, n); };
    default: return nullptr;
  }
}

/// torch::isfinite(), which knows no numbers of 8 bits.
torch::Tensor finite_entries(const torch::Tensor& value) {
  return torch::isfinite(value.element_size() == 1 ? value.to(torch::kFloat32) : value);
}

/// What one visit of a tensor's bytes finds.
struct ByteVisit {
  std::vector<int64_t> checksums;  ///< of its megabytes
  bool finite = true;
};

/// In threads, each megabyte while it is in the cache; the same for any number of threads.
ByteVisit visit_bytes(const torch::Tensor& value) {
  constexpr size_t kPiece = size_t{1} << 20;
  const torch::Tensor whole = value.detach().to(torch::kCPU).contiguous();
  const Unbounded unbounded = unbounded_of(whole.scalar_type());
  const char* bytes = static_cast<const char*>(whole.const_data_ptr());
  const size_t count = whole.nbytes(), pieces = (count + kPiece - 1) / kPiece;
  ByteVisit out;
  out.checksums.resize(pieces);
  std::atomic<bool> finite{true};
  parallel_parts(static_cast<int64_t>(pieces), [&](int64_t piece) {
    const size_t begin = static_cast<size_t>(piece) * kPiece, size = std::min(kPiece, count - begin);
    Fingerprint print;
    print.add(bytes + begin, size);
    out.checksums[static_cast<size_t>(piece)] = static_cast<int64_t>(print.value());
    if (unbounded && unbounded(bytes + begin, size)) finite = false;
  });
  out.finite = finite;
  if (!unbounded && whole.is_floating_point()) out.finite = finite_entries(whole).all().item<bool>();
  return out;
}

/// What stands before a tensor's bytes.
void add_form(Fingerprint& print, const std::string& name, const torch::Tensor& value) {
  print.add(std::string_view(name));
  print.add(std::span<const int64_t>(value.sizes().data(), value.sizes().size()));
  print.add(static_cast<int64_t>(value.scalar_type()));
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
  changed_ = true;
  looked_ = false;
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
  if (!looked_) look();
  if (!not_finite_) return;
  const torch::NoGradGuard no_grad;
  const auto& [name, value] = tensors_[*not_finite_];
  const torch::Tensor bad = finite_entries(value).logical_not().nonzero();
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

void ModelFiles::check_untouched() const {
  const auto touched = stored_ ? stored_->written_over() : std::filesystem::path();
  check(touched.empty(), "model ", file_.string(), ": ", touched.filename().string(),
        " was written over while it was in use, and what was computed since cannot be relied on; put the original "
        "model back and start again (a run with checkpoints goes on from the last one)");
}

void ModelFiles::check_same(const ModelFiles& other) const {
  check(other.is(fingerprint()) || is(other.fingerprint()), "model ", file_.string(),
        " changed while it was in use (fingerprint ", other.fingerprint(), ", now ", fingerprint(),
        "); put the original model back and start again");
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

int64_t ModelFiles::bytes() const {
  int64_t out = 0;
  for (const auto& [unused, value] : tensors_) out += static_cast<int64_t>(value.nbytes());
  return out;
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
  if (fingerprint_.empty()) look();
  return fingerprint_;
}

void ModelFiles::look() const {
  const torch::NoGradGuard no_grad;
  looked_ = true;
  not_finite_.reset();
  if (!changed_ && findings_)
    if (auto known = findings_->known()) {
      log_debug("start: ", file_.string(), " has not changed: its fingerprint is remembered (--verify computes it)");
      if (fingerprint_.empty()) fingerprint_ = std::move(*known);
      return;
    }
  const Stage stage("fingerprint and finite numbers", bytes());
  Fingerprint print;
  LongWork work("checking the weights", std::ssize(tensors_));
  for (size_t i = 0; i < tensors_.size(); ++i) {
    work.advance();
    const auto& [name, value] = tensors_[i];
    const ByteVisit found = visit_bytes(value);
    checked(value);
    if (i < parameters_ && !found.finite && !not_finite_) not_finite_ = i;
    add_form(print, name, value);
    print.add(std::span<const int64_t>(found.checksums));
  }
  if (fingerprint_.empty()) fingerprint_ = print.hex();
  if (!changed_ && findings_ && !not_finite_) findings_->remember(fingerprint_);
}

std::string ModelFiles::serial_fingerprint() const {
  Fingerprint print;
  LongWork work("reading the weights", static_cast<int64_t>(tensors_.size()));
  for (const auto& [name, value] : tensors_) {
    work.advance();
    if (is_started(name)) continue;
    const torch::Tensor bytes = value.detach().to(torch::kCPU).contiguous();
    add_form(print, name, bytes);
    print.add(bytes.const_data_ptr(), bytes.nbytes());
  }
  return print.hex();
}

bool ModelFiles::is(const std::string& expected) const {
  if (fingerprint() == expected) return true;
  if (serial_fingerprint() != expected) return false;
  fingerprint_ = expected;
  return true;
}

}  // namespace deeplora
