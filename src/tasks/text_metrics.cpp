#include "tasks/text_metrics.h"

#include <utf8proc.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <numeric>
#include <stdexcept>
#include <string_view>
#include <unordered_map>

#include "core/error.h"

namespace deeplora {
namespace {

constexpr size_t kWordOrder = 4, kCharacterOrder = 6;
constexpr double kUndefined = std::numeric_limits<double>::quiet_NaN();

using Counts = std::unordered_map<std::u32string, int64_t>;

void require_references(size_t predicted, std::span<const std::vector<std::string>> references) {
  if (predicted != references.size())
    throw std::invalid_argument(
        cat("a metric got ", predicted, " texts for ", references.size(), " lists of references"));
  for (size_t i = 0; i < references.size(); ++i)
    if (references[i].empty()) throw std::invalid_argument(cat("text ", i, " has no reference"));
}

/// Code points; bytes that are not UTF-8 become U+FFFD.
std::u32string decoded(std::string_view text) {
  std::u32string out;
  while (!text.empty()) {
    utf8proc_int32_t code = 0;
    const auto size = utf8proc_iterate(reinterpret_cast<const utf8proc_uint8_t*>(text.data()),
                                       static_cast<utf8proc_ssize_t>(text.size()), &code);
    out += size > 0 ? static_cast<char32_t>(code) : U'\uFFFD';
    text.remove_prefix(size > 0 ? static_cast<size_t>(size) : 1);
  }
  return out;
}

std::string encoded(const std::u32string& text) {
  std::string out;
  for (const char32_t code : text) {
    utf8proc_uint8_t bytes[4];
    const auto size = utf8proc_encode_char(static_cast<utf8proc_int32_t>(code), bytes);
    out.append(reinterpret_cast<const char*>(bytes), static_cast<size_t>(size));
  }
  return out;
}

/// What Python's str.split() splits at.
bool is_space(char32_t c) {
  return (c >= 0x09 && c <= 0x0D) || (c >= 0x1C && c <= 0x20) || c == 0x85 || c == 0xA0 || c == 0x1680 ||
         (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}

bool is_digit(char32_t c) { return c >= U'0' && c <= U'9'; }
bool is_point(char32_t c) { return c == U'.' || c == U','; }

/// ASCII punctuation that 13a always sets apart: all but apostrophe, comma, dash and point.
bool is_symbol(char32_t c) {
  return (c > U' ' && c <= U'&') || (c >= U'(' && c <= U'+') || c == U'/' || (c >= U':' && c <= U'@') ||
         (c >= U'[' && c <= U'`') || (c >= U'{' && c <= U'~');
}

std::vector<std::u32string> split(const std::u32string& text) {
  std::vector<std::u32string> out;
  for (size_t begin = 0, end = 0; begin < text.size(); begin = end + 1) {
    end = begin;
    while (end < text.size() && !is_space(text[end])) ++end;
    if (end > begin) out.push_back(text.substr(begin, end - begin));
  }
  return out;
}

void replace_all(std::u32string& text, std::u32string_view from, std::u32string_view to) {
  for (size_t at = text.find(from); at != std::u32string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
}

/// Puts spaces around pairs of neighbours that match, left to right without overlap, as a regular expression
/// would.
template <class First, class Second>
std::u32string spaced(const std::u32string& text, First first, Second second, std::u32string_view before,
                      std::u32string_view between, std::u32string_view after) {
  std::u32string out;
  for (size_t i = 0; i < text.size(); ++i) {
    if (i + 1 < text.size() && first(text[i]) && second(text[i + 1])) {
      out.append(before) += text[i];
      out.append(between) += text[i + 1];
      out.append(after);
      ++i;
    } else {
      out += text[i];
    }
  }
  return out;
}

/// The rules of mteval-v13a.pl as sacrebleu applies them.
std::vector<std::u32string> tokens_13a(const std::string& raw) {
  std::u32string text = decoded(raw);
  while (!text.empty() && is_space(text.back())) text.pop_back();
  constexpr std::array<std::array<std::u32string_view, 2>, 7> kReplacements = {{{U"<skipped>", U""},
                                                                                {U"-\n", U""},
                                                                                {U"\n", U" "},
                                                                                {U"&quot;", U"\""},
                                                                                {U"&amp;", U"&"},
                                                                                {U"&lt;", U"<"},
                                                                                {U"&gt;", U">"}}};
  for (const auto& [from, to] : kReplacements) replace_all(text, from, to);
  std::u32string line = U" ";
  for (const char32_t c : text) is_symbol(c) ? (line += U' ', line += c, line += U' ') : line += c;
  line += U' ';
  const auto no_digit = [](char32_t c) { return !is_digit(c); };
  const auto is_dash = [](char32_t c) { return c == U'-'; };
  line = spaced(line, no_digit, is_point, U"", U" ", U" ");
  line = spaced(line, is_point, no_digit, U" ", U" ", U"");
  line = spaced(line, is_digit, is_dash, U"", U" ", U" ");
  return split(line);
}

Counts word_ngrams(const std::vector<std::u32string>& words, size_t order) {
  Counts out;
  for (size_t i = 0; i + order <= words.size(); ++i) {
    std::u32string ngram = words[i];
    for (size_t k = 1; k < order; ++k) ngram.append(U" ").append(words[i + k]);
    ++out[ngram];
  }
  return out;
}

Counts character_ngrams(const std::u32string& text, size_t order) {
  Counts out;
  for (size_t i = 0; i + order <= text.size(); ++i) ++out[text.substr(i, order)];
  return out;
}

int64_t total(const Counts& counts) {
  return std::accumulate(counts.begin(), counts.end(), int64_t{0},
                         [](int64_t sum, const auto& entry) { return sum + entry.second; });
}

/// n-grams of both, each as often as it occurs in both.
int64_t matches(const Counts& a, const Counts& b) {
  int64_t out = 0;
  for (const auto& [ngram, count] : a)
    if (const auto found = b.find(ngram); found != b.end()) out += std::min(count, found->second);
  return out;
}

struct BleuCounts {
  double predicted_length = 0, reference_length = 0;
  std::array<double, kWordOrder> correct = {}, total = {};
};

void add_bleu_counts(BleuCounts& sums, const std::string& predicted, const std::vector<std::string>& references) {
  const auto words = tokens_13a(predicted);
  std::vector<std::vector<std::u32string>> reference_words;
  for (const std::string& reference : references) reference_words.push_back(tokens_13a(reference));
  // The reference nearest in length counts, the shorter of two equally near.
  const auto distance = [&](size_t length) {
    return length > words.size() ? length - words.size() : words.size() - length;
  };
  size_t nearest_length = reference_words[0].size();
  for (const auto& reference : reference_words) {
    const size_t length = reference.size();
    if (std::pair(distance(length), length) < std::pair(distance(nearest_length), nearest_length))
      nearest_length = length;
  }
  sums.predicted_length += static_cast<double>(words.size());
  sums.reference_length += static_cast<double>(nearest_length);
  for (size_t n = 1; n <= kWordOrder; ++n) {
    Counts best;
    for (const auto& reference : reference_words)
      for (const auto& [ngram, count] : word_ngrams(reference, n)) best[ngram] = std::max(best[ngram], count);
    const Counts found = word_ngrams(words, n);
    sums.correct[n - 1] += static_cast<double>(matches(found, best));
    sums.total[n - 1] += static_cast<double>(total(found));
  }
}

double bleu_of(const BleuCounts& sums) {
  if (std::all_of(sums.correct.begin(), sums.correct.end(), [](double c) { return c == 0; })) return 0;
  double smoothing = 1, logarithms = 0;
  for (size_t n = 0; n < kWordOrder; ++n) {
    if (sums.total[n] == 0) return 0;
    // NIST's smoothing: the k-th order without a match counts 1 / 2^k matches.
    const double correct = sums.correct[n] > 0 ? sums.correct[n] : 1 / (smoothing *= 2);
    logarithms += std::log(100 * correct / sums.total[n]);
  }
  const bool short_texts = sums.predicted_length < sums.reference_length;
  const double penalty = short_texts ? std::exp(1 - sums.reference_length / sums.predicted_length) : 1;
  return penalty * std::exp(logarithms / kWordOrder);
}

struct ChrfCounts {
  std::array<double, kCharacterOrder> predicted = {}, reference = {}, both = {};
};

ChrfCounts chrf_counts(const std::u32string& predicted, const std::u32string& reference) {
  ChrfCounts out;
  for (size_t n = 1; n <= kCharacterOrder; ++n) {
    const Counts a = character_ngrams(predicted, n), b = character_ngrams(reference, n);
    out.predicted[n - 1] = b.empty() ? 0 : static_cast<double>(total(a));
    out.reference[n - 1] = static_cast<double>(total(b));
    out.both[n - 1] = static_cast<double>(matches(a, b));
  }
  return out;
}

/// Precision and recall are means over the orders that occur on both sides.
double chrf_of(const ChrfCounts& counts) {
  double precision = 0, recall = 0, orders = 0;
  for (size_t n = 0; n < kCharacterOrder; ++n) {
    if (counts.predicted[n] == 0 || counts.reference[n] == 0) continue;
    precision += counts.both[n] / counts.predicted[n];
    recall += counts.both[n] / counts.reference[n];
    ++orders;
  }
  if (precision + recall == 0) return 0;
  precision /= orders;
  recall /= orders;
  constexpr double kBetaSquared = 4;
  return 100 * (1 + kBetaSquared) * precision * recall / (kBetaSquared * precision + recall);
}

std::u32string without_space(const std::string& text) {
  std::u32string out = decoded(text);
  std::erase_if(out, is_space);
  return out;
}

/// Runs of ASCII letters and digits of the lower-cased text.
std::vector<std::u32string> rouge_tokens(const std::string& text) {
  std::u32string line;
  for (const char32_t c : decoded(text)) {
    const bool upper = c >= U'A' && c <= U'Z';
    const bool kept = upper || (c >= U'a' && c <= U'z') || is_digit(c);
    // Two characters outside ASCII have an ASCII letter as their lower case.
    if (c == U'\u212A') line += U'k';
    else if (c == U'\u0130') line += U"i ";
    else line += kept ? (upper ? c + 32 : c) : U' ';
  }
  return split(line);
}

double f_measure(double both, double predicted, double reference) {
  const double precision = both / std::max(predicted, 1.0), recall = both / std::max(reference, 1.0);
  return precision + recall > 0 ? 2 * precision * recall / (precision + recall) : 0;
}

double rouge_n(const std::vector<std::u32string>& a, const std::vector<std::u32string>& b, size_t order) {
  const Counts x = word_ngrams(a, order), y = word_ngrams(b, order);
  return f_measure(static_cast<double>(matches(x, y)), static_cast<double>(total(x)), static_cast<double>(total(y)));
}

size_t longest_common_subsequence(const std::vector<std::u32string>& a, const std::vector<std::u32string>& b) {
  std::vector<size_t> row(b.size() + 1, 0);
  for (const auto& word : a) {
    size_t diagonal = 0;
    for (size_t j = 1; j <= b.size(); ++j) {
      const size_t above = row[j];
      row[j] = word == b[j - 1] ? diagonal + 1 : std::max(row[j], row[j - 1]);
      diagonal = above;
    }
  }
  return row.back();
}

}  // namespace

std::string tokenize_13a(const std::string& text) {
  std::u32string out;
  for (const auto& token : tokens_13a(text)) out.append(out.empty() ? U"" : U" ").append(token);
  return encoded(out);
}

double bleu(std::span<const std::string> predicted, std::span<const std::vector<std::string>> references) {
  require_references(predicted.size(), references);
  if (predicted.empty()) return kUndefined;
  BleuCounts sums;
  for (size_t i = 0; i < predicted.size(); ++i) add_bleu_counts(sums, predicted[i], references[i]);
  return bleu_of(sums);
}

double chrf(std::span<const std::string> predicted, std::span<const std::vector<std::string>> references) {
  require_references(predicted.size(), references);
  if (predicted.empty()) return kUndefined;
  ChrfCounts sums;
  for (size_t i = 0; i < predicted.size(); ++i) {
    const std::u32string text = without_space(predicted[i]);
    ChrfCounts best;
    double best_score = -1;
    for (const std::string& reference : references[i]) {
      const ChrfCounts counts = chrf_counts(text, without_space(reference));
      const double score = chrf_of(counts);
      if (score > best_score) best = counts, best_score = score;
    }
    for (size_t n = 0; n < kCharacterOrder; ++n) {
      sums.predicted[n] += best.predicted[n];
      sums.reference[n] += best.reference[n];
      sums.both[n] += best.both[n];
    }
  }
  return chrf_of(sums);
}

RougeScores rouge(std::span<const std::string> predicted, std::span<const std::vector<std::string>> references) {
  require_references(predicted.size(), references);
  if (predicted.empty()) return {kUndefined, kUndefined, kUndefined};
  RougeScores sums;
  for (size_t i = 0; i < predicted.size(); ++i) {
    const auto words = rouge_tokens(predicted[i]);
    RougeScores best;
    for (const std::string& reference : references[i]) {
      const auto other = rouge_tokens(reference);
      best.rouge1 = std::max(best.rouge1, rouge_n(words, other, 1));
      best.rouge2 = std::max(best.rouge2, rouge_n(words, other, 2));
      const auto common = static_cast<double>(longest_common_subsequence(words, other));
      best.rouge_l = std::max(best.rouge_l,
                              f_measure(common, static_cast<double>(words.size()), static_cast<double>(other.size())));
    }
    sums.rouge1 += best.rouge1;
    sums.rouge2 += best.rouge2;
    sums.rouge_l += best.rouge_l;
  }
  const auto n = static_cast<double>(predicted.size());
  return {sums.rouge1 / n, sums.rouge2 / n, sums.rouge_l / n};
}

}  // namespace deeplora
