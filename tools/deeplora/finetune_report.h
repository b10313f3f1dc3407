// report.html of a fine-tuning run.
#pragma once

#include <string>
#include <vector>

#include "report/run_report.h"
#include "session.h"

namespace deeplora {

/// Every adapted weight and the learned update's singular values.
std::vector<RunSite> describe_sites(const Session& session);

/// What the best adapter made of labelled rows.
struct ScoredRows {
  std::string split;  ///< "test" or "dev"; empty: none were scored
  Assessment found;
};

/// So many generated texts stand in the page, of the first rows.
inline constexpr size_t kShownTexts = 8;

/// What a run leaves for its page.
struct RunFacts {
  const LoadedData &dev, &test;
  const ScoredRows& scored;
  std::vector<std::string> texts_before;  ///< generated for the first test rows before training; may be empty
  std::string command;                    ///< that made it
  std::vector<std::string> next;          ///< commands that come next
};

/// The run's page: scores, labels and rows, curves from metrics.jsonl, adapted weights with their singular values,
/// configuration.
RunReport finetune_report(const Session& session, std::vector<RunSite> sites, const nlohmann::ordered_json& result,
                          const RunFolder& folder, const RunFacts& facts);

/// Commands that come after training: evaluate, predict, export.
std::vector<std::string> next_commands(const Session& session, const RunFolder& folder);

/// updates.json of a run: for every adapted weight its path, role, shape [out, in], number of trained parameters, the
/// Frobenius norms of the learned update and of the frozen weight, the update's numerical rank (singular values above 1
/// % of the largest) and its leading singular values (at most 128).
nlohmann::ordered_json updates_json(const std::vector<RunSite>& sites);

}  // namespace deeplora
