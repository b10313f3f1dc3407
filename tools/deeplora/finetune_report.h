// report.html of a fine-tuning run.
#pragma once

#include <string>
#include <vector>

#include "report/run_report.h"
#include "session.h"

namespace deeplora {

/// Every adapted weight and the learned update's singular values.
std::vector<RunSite> describe_sites(const Session& session);

/// The run's page: results, curves from metrics.jsonl, adapted weights with their singular values, configuration.
std::string finetune_report(const Session& session, std::vector<RunSite> sites, const nlohmann::ordered_json& result, const RunFolder& folder);

/// updates.json of a run: for every adapted weight its path, role, shape [out, in], number of trained parameters, the Frobenius norms
/// of the learned update and of the frozen weight, the update's numerical rank (singular values above 1 % of the largest) and its
/// leading singular values (at most 128).
nlohmann::ordered_json updates_json(const std::vector<RunSite>& sites);

}  // namespace deeplora
