#include "ratings/ratings_config.h"

#include <algorithm>
#include <cmath>

#include "ratings/ratings_file.h"
#include "text/encoding.h"

namespace deeplora {
namespace {

void read_files(const Config& config, RatingsConfig& out) {
  config.read("train", out.train, "ratings to learn from: a file, or a folder with ratings.csv, ratings.dat or u.data");
  config.read("dev", out.dev, "ratings that choose among the grid and the number of sweeps; absent: drawn from train");
  config.read("test", out.test, "ratings scored once at the end");
  config.read_choice("format", out.format.format, {"auto", "triplets", "dense", "matrix-market", "npy"},
                     "of the ratings files");
  config.read("separator", out.format.separator, "of fields: auto, comma, tab, semicolon, space, ::");
  config.read_choice("header", out.format.header, {"auto", "yes", "no"}, "whether the first line names the columns");
  config.read_choice("row_names", out.format.row_names, {"auto", "yes", "no"},
                     "dense tables: whether the first column names the rows");
  config.read_choice("encoding", out.format.encoding, encoding_names(), "of the files' characters");
  const Config columns = config.section("columns");
  columns.read("row", out.format.row, "column of the rows' ids, by name or 0-based index");
  columns.read("col", out.format.col, "column of the columns' ids");
  columns.read("value", out.format.value, "column of the ratings");
  columns.read("time", out.format.time, "column of the times");
}

void read_cleaning(const Config& config, RatingsConfig& out) {
  std::string duplicates = "last", outside = "error";
  std::vector<double> range;
  config.read_choice("duplicates", duplicates, {"last", "mean", "error"},
                     "what becomes of a pair rated more than once (how many is always said)");
  config.read("range", range,
              "[lowest, highest] rating: checked on reading, predictions are clipped to it; absent: the training "
              "ratings' range");
  config.read_choice("out_of_range", outside, {"error", "clip", "drop"},
                     "what becomes of ratings outside the declared range");
  config.require(range.empty() || (range.size() == 2 && range[0] < range[1]), "range", "[lowest, highest]");
  out.duplicates = duplicates == "last"   ? Duplicates::last
                   : duplicates == "mean" ? Duplicates::mean
                                          : Duplicates::error;
  out.out_of_range = outside == "error" ? OutOfRange::error : outside == "clip" ? OutOfRange::clip : OutOfRange::drop;
  if (range.size() == 2) out.range = {range[0], range[1]};
}

void read_parts(const Config& config, RatingsConfig& out) {
  config.read_choice("split", out.split, {"random", "time"},
                     "how dev and test ratings are drawn: by the seed, or the newest");
  config.read(
      "dev_share", out.dev_share,
      "share of the training ratings that is held out as dev; 0 where there is nothing to choose by it (gibbs)");
  config.read("test_share", out.test_share, "share of all ratings that is held out as test when no test file is given");
  config.read("folds", out.folds,
              "k-fold cross-validation: every rating is predicted once by a model that has not seen it; 0: none");
  config.require(out.dev_share >= 0 && out.dev_share < 1, "dev_share", "a share from 0 to below 1");
  config.require(out.test_share >= 0 && out.test_share < 1, "test_share", "a share from 0 to below 1");
  config.require(out.folds == 0 || out.folds >= 2, "folds", "0 or a number of at least 2");
  config.require(out.test_share == 0 || out.test.empty(), "test_share", "0 when completion.test names a file");
  config.require(out.folds == 0 || (out.test.empty() && out.test_share == 0), "folds",
                 "0 with a test set: cross-validation makes its own");
  config.require(out.folds == 0 || out.split != "time", "folds",
                 "0 with split: time (folds are drawn at random; completion.test_share holds out the newest)");
}

const std::vector<std::string>& solver_names() {
  static const std::vector<std::string> names{"bayes", "gibbs", "als", "chain"};
  return names;
}

/// What only some solvers have.
void read_posterior(const Config& config, RatingsConfig& out) {
  std::string likelihood = "gaussian";
  config.read("burn_in", out.burn_in, "gibbs: passes before the first draw that counts");
  config.read("draws", out.draws, "gibbs: draws that are kept; the prediction is their mean");
  config.read("thin", out.thin, "gibbs: passes from one kept draw to the next");
  config.read_choice("likelihood", likelihood, {"gaussian", "ordinal"},
                     "gibbs: noise about the rating, or ratings of few values as intervals of a latent value (ordered "
                     "probit)");
  const Config periods = config.section("periods");
  periods.read("rows", out.row_period,
               "bayes, gibbs: length of a row's periods, each with an effect of its own, in the unit of the times "
               "(86400: days of times in seconds); 0: none");
  periods.read("cols", out.col_period, "the same for columns");
  config.read("update_sweeps", out.update_sweeps,
              "bayes, als: passes when ratings are added to a run (--update); gibbs makes draws x thin");
  const Config ranking = config.section("ranking");
  ranking.read("at", out.ranking_at,
               "places of the recommendations that precision, recall, ndcg and map are measured at; 0: they are not");
  ranking.read("relevant", out.ranking_relevant,
               "ratings of at least this are relevant there; absent: the mean of the training ratings");
  out.ordinal = likelihood == "ordinal";
  config.require(out.burn_in >= 0, "burn_in", "a number of at least 0");
  config.require(out.draws >= 1, "draws", "a number of at least 1");
  config.require(out.thin >= 1, "thin", "a number of at least 1");
  config.require(out.update_sweeps >= 1, "update_sweeps", "a number of at least 1");
  periods.require(out.row_period >= 0, "rows", "a length of at least 0");
  periods.require(out.col_period >= 0, "cols", "a length of at least 0");
  ranking.require(out.ranking_at >= 0, "at", "a number of at least 0");
}

void read_solver(const Config& config, RatingsConfig& out, RatingsCandidate& base) {
  std::string regularize = "factors";
  config.read_choice("solver", base.solver, solver_names(),
                     "bayes: alternation with learned penalties; gibbs: draws from the same posterior, averaged; als: "
                     "ridge alternation; chain: completion.optimizer on the chain of completion.depth");
  config.read("biases", out.biases, "mean, row and column biases");
  std::vector<double> penalties;
  config.read("bias_regularization", penalties,
              "[row, column] ridge penalties of the bias baseline and of chain's biases; absent: estimated");
  config.require(penalties.empty() || (penalties.size() == 2 && penalties[0] >= 0 && penalties[1] >= 0),
                 "bias_regularization", "[row, column], both at least 0");
  if (penalties.size() == 2) out.row_bias_penalty = penalties[0], out.col_bias_penalty = penalties[1];
  config.read("regularization", base.regularization,
              "als: penalty (15); bayes, gibbs: multiplies the learned penalties (1); chain: weight decay (0)");
  config.read("weighted", out.weighted, "als: penalties grow with a row's number of ratings");
  config.read_choice("regularize", regularize, {"factors", "product"},
                     "als: penalty on the factors alone, or on the product's unobserved entries too");
  config.read_choice(
      "implicit", out.implicit, {"none", "rows", "cols", "both"},
      "bayes, gibbs, als: which columns a row rated (rows), which rows rated a column (cols) as side information");
  config.read("implicit_regularization", out.implicit_regularization, "ridge penalty of that side information");
  config.read("sweeps", out.sweeps, "bayes, als: most passes over rows and columns");
  config.read("patience", out.patience, "sweeps (chain: evaluations) without a better dev score before a fit ends");
  config.read("refit_on_dev", out.refit_on_dev,
              "fit the chosen candidate again on train and dev together, before test ratings are scored");
  std::string refit = "none";
  config.read_choice("refit", refit, {"none", "all"},
                     "all: the model that is kept is fitted once more, on all ratings, after the test score is known");
  out.refit_all = refit == "all";
  out.on_product = regularize == "product";
  config.require(!base.regularization || *base.regularization >= 0, "regularization", "a number of at least 0");
  config.require(out.implicit_regularization > 0, "implicit_regularization", "a number above 0");
  config.require(out.sweeps >= 1, "sweeps", "a number of at least 1");
  config.require(out.patience >= 1, "patience", "a number of at least 1");
  config.require(!out.on_product || base.solver == "als", "regularize", "factors unless solver: als");
}

/// The product of the grid's lists, each list defaulting to the section's single value.
void read_grid(const Config& config, RatingsConfig& out, const RatingsCandidate& base) {
  const Config grid = config.section("grid");
  std::vector<std::string> solvers{base.solver};
  std::vector<int64_t> ranks{base.rank}, depths{base.depth};
  std::vector<double> penalties;
  grid.read("solver", solvers, "solvers to try");
  grid.read("rank", ranks, "ranks to try");
  grid.read("depth", depths, "depths to try (chain)");
  grid.read("regularization", penalties, "penalties to try");
  for (const auto& solver : solvers)
    grid.require(std::find(solver_names().begin(), solver_names().end(), solver) != solver_names().end(), "solver",
                 "bayes, gibbs, als or chain");
  for (const int64_t rank : ranks) grid.require(rank >= 1, "rank", "ranks of at least 1");
  for (const int64_t depth : depths) grid.require(depth >= 2, "depth", "depths of at least 2");
  for (const double penalty : penalties) grid.require(penalty >= 0, "regularization", "penalties of at least 0");
  std::vector<std::optional<double>> choices(penalties.begin(), penalties.end());
  if (choices.empty()) choices.push_back(base.regularization);
  for (const auto& solver : solvers)
    for (const int64_t rank : ranks)
      for (const int64_t depth : solver == "chain" ? depths : std::vector<int64_t>{2})
        for (const auto& penalty : choices) out.grid.push_back({solver, rank, depth, penalty});
}

}  // namespace

std::string RatingsCandidate::name() const {
  return cat(solver, solver == "chain" ? cat(" depth ", depth) : "", " rank ", rank,
             regularization ? cat(" regularization ", exact_number(*regularization)) : "");
}

bool RatingsConfig::all_solvers_are(const std::vector<std::string>& names) const {
  return std::all_of(grid.begin(), grid.end(), [&](const RatingsCandidate& candidate) {
    return std::find(names.begin(), names.end(), candidate.solver) != names.end();
  });
}

RatingsConfig RatingsConfig::read(const Config& completion, int64_t rank, int64_t depth, int64_t seed,
                                  int64_t threads) {
  RatingsConfig out;
  RatingsCandidate base{.solver = "bayes", .rank = rank, .depth = depth, .regularization = {}};
  read_files(completion, out);
  read_cleaning(completion, out);
  read_parts(completion, out);
  read_solver(completion, out, base);
  read_posterior(completion, out);
  read_grid(completion, out, base);
  const bool scored = !out.test.empty() || out.test_share > 0 || out.folds > 0;
  completion.require(
      out.dev_share > 0 || !out.dev.empty() || (scored && out.grid.size() == 1 && out.all_solvers_are({"gibbs"})),
      "dev_share", "a share above 0, unless one candidate of solver: gibbs is scored on test ratings or folds");
  completion.require(!out.ordinal || out.all_solvers_are({"gibbs"}), "likelihood", "gaussian unless solver: gibbs");
  completion.require((out.row_period <= 0 && out.col_period <= 0) || out.all_solvers_are({"bayes", "gibbs"}), "periods",
                     "nothing unless solver: bayes or gibbs");
  out.seed = static_cast<uint64_t>(seed);
  out.threads = static_cast<int>(std::max<int64_t>(1, threads));
  return out;
}

}  // namespace deeplora
