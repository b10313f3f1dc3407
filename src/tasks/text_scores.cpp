#include "tasks/text_scores.h"

#include <algorithm>
#include <cmath>

#include "tasks/text_metrics.h"

namespace deeplora {
namespace {

std::string without_space_around(const std::string& text) {
  const char* space = " \t\n\r\f\v";
  const size_t first = text.find_first_not_of(space);
  return first == std::string::npos ? "" : text.substr(first, text.find_last_not_of(space) - first + 1);
}

}  // namespace

std::vector<std::pair<std::string, double>> text_scores(std::span<const std::string> texts,
                                                        std::span<const std::vector<std::string>> references) {
  std::vector<std::string> predicted;
  std::vector<std::vector<std::string>> wanted;
  for (const auto& text : texts) predicted.push_back(without_space_around(text));
  for (const auto& list : references) {
    wanted.emplace_back();
    for (const auto& text : list) wanted.back().push_back(without_space_around(text));
  }
  double exact = 0;
  for (size_t i = 0; i < predicted.size(); ++i)
    exact += std::find(wanted[i].begin(), wanted[i].end(), predicted[i]) != wanted[i].end();
  const double share = predicted.empty() ? std::nan("") : exact / static_cast<double>(predicted.size());
  const RougeScores overlap = rouge(predicted, wanted);
  return {{"exact_match", share},     {"bleu", bleu(predicted, wanted)}, {"rouge1", overlap.rouge1},
          {"rouge2", overlap.rouge2}, {"rougeL", overlap.rouge_l},       {"chrf", chrf(predicted, wanted)}};
}

}  // namespace deeplora
