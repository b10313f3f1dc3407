#include "lm/leading_inputs.h"

#include <torch/torch.h>

#include "core/random.h"
#include "factorization/streamed_pairs.h"
#include "lm/site_probe.h"

namespace deeplora {
namespace {

class InputProbe : public SiteProbe {
 public:
  InputProbe(const AdapterSite& site, int64_t k, at::Generator generator)
      : SiteProbe(site),
        pairs_(in_, in_, k, options_, std::move(generator)),
        rows_of_term_(std::max<int64_t>(64, kNumbersOfTerm / in_)) {}

  torch::Tensor forward(const torch::Tensor& x) override {
    if (x.numel() > 0) hear(x.reshape({-1, in_}).to(options_, false, /*copy=*/true));  // the model may change it
    return no_update(x);
  }

  /// True when the inputs must come by once more.
  bool end_pass() {
    if (!pending_.empty()) add_term();
    count_ = 0;
    return pairs_.end_pass();
  }
  bool heard() const { return count_ > 0 || !pending_.empty(); }
  bool finite() const { return finite_; }
  SingularPairs pairs() const { return pairs_.pairs(); }

 private:
  /// A term costs an iteration on everything kept, so that small inputs wait for others.
  void hear(torch::Tensor x) {
    if (!(finite_ = finite_ && x.isfinite().all().item<bool>())) return;
    pending_rows_ += x.size(0);
    pending_.push_back(std::move(x));
    if (pending_rows_ >= rows_of_term_) add_term();
  }

  /// Adds (x - mean)^T (x - mean) + c d^T d, d [in] the step from the mean so far to that of x, which is all that
  /// waits.
  void add_term() {
    const torch::Tensor x = at::cat(pending_);
    pending_.clear();
    pending_rows_ = 0;
    const auto rows = static_cast<double>(x.size(0));
    const torch::Tensor mean = x.mean(0, /*keepdim=*/true), centred = x - mean;
    if (count_ == 0) mean_ = mean;
    const torch::Tensor step = mean - mean_;
    const double weight = count_ * rows / (count_ + rows);
    const auto times = [&](const torch::Tensor& right) {
      return at::matmul(centred.t(), at::matmul(centred, right)) +
             at::matmul(step.t(), at::matmul(step, right)) * weight;
    };
    pairs_.add({in_, in_, options_, times, times});  // symmetric
    count_ += rows;
    mean_ = mean_ + step * (rows / count_);
  }

  StreamedPairs pairs_;
  static constexpr int64_t kNumbersOfTerm = int64_t{1} << 18;  // 1 MiB a site waits at most, or 64 rows
  int64_t rows_of_term_;
  std::vector<torch::Tensor> pending_;
  int64_t pending_rows_ = 0;
  torch::Tensor mean_;  ///< [1, in] of the count_ rows of this pass so far
  double count_ = 0;
  bool finite_ = true;
};

/// Probes in the slots of linear sites while it lives.
class InputProbes {
 public:
  InputProbes(const std::vector<AdapterSite>& sites, int64_t k, uint64_t seed) : sites_(sites) {
    for (const auto& site : sites_) {
      if (site.kind != SiteKind::linear) continue;
      probes_.emplace(site.path, std::make_shared<InputProbe>(site, k, make_generator(seed, "start/" + site.path)));
      site.attach(probes_.at(site.path));
    }
  }
  ~InputProbes() {
    for (const auto& site : sites_) site.attach(nullptr);
  }
  InputProbes(const InputProbes&) = delete;

  bool end_pass() {
    Errors errors;
    for (const auto& [path, probe] : probes_) {
      if (!probe->finite())
        errors.add("the inputs of ", path, " have infinities or NaN; check the data and the model's precision");
      else if (!probe->heard())
        errors.add(path,
                   ": the model never reads this weight, so no adapter can start from its inputs; leave it out "
                   "of adapter.targets");
    }
    errors.throw_if_any();
    bool again = false;
    for (auto& [unused, probe] : probes_) again |= probe->end_pass();
    return again;
  }
  std::map<std::string, SingularPairs> pairs() const {
    std::map<std::string, SingularPairs> out;
    for (const auto& [path, probe] : probes_) out[path] = probe->pairs();
    return out;
  }

 private:
  const std::vector<AdapterSite>& sites_;
  std::map<std::string, std::shared_ptr<InputProbe>> probes_;
};

}  // namespace

std::map<std::string, SingularPairs> leading_inputs(const std::vector<AdapterSite>& sites, int64_t k,
                                                    const std::function<void()>& runs, uint64_t seed) {
  const torch::NoGradGuard no_grad;
  InputProbes probes(sites, k, seed);
  do {
    runs();
  } while (probes.end_pass());
  return probes.pairs();
}

}  // namespace deeplora
