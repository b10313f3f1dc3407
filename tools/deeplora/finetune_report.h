// report.html of a fine-tuning run.
#pragma once

#include <string>

#include "session.h"

namespace deeplora {

/// The run's page: results, curves from metrics.jsonl, adapted weights with their singular values, configuration.
std::string finetune_report(const Session& session, const nlohmann::ordered_json& result, const RunFolder& folder);

/// updates.json of a run: for every adapted weight its path, role, shape [out, in], number of trained parameters, the Frobenius norms
/// of the learned update and of the frozen weight, the update's numerical rank (singular values above 1 % of the largest) and its
/// leading singular values (at most 128).
nlohmann::ordered_json updates_json(const Session& session);

}  // namespace deeplora
