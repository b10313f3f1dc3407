// report.html of a fine-tuning run.
#pragma once

#include <string>

#include "session.h"

namespace deeplora {

/// The run's page: results, curves from metrics.jsonl, adapted weights with their singular values, configuration.
std::string finetune_report(const Session& session, const nlohmann::ordered_json& result, const RunFolder& folder);

}  // namespace deeplora
