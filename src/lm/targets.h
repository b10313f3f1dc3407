// Which weights are adapted: presets, roles, path globs, regular expressions.
#pragma once

#include <string>
#include <vector>

#include "lm/language_model.h"

namespace deeplora {

/// "all-linear" (every linear weight but the head and a language model's output layer), "query-value", "attention-mlp"
/// (attention and feed-forward projections), "all-dense" (every 2-D weight with both sides >= 512, embeddings included;
/// the paper's rule), "all-weights" (every weight but the head and a language model's output layer: recurrent and
/// convolutional ones and embeddings too), "dense-or-linear" ("all-dense" where a model is wide enough for it to match
/// anything, else "all-linear").
std::vector<std::string> target_presets();

/// Sites that the targets choose, in the model's order. A target is a preset, a role ("query"), a glob over the path
/// with or without ".weight" ("*.attention.*"), or "re:REGEX" (whole path). Throws Error naming every target that
/// matches nothing, with the roles and paths there are.
std::vector<AdapterSite> choose_sites(const std::vector<AdapterSite>& sites, const std::vector<std::string>& targets);

/// "model.encoder.layer.0.attention.self.query.weight" -> the same without ".weight".
std::string module_path(const std::string& weight_path);

/// Shell pattern over a whole text: * any run, ? one character.
bool glob_matches(std::string_view pattern, std::string_view text);

}  // namespace deeplora
