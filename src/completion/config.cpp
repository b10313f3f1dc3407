#include "completion/config.h"

#include <algorithm>
#include <cmath>

namespace deeplora {
namespace {

void at_least(const Config& config, const std::string& key, int64_t value, int64_t least) {
  config.require(value >= least, key, cat("a whole number of at least ", least));
}

void not_negative(const Config& config, const std::string& key, double value) {
  config.require(value >= 0 && std::isfinite(value), key, "a number of at least 0");
}

void read_chain(const Config& config, ChainConfig& chain) {
  config.read_choice("method", chain.method, {"deep", "narrow", "compressed", "full"},
                     "deep: inner width rank; narrow: 2 rank; compressed: 2 rank, from the gradient at the start; "
                     "full: the smaller side");
  config.read("rank", chain.rank, "rank that is looked for");
  config.read("width", chain.width, "inner width; absent: by the method");
  config.read("depth", chain.depth, "number of factors; of compressed: of inner factors, between two outer ones");
  config.read("init_scale", chain.init_scale, "every factor starts as this x an orthogonal matrix");
  config.read("outer_lr_ratio", chain.outer_lr_ratio,
              "compressed: learning rate of the outer factors over that of the inner ones (gamma)");
  config.read("same_start", chain.same_start,
              "compressed: start as the compression of the chain that full would start with");
  at_least(config, "rank", chain.rank, 1);
  at_least(config, "width", chain.width.value_or(1), 1);
  at_least(config, "depth", chain.depth, 2);
  config.require(chain.init_scale > 0 && std::isfinite(chain.init_scale), "init_scale", "a number above 0");
  not_negative(config, "outer_lr_ratio", chain.outer_lr_ratio);
  config.require(chain.method != "compressed" || !chain.width, "width",
                 "no value with method: compressed, whose width is 2 x rank");
  config.require(!chain.same_start || chain.method == "compressed", "same_start", "method: compressed");
}

void read_optimizer(const Config& config, FitConfig& fit) {
  config.read_choice(
      "optimizer", fit.optimizer, {"auto", "gd", "momentum", "adam", "rmsprop"},
      "auto: preconditioned conjugate gradients on the two halves of the chain; gd: the paper's gradient descent");
  config.read("lr", fit.lr, "learning rate; absent: from the spectrum of the gradient at the start");
  config.read("momentum", fit.momentum, "of momentum");
  config.read("beta1", fit.beta1, "adam's decay of the gradient's mean");
  config.read("beta2", fit.beta2, "adam's decay of the squared gradient's mean");
  config.read("alpha", fit.alpha, "rmsprop's decay of the squared gradient's mean");
  config.read("eps", fit.eps, "adam's and rmsprop's term in the denominator");
  config.read("weight_decay", fit.weight_decay, "adds this x the factor to every factor's gradient");
  config.read_choice("reduction", fit.reduction, {"sum", "mean-all", "mean-observed"},
                     "the loss: 1/2 sum of the squared residuals, that / (rows x columns), or / (observed entries)");
  config.read_choice("gradient", fit.gradient, {"exact", "feedback-alignment"},
                     "feedback-alignment: fixed random matrices in place of the factors in the backward pass");
  config.read("batch", fit.batch, "residuals of one step, drawn anew each time; 0: all");
  config.require(!fit.lr || (*fit.lr > 0 && std::isfinite(*fit.lr)), "lr", "a number above 0");
  for (const auto& [key, value] :
       {std::pair{"momentum", fit.momentum}, {"beta1", fit.beta1}, {"beta2", fit.beta2}, {"alpha", fit.alpha}})
    config.require(value >= 0 && value < 1, key, "a number from 0 to below 1");
  config.require(fit.eps > 0 && std::isfinite(fit.eps), "eps", "a number above 0");
  not_negative(config, "weight_decay", fit.weight_decay);
  at_least(config, "batch", fit.batch, 0);
  config.require(fit.optimizer != "auto" || fit.gradient == "exact", "gradient", "exact with optimizer: auto");
  config.require(fit.optimizer != "auto" || fit.batch == 0, "batch",
                 "0 with optimizer: auto, which sees all residuals in every step");
  config.require(fit.optimizer != "auto" || !fit.lr, "lr",
                 "no value with optimizer: auto, which finds its step lengths");
}

void read_course(const Config& config, FitConfig& fit) {
  config.read("steps", fit.steps, "most iterations");
  config.read("tolerance", fit.tolerance, "ends the run once the error of an evaluation is at most this; 0: never");
  config.read("stall", fit.stall,
              "auto: ends after 10 iterations in a row that lower the loss by less than this share");
  config.read("eval_every", fit.eval_every, "iterations between evaluations");
  config.read("log_every", fit.log_every, "iterations between rows of metrics.jsonl");
  config.read("save_every", fit.save_every, "iterations between checkpoints; absent: at the end");
  config.read("keep_checkpoints", fit.keep_checkpoints, "newest checkpoints that are kept");
  config.read("early_stopping", fit.early_stopping, "evaluations without a better score before the run ends; 0: never");
  config.read("track", fit.track, "record singular values and invariant subspaces at every evaluation");
  config.read_choice("precision", fit.precision, {"float64", "float32"}, "of the factors");
  config.read("seed", fit.seed, "decides the target, the observed entries, the start and the batches");
  config.read("threads", fit.threads,
              "threads; 0: OMP_NUM_THREADS, else the cores this process may use; the same count gives the same bits");
  at_least(config, "steps", fit.steps, 0);
  not_negative(config, "tolerance", fit.tolerance);
  not_negative(config, "stall", fit.stall);
  at_least(config, "eval_every", fit.eval_every, 1);
  at_least(config, "log_every", fit.log_every, 1);
  at_least(config, "save_every", fit.save_every.value_or(1), 1);
  at_least(config, "keep_checkpoints", fit.keep_checkpoints, 1);
  at_least(config, "early_stopping", fit.early_stopping, 0);
  at_least(config, "seed", fit.seed, 0);
  at_least(config, "threads", fit.threads, 0);
}

void read_synthetic(const Config& config, SyntheticConfig& synthetic) {
  config.read("rows", synthetic.rows, "rows of a synthetic target");
  config.read("cols", synthetic.cols, "columns of it; absent: as many as rows");
  if (synthetic.cols == 0) synthetic.cols = synthetic.rows;
  config.read("rank", synthetic.rank, "its rank");
  config.read("observed", synthetic.observed, "share of its entries that is observed");
  config.read("noise", synthetic.noise, "standard deviation of the noise on observed entries");
  config.read_choice("target", synthetic.target, {"gaussian", "factors"},
                     "gaussian: best approximation of a Gaussian matrix; factors: random singular vectors, equal "
                     "singular values, for large sizes");
  constexpr int64_t kLargest = (int64_t{1} << 31) - 2;
  config.require(synthetic.rows >= 0 && synthetic.rows <= kLargest, "rows", "a whole number below 2^31");
  config.require(synthetic.cols >= 0 && synthetic.cols <= kLargest, "cols", "a whole number below 2^31");
  if (!synthetic.given()) return;
  const int64_t smaller = std::min(synthetic.rows, synthetic.cols);
  config.require(synthetic.rank >= 1 && synthetic.rank <= smaller, "rank", cat("a whole number from 1 to ", smaller));
  config.require(synthetic.observed > 0 && synthetic.observed <= 1, "observed", "a share above 0, at most 1");
  not_negative(config, "noise", synthetic.noise);
  constexpr double kLargestDense = 1e8;
  config.require(synthetic.target != "gaussian" ||
                     static_cast<double>(synthetic.rows) * static_cast<double>(synthetic.cols) <= kLargestDense,
                 "target", "factors for a matrix of more than 1e8 entries (gaussian decomposes a dense matrix)");
}

}  // namespace

int64_t ChainConfig::inner_width(int64_t rows, int64_t cols) const {
  if (width) return *width;
  if (method == "deep") return rank;
  return method == "full" ? std::min(rows, cols) : 2 * rank;
}

CompletionConfig CompletionConfig::read(const Config& completion) {
  CompletionConfig out;
  completion.read("title", out.title, "heading of the report");
  read_synthetic(completion.section("synthetic"), out.synthetic);
  const Config sensing = completion.section("sensing");
  sensing.read("measurements", out.sensing.measurements,
               "number of linear measurements <A_k, W> that replace observed entries; 0: entries");
  at_least(sensing, "measurements", out.sensing.measurements, 0);
  completion.read(
      "save_problem", out.save_problem,
      "write the target, the observed entries (or measurements) and feedback matrices to problem.safetensors");
  read_chain(completion, out.chain);
  read_optimizer(completion, out.fit);
  read_course(completion, out.fit);
  completion.require(out.sensing.measurements == 0 || out.fit.batch == 0, "batch", "0 with sensing");
  const int64_t smaller = std::min(out.synthetic.rows, out.synthetic.cols);
  completion.require(
      !out.synthetic.given() || out.chain.method != "compressed" || out.chain.inner_width(smaller, smaller) <= smaller,
      "rank", cat("at most ", smaller / 2, ", half of the smaller side, for method: compressed"));
  return out;
}

}  // namespace deeplora
