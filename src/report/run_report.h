// The report.html of a run folder.
#pragma once

#include <cstdint>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "report/html_page.h"

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

/// A row of labelled text and what the model made of it.
struct RunRow {
  std::string text = {}, label = {}, prediction = {};
  double number = 0;                       ///< probability of the prediction, or the error of a predicted number
  std::optional<std::string> before = {};  ///< what the model made of it before training, where that is known
};

/// What became of the rows that were scored: of a classification, a regression or generated text.
struct RunRows {
  std::string split = {};  ///< "test" or "dev"
  /// per_label, confusion and calibration of a classification, as result.json has them.
  nlohmann::ordered_json details = nlohmann::ordered_json::object();
  std::vector<std::pair<std::string, size_t>> trained = {};  ///< labels among the training rows
  std::vector<RunRow> mistakes = {};                         ///< wrong with the largest probability, most first
  std::vector<RunRow> uncertain = {};                        ///< decided by the smallest probability, least first
  std::vector<RunRow> errors = {};                           ///< numbers that are farthest off, farthest first
  std::vector<RunRow> generated = {};                        ///< text is the prompt, label the expected answer
  std::vector<double> expected = {}, predicted = {};         ///< of a regression; same length
};

/// Plain data: whoever holds a run folder can fill it. Empty parts are left out of the page.
struct RunReport {
  std::string title = {}, subtitle = {};
  std::vector<std::pair<std::string, std::string>> highlights = {};  ///< name, value; shown large
  nlohmann::ordered_json result =
      {};                   ///< result.json; objects of scores ("best", "last", "test") become columns of a table
  std::string metric = {};  ///< headline metric of the dev curve
  std::optional<double> best_step = {};
  RunCurve train_loss = {};
  std::vector<RunCurve> dev = {};  ///< one per metric; "loss" is drawn together with the training loss
  std::vector<RunCurve> learning_rates = {};
  RunCurve samples_per_second = {};
  std::string loss_label = "loss";  ///< with its unit: "loss per row"
  RunRows rows = {};
  std::vector<std::pair<std::string, std::string>> facts = {};  ///< data files, the command that made it
  std::vector<std::string> next = {};                           ///< commands that come next
  std::string config_yaml = {};
  std::vector<RunSite> sites = {};
};

/// The whole page, and its charts.
Page run_report(const RunReport& report);

/// The curves as CSV: a line per step, a column per curve; empty where a curve has no value there.
std::string curves_csv(const RunReport& report);

}  // namespace deeplora
