// Scores of generated texts against one or more references each. Free of LibTorch.
#pragma once

#include <span>
#include <string>
#include <vector>

namespace deeplora {

// Every function takes N texts and N lists of references (of any length from 1) and throws
// std::invalid_argument when the lengths differ or a list is empty. With N = 0 every score is NaN.

/// Corpus BLEU in [0, 100], equal to sacrebleu's default (13a tokens, up to 4-grams, "exp" smoothing, closest
/// reference length; Papineni et al. 2002, Post 2018). 0 when no text has 4 tokens or nothing matches.
double bleu(std::span<const std::string> predicted, std::span<const std::vector<std::string>> references);

/// Corpus chrF2 in [0, 100], equal to sacrebleu's default (character 1- to 6-grams without white space, beta
/// 2; Popovic 2015).
double chrf(std::span<const std::string> predicted, std::span<const std::vector<std::string>> references);

/// F-measures in [0, 1], each the mean over the N texts of the best reference.
struct RougeScores {
  double rouge1 = 0, rouge2 = 0, rouge_l = 0;
};

/// ROUGE-1, -2 and -L (Lin 2004), equal to the rouge-score package without stemming: tokens are runs of
/// lower-cased ASCII letters and digits, so texts in other scripts score 0.
RougeScores rouge(std::span<const std::string> predicted, std::span<const std::vector<std::string>> references);

/// The tokens of sacrebleu's "13a" tokenizer, joined by spaces.
std::string tokenize_13a(const std::string& text);

}  // namespace deeplora
