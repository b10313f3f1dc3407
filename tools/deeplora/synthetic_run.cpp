#include "synthetic_run.h"

#include <torch/torch.h>
#include <torch/version.h>

#include <cmath>

#include "completion/fit.h"
#include "completion/halves.h"
#include "completion/sensing.h"
#include "completion/start.h"
#include "completion/synthetic.h"
#include "completion/tracking.h"
#include "completion_report.h"
#include "core/parallel.h"
#include "core/random.h"
#include "deeplora_version.h"
#include "figure_files.h"
#include "model_files/tensor_file.h"
#include "ratings/ratings_model.h"

namespace deeplora {
namespace {
namespace fs = std::filesystem;

struct SyntheticProblem {
  LowRankTarget target;
  Observations observed;
  Measurements measured;  ///< of sensing
  Problem problem;
};

SyntheticProblem make_problem(const CompletionConfig& config) {
  const SyntheticConfig& s = config.synthetic;
  const auto seed = static_cast<uint64_t>(config.fit.seed);
  const auto make_target = s.target == "gaussian" ? gaussian_target : factor_target;
  SyntheticProblem out{.target = make_target(s.rows, s.cols, s.rank, make_generator(seed, "target")),
                       .observed = {},
                       .measured = {},
                       .problem = {}};
  if (config.sensing.measurements > 0) {
    const torch::Tensor none = torch::zeros({0}, torch::kFloat64), whole = at::matmul(out.target.u, out.target.v.t());
    out.observed = Observations::make(s.rows, s.cols, none, none, none);
    out.measured = gaussian_measurements(whole, config.sensing.measurements, make_generator(seed, "measurements"));
    out.problem = sensing_problem(out.measured);
    return out;
  }
  out.observed = observe(out.target, s.observed, s.noise, make_generator(seed, "observed"));
  out.problem = completion_problem(out.observed);
  return out;
}

/// Root mean square and mean absolute error of W on unobserved entries: the first from the recovery error, the second
/// on a sample of them.
nlohmann::ordered_json errors_json(double half_mean_square, const torch::Tensor& differences) {
  return {{"rmse", std::sqrt(2 * half_mean_square)}, {"mae", differences.abs().mean().item<double>()}};
}

/// Up to 100,000 places that are not observed, with the target's values; empty when everything is observed.
Observations unobserved_sample(const SyntheticProblem& p, at::Generator generator) {
  constexpr int64_t kSample = 100000;
  const int64_t n = p.target.cols(), all = p.target.rows() * n;
  const torch::Tensor drawn = all <= 4 * kSample
                                  ? torch::arange(all)
                                  : std::get<0>(at::_unique(at::randint(all, {4 * kSample}, generator, torch::kInt64)));
  const torch::Tensor seen = p.observed.row.to(torch::kInt64) * n + p.observed.col;
  torch::Tensor fresh = drawn;
  if (seen.numel() > 0) {
    const torch::Tensor at_or_after = at::searchsorted(seen, drawn).clamp_max(seen.numel() - 1);
    fresh = drawn.masked_select(seen.index_select(0, at_or_after) != drawn);
  }
  if (fresh.numel() > kSample)
    fresh = fresh.index_select(
        0, std::get<0>(at::sort(at::randperm(fresh.numel(), generator, torch::kInt64).narrow(0, 0, kSample))));
  Observations out = Observations::make(p.target.rows(), n, at::floor_divide(fresh, n), at::remainder(fresh, n),
                                        torch::zeros({fresh.numel()}, torch::kFloat64));
  return out.with_values(p.target.at(out));
}

/// Mean, row and column biases fitted to the observed entries, to 300,000 evenly spread ones of more: what a model
/// without factors reaches.
RatingsModel bias_baseline(const Observations& observed) {
  constexpr int64_t kMost = 300000;
  const torch::Tensor chosen =
      at::arange(0, observed.count(), std::max<int64_t>(1, (observed.count() + kMost - 1) / kMost));
  Ratings ratings;
  for (int64_t i = 0; i < observed.rows; ++i) ratings.rows.add(std::to_string(i));
  for (int64_t j = 0; j < observed.cols; ++j) ratings.cols.add(std::to_string(j));
  const auto copy = [&](const torch::Tensor& from, auto& to) {
    using Value = typename std::remove_reference_t<decltype(to)>::value_type;
    const torch::Tensor values = from.index_select(0, chosen).contiguous();
    to.assign(values.const_data_ptr<Value>(), values.const_data_ptr<Value>() + values.numel());
  };
  copy(observed.row, ratings.row);
  copy(observed.col, ratings.col);
  copy(observed.value, ratings.value);
  return fit_biases(ratings);
}

/// W - M of a model of biases at these entries.
torch::Tensor differences(const RatingsModel& model, const Observations& entries) {
  torch::Tensor out = torch::empty({entries.count()}, torch::kFloat64);
  const int32_t* rows = entries.row.const_data_ptr<int32_t>();
  const int32_t* cols = entries.col.const_data_ptr<int32_t>();
  for (int64_t k = 0; k < entries.count(); ++k) out.mutable_data_ptr<double>()[k] = model.predict(rows[k], cols[k]);
  return out - entries.value;
}

std::pair<torch::Tensor, torch::Tensor> halves_of(const FactorChain& chain) {
  ChainHalves halves(chain);
  const auto options = chain->factors().front().value.options().requires_grad(false);
  std::pair<torch::Tensor, torch::Tensor> out{torch::empty({chain->out(), halves.width()}, options),
                                              torch::empty({chain->in(), halves.width()}, options)};
  halves.write(out.first, out.second);
  return {out.first.to(torch::kFloat64), out.second.to(torch::kFloat64)};
}

void save_chain(const FactorChainImpl& chain, const CompletionConfig& config, const fs::path& file) {
  std::vector<NamedTensor> tensors;
  for (const auto& factor : chain.factors()) tensors.push_back({factor.name, factor.value.detach()});
  save_tensors(file, tensors, {{"method", config.chain.method}, {"format", "deeplora completion"}});
}

/// problem.safetensors: "u", "v" with M = u v^T; "row", "col", "value" of the observed entries or "matrices" [K, m n]
/// and "values" [K] of the measurements; "feedback/NAME".
void save_problem(const SyntheticProblem& p, const FactorChainImpl& chain, const CompletionConfig& config,
                  const fs::path& file) {
  std::vector<NamedTensor> tensors = {{"u", p.target.u}, {"v", p.target.v}};
  if (p.measured.matrices.defined())
    tensors.insert(tensors.end(), {{"matrices", p.measured.matrices}, {"values", p.measured.values}});
  else tensors.insert(tensors.end(), {{"row", p.observed.row}, {"col", p.observed.col}, {"value", p.observed.value}});
  const auto feedback = feedback_of(chain, config.fit);
  for (size_t i = 0; i < feedback.size(); ++i) tensors.push_back({"feedback/" + chain.factors()[i].name, feedback[i]});
  save_tensors(file, tensors, {{"format", "deeplora completion problem"}});
}

nlohmann::ordered_json result_json(const CompletionConfig& config, const SyntheticProblem& p, const FactorChain& chain,
                                   const FitResult& result) {
  torch::NoGradGuard no_grad;
  const double peak = peak_memory_mb();  // of the run; the baselines' arrays are not its
  const auto [b, a_t] = halves_of(chain);
  const double error = RecoveryMeter(p.target, p.observed)(b, a_t);
  const Observations sample = unobserved_sample(p, make_generator(static_cast<uint64_t>(config.fit.seed), "sample"));
  const LowRankTarget found{b, a_t};
  const double mean = p.observed.count() > 0 ? p.observed.value.mean().item<double>() : 0;
  const torch::Tensor from_mean = sample.value - mean;
  nlohmann::ordered_json out = {
      {"task", "completion"},      {"method", config.chain.method}, {"optimizer", config.fit.optimizer},
      {"rank", config.chain.rank}, {"width", chain->width()},       {"depth", config.chain.depth}};
  out["last"] = result.last ? result.last->json() : nlohmann::ordered_json::object();
  out["test"] = nlohmann::ordered_json::object();
  out["baselines"] = nlohmann::ordered_json::object();
  if (sample.count() > 0) {
    out["test"] = errors_json(error, found.at(sample) - sample.value);
    out["baselines"]["mean"] = errors_json(from_mean.square().mean().item<double>() / 2, from_mean);
    if (p.observed.count() > 0) {
      const torch::Tensor from_biases = differences(bias_baseline(p.observed), sample);
      out["baselines"]["bias"] = errors_json(from_biases.square().mean().item<double>() / 2, from_biases);
    }
  }
  out["recovery_error"] = error;
  out["loss"] = result.loss;
  out["iterations"] = result.iterations;
  out["stopped"] = result.stopped;
  out["seconds"] = result.seconds;
  out["training_seconds"] = result.training_seconds;
  out["seconds_per_iteration"] = result.seconds_per_iteration();
  int64_t parameters = 0;
  for (const auto& group : chain->param_groups())
    for (const auto& parameter : group.params) parameters += parameter.value.numel();
  out["trainable_parameters"] = parameters;
  out["rows"] = p.observed.rows;
  out["cols"] = p.observed.cols;
  out["observed"] = p.problem.count;
  out["peak_rss_mb"] = peak;
  out["deeplora"] = kVersion;
  out["libtorch"] = TORCH_VERSION;
  return out;
}

}  // namespace

nlohmann::ordered_json run_synthetic(const CompletionConfig& config, const std::string& resolved,
                                     const nlohmann::ordered_json& identity, RunFolder& folder, bool resume,
                                     const StopSignal* stop, const std::string& label) {
  use_threads(config.fit.threads);
  if (resume) folder.lock();
  const SyntheticProblem p = make_problem(config);
  const auto seed = static_cast<uint64_t>(config.fit.seed);
  const double began = clock_seconds();
  const SingularPairs pairs = leading_gradient_pairs(p.problem, config.chain.rank, make_generator(seed, "pairs"));
  const auto dtype = config.fit.precision == "float32" ? torch::kFloat32 : torch::kFloat64;
  const FactorChain chain = start_chain(config.chain, p.problem, pairs, config.fit.seed, dtype);
  const double start_seconds = clock_seconds() - began;
  folder.lock();
  folder.write(folder.config_file(), resolved);
  if (config.save_problem) save_problem(p, *chain, config, folder.path() / "problem.safetensors");
  RecoveryMeter meter(p.target, p.observed);
  const SubspaceTracker tracker(*chain, pairs);
  const FitSetup setup{
      .problem = p.problem,
      .chain = chain,
      .config = config.fit,
      .step_length = default_step(pairs, p.problem, config.chain.depth),
      .evaluate =
          [&](const torch::Tensor& b, const torch::Tensor& a_t) {
            return Scores{.values = {{"recovery_error", meter(b, a_t)}}, .higher_is_better = false};
          },
      .track = config.fit.track ? std::function<nlohmann::ordered_json(const FactorChainImpl&)>(tracker) : nullptr,
      .save_factors = [&](const fs::path& file) { save_chain(*chain, config, file); },
      .keep_best = config.fit.early_stopping > 0,
      .identity = identity,
      .stop = stop,
      .progress = true,
      .label = label};
  const FitResult result = fit(setup, folder, resume);
  auto json = result_json(config, p, chain, result);
  json["start_seconds"] = start_seconds;  // leading directions of the gradient and the first factors
  const Page page = completion_report(
      {{.name = {}, .values = {}, .folder = folder.path(), .result = json, .failure = {}}}, config.title, resolved);
  folder.write(folder.report_file(), page.html());
  write_figures(folder.path(), page);
  folder.write(folder.result_file(), json.dump(2) + "\n");
  return json;
}

}  // namespace deeplora
