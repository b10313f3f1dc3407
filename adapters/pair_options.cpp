#include "adapters/pair_options.h"

#include <torch/torch.h>

#include <cmath>
#include <cstdlib>

#include "adapters/chain_adapter.h"
#include "factorization/initialization.h"
#include "lm/targets.h"

namespace deeplora {
namespace {

std::vector<SiteValue> read_values(const Config& config, const std::string& key, std::string_view doc) {
  std::vector<std::string> items;
  config.read(key, items, doc);
  std::vector<SiteValue> out;
  for (const auto& item : items) {
    const size_t equals = item.rfind('=');
    const std::string number = equals == std::string::npos ? "" : item.substr(equals + 1);
    char* end = nullptr;
    const double value = std::strtod(number.c_str(), &end);
    if (number.empty() || *end != '\0' || !std::isfinite(value) || equals == 0)
      config.mistake(key, cat("expected PATTERN=NUMBER, e.g. \"*.query=4\", found '", item, "'"));
    else
      out.push_back({item.substr(0, equals), value});
  }
  return out;
}

const SiteValue* value_at(const std::vector<SiteValue>& values, const std::string& path) {
  for (const auto& value : values)
    if (glob_matches(value.pattern, path) || glob_matches(value.pattern, module_path(path))) return &value;
  return nullptr;
}

}  // namespace

SiteValues read_site_values(const Config& config) {
  SiteValues out;
  out.ranks = read_values(config, "ranks", "weights with a rank of their own: PATTERN=RANK, a path glob; the first that matches");
  out.alphas = read_values(config, "alphas", "weights with an alpha of their own: PATTERN=ALPHA, a path glob; the first that matches");
  for (const auto& [pattern, rank] : out.ranks)
    if (rank < 1 || rank != std::floor(rank) || rank > 1e9) config.mistake("ranks", cat("expected a rank of at least 1 for '", pattern, "', found ", rank));
  for (const auto& [pattern, alpha] : out.alphas)
    if (alpha == 0) config.mistake("alphas", cat("expected a number other than zero for '", pattern, "'"));
  return out;
}

PairOptions PairOptions::at(const AdapterContext& site) const {
  PairOptions out = *this;
  if (const SiteValue* value = value_at(own.ranks, site.path)) out.rank = static_cast<int64_t>(value->value);
  if (const SiteValue* value = value_at(own.alphas, site.path)) out.alpha = value->value;
  const auto r = static_cast<double>(out.rank);
  out.scale = out.alpha / (scaling == Scaling::by_root_of_rank ? std::sqrt(r) : r);
  return out;
}

PairOptions read_rank_and_dropout(const Config& config) {
  PairOptions options;
  options.scale = 1;
  config.read("rank", options.rank,
              "rank r of the update B A; at most the smaller side of every adapted weight");
  config.require(options.rank >= 1, "rank", "a rank of at least 1");
  config.read("dropout", options.dropout,
              "probability of dropping an input of the update in training; embeddings take none");
  config.require(options.dropout >= 0 && options.dropout < 1, "dropout", "a probability in [0, 1)");
  options.where = config.where("rank");
  return options;
}

PairOptions read_pair_options(const Config& config, Scaling scaling) {
  PairOptions options = read_rank_and_dropout(config);
  const bool root = scaling == Scaling::by_root_of_rank;
  config.read("alpha", options.alpha,
              root ? "the update is multiplied by alpha / sqrt(rank)" : "the update is multiplied by alpha / rank");
  config.require(std::isfinite(options.alpha) && options.alpha != 0, "alpha", "a number other than zero");
  const auto rank = static_cast<double>(options.rank);
  options.scale = options.alpha / (root ? std::sqrt(rank) : rank);
  options.scaling = scaling;
  options.own = read_site_values(config);
  return options;
}

double read_optional_alpha(const Config& config, int64_t rank, std::string_view doc) {
  std::optional<double> alpha;
  config.read("alpha", alpha, doc);
  config.require(!alpha || (std::isfinite(*alpha) && *alpha != 0), "alpha", "a number other than zero");
  return alpha ? *alpha / static_cast<double>(rank) : 1;
}

FactorChain peft_pair(const PairOptions& options, const AdapterContext& site) {
  check_rank(options.where, options.rank, 1, site);
  const ChainShape shape{site.out(), site.in(), options.rank, 2};
  return site.kind == SiteKind::embedding
             ? gaussian_zero_chain(shape, ZeroSide::output, 1, options.scale, site.generator, site.factor_options)
             : kaiming_zero_chain(shape, options.scale, site.generator, site.factor_options);
}

}  // namespace deeplora
