// All scores of generated texts at once, by the names of result.json. Free of LibTorch.
#pragma once

#include <span>
#include <string>
#include <utility>
#include <vector>

namespace deeplora {

/// exact_match, bleu, rouge1, rouge2, rougeL, chrf of N texts with one or more references each; white space around
/// texts does not count. exact_match is the share of texts equal to one of their references.
std::vector<std::pair<std::string, double>> text_scores(std::span<const std::string> texts,
                                                        std::span<const std::vector<std::string>> references);

}  // namespace deeplora
