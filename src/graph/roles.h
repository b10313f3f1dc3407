// What a weight is for, guessed from its name.
#pragma once

#include <string>

#include "lm/adapter.h"

namespace deeplora {

/// Role of a weight of an unknown model by the last words of its path: query, key, value, query_key_value,
/// attention_output, mlp_in, mlp_gate, mlp_out, pooler, head, lm_head, else other. Every embedding has the
/// role "embedding".
std::string guess_role(const std::string& weight_path, SiteKind kind);

/// The same, of weights that `op` reads ("lstm", "conv2d"): recurrent, convolution where it says so.
std::string role_of_weight(const std::string& weight_path, SiteKind kind, const std::string& op);

}  // namespace deeplora
