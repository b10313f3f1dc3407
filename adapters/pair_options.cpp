#include "adapters/pair_options.h"

#include <torch/torch.h>

#include <cmath>
#include <cstdlib>

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
    else out.push_back({item.substr(0, equals), value});
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
  out.ranks = read_values(config, "ranks",
                          "weights with a rank of their own: PATTERN=RANK, a path glob; the first that matches");
  out.alphas = read_values(config, "alphas",
                           "weights with an alpha of their own: PATTERN=ALPHA, a path glob; the first that matches");
  for (const auto& [pattern, rank] : out.ranks)
    if (rank < 1 || rank != std::floor(rank) || rank > 1e9)
      config.mistake("ranks", cat("expected a rank of at least 1 for '", pattern, "', found ", rank));
  for (const auto& [pattern, alpha] : out.alphas)
    if (alpha == 0) config.mistake("alphas", cat("expected a number other than zero for '", pattern, "'"));
  return out;
}

PairOptions PairOptions::at(const AdapterContext& site) const {
  PairOptions out = *this;
  if (const SiteValue* value = value_at(own.ranks, site.path))
    out.ranks = ranks.of_its_own(static_cast<int64_t>(value->value));
  if (const SiteValue* value = value_at(own.alphas, site.path)) {
    out.alpha = value->value;
    if (scaling == Scaling::none) out.scaling = Scaling::by_rank;
  }
  return out;
}

double PairOptions::scale(int64_t r) const {
  const auto rank = static_cast<double>(r);
  return scaling == Scaling::none ? 1 : alpha / (scaling == Scaling::by_rank ? rank : std::sqrt(rank));
}

PairOptions read_rank_and_dropout(const Config& config) {
  PairOptions options;
  config.read("rank", options.rank,
              "rank r of the update B A; a weight whose smaller side is less gets that as its rank");
  config.require(options.rank >= 1, "rank", "a rank of at least 1");
  config.read("dropout", options.dropout,
              "probability of dropping an input of the update in training; embeddings take none");
  config.require(options.dropout >= 0 && options.dropout < 1, "dropout", "a probability in [0, 1)");
  options.ranks = SiteRanks(config.where("rank"), options.rank);
  return options;
}

PairOptions read_pair_options(const Config& config, Scaling scaling) {
  PairOptions options = read_rank_and_dropout(config);
  config.read("alpha", options.alpha,
              scaling == Scaling::by_root_of_rank ? "the update is multiplied by alpha / sqrt(rank)"
                                                  : "the update is multiplied by alpha / rank");
  config.require(std::isfinite(options.alpha) && options.alpha != 0, "alpha", "a number other than zero");
  options.scaling = scaling;
  options.own = read_site_values(config);
  return options;
}

void read_optional_alpha(const Config& config, PairOptions& options, std::string_view doc) {
  std::optional<double> alpha;
  config.read("alpha", alpha, doc);
  config.require(!alpha || (std::isfinite(*alpha) && *alpha != 0), "alpha", "a number other than zero");
  if (!alpha) return;
  options.alpha = *alpha;
  options.scaling = Scaling::by_rank;
}

SingularPairs gradient_to_start_from(const AdapterContext& site, int64_t k, std::string_view method) {
  SingularPairs pairs = site.leading_gradient(k);
  check(pairs.s.max().item<double>() > 0, "the gradient of ", site.path, " at the start is zero, so ", method,
        " has no direction to start in; leave it out of adapter.targets");
  return pairs;
}

FactorChain peft_pair(const PairOptions& options, const AdapterContext& site) {
  const ChainShape shape{site.out(), site.in(), options.ranks.of(site), 2};
  const double scale = options.scale(shape.width);
  return site.kind == SiteKind::embedding
             ? gaussian_zero_chain(shape, ZeroSide::output, 1, scale, site.generator, site.factor_options)
             : kaiming_zero_chain(shape, scale, site.generator, site.factor_options);
}

}  // namespace deeplora
