// The report.html of a run folder.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace deeplora {

/// A number that changes over a run.
struct RunCurve {
  std::string name = {};
  std::vector<double> steps = {}, values = {};  ///< same length; NaN where the value is undefined
};

/// One adapted weight [out, in] and what training made of it.
struct RunSite {
  std::string path = {}, role = {};
  int64_t out = 0, in = 0;
  int64_t parameters = 0;  ///< trained ones
  double update_norm = 0;  ///< Frobenius norm of the learned update
  double weight_norm = 0;  ///< Frobenius norm of the frozen weight
  std::optional<int64_t> numerical_rank = {};
  std::vector<double> singular_values = {};  ///< of the update, largest first; may be empty
};

/// Plain data: whoever holds a run folder can fill it. Empty parts are left out of the page.
struct RunReport {
  std::string title = {}, subtitle = {};
  std::vector<std::pair<std::string, std::string>> highlights = {};  ///< name, value; shown large
  nlohmann::ordered_json result =
      {};  ///< result.json; objects of scores ("best", "last", "test") become columns of a table
  std::string metric = {};  ///< headline metric of the dev curve
  std::optional<double> best_step = {};
  RunCurve train_loss = {};
  std::vector<RunCurve> dev = {};  ///< one per metric; "loss" is drawn together with the training loss
  std::vector<RunCurve> learning_rates = {};
  RunCurve samples_per_second = {};
  std::string config_yaml = {};
  std::vector<RunSite> sites = {};
};

/// The whole page as HTML.
std::string run_report(const RunReport& report);

}  // namespace deeplora
