#include "lm/targets.h"

#include <regex>
#include <set>

#include "lm/fused_rows.h"

namespace deeplora {
namespace {

constexpr const char *kAllLinear = "all-linear", *kAllDense = "all-dense", *kDenseOrLinear = "dense-or-linear",
                     *kAllWeights = "all-weights";

bool in_preset(const AdapterSite& site, const std::string& preset) {
  const bool linear = site.kind == SiteKind::linear && site.role != "head" && site.role != "lm_head";
  if (preset == kAllLinear) return linear;
  if (preset == kAllWeights) return site.role != "head" && site.role != "lm_head";
  if (preset == "query-value") return site.role == "query" || site.role == "value";
  if (preset == "attention-mlp")
    return site.role == "query" || site.role == "key" || site.role == "value" || site.role == "query_key_value" ||
           site.role == "attention_output" || site.role == "mlp_in" || site.role == "mlp_gate" ||
           site.role == "mlp_out";
  return (linear || site.kind == SiteKind::embedding) && site.weight.dim() == 2 &&
         std::min(site.weight.size(0), site.weight.size(1)) >= 512;
}

bool matches(const AdapterSite& site, const std::string& target) {
  const auto presets = target_presets();
  if (std::find(presets.begin(), presets.end(), target) != presets.end()) return in_preset(site, target);
  if (target.rfind("re:", 0) == 0) {
    try {
      const std::regex pattern(target.substr(3));
      return std::regex_match(site.path, pattern) || std::regex_match(module_path(site.path), pattern);
    } catch (const std::regex_error& e) {
      fail("adapter.targets: '", target, "' is not a regular expression: ", e.what());
    }
  }
  return site.role == target || glob_matches(target, site.path) || glob_matches(target, module_path(site.path));
}

/// What the targets want of one site: all of it, or the rows of some projections of a fused weight.
struct Wanted {
  bool whole = false;
  std::set<std::string> blocks;  ///< roles
};

/// Notes what `target` wants of a site; false when that is nothing.
bool choose(const AdapterSite& site, const std::string& target, Wanted& wanted, Errors& errors) {
  if (matches(site, target)) return wanted.whole = true;
  if (site.blocks.empty() && site.layout_unknown.empty()) return false;
  bool any = false;
  for (const char* role : {"query", "key", "value"}) {
    AdapterSite block = site;
    block.role = role;
    block.path = block_path(site, role);
    if (!matches(block, target)) continue;
    any = true;
    wanted.blocks.insert(role);
  }
  if (any && site.blocks.empty())
    errors.add("'", target, "' wants rows of the fused weight ", site.path, ", but ", site.layout_unknown);
  return any;
}

}  // namespace

std::vector<std::string> target_presets() {
  return {kAllLinear, "query-value", "attention-mlp", kAllDense, kDenseOrLinear, kAllWeights};
}

std::string module_path(const std::string& weight_path) {
  return weight_path.ends_with(".weight") ? weight_path.substr(0, weight_path.size() - 7) : weight_path;
}

bool glob_matches(std::string_view pattern, std::string_view text) {
  size_t p = 0, t = 0, star = std::string_view::npos, retry = 0;
  while (t < text.size()) {
    if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == text[t]) && pattern[p] != '*') {
      ++p;
      ++t;
    } else if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      retry = t;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      t = ++retry;
    } else {
      return false;
    }
  }
  while (p < pattern.size() && pattern[p] == '*') ++p;
  return p == pattern.size();
}

std::vector<AdapterSite> choose_sites(const std::vector<AdapterSite>& sites, const std::vector<std::string>& targets) {
  check(!targets.empty(), "adapter.targets: an empty list; name a preset: ", join(target_presets()));
  std::vector<Wanted> wanted(sites.size());
  Errors errors;
  std::set<std::string> roles;
  std::vector<std::string> paths;
  for (const auto& site : sites) {
    roles.insert(site.role);
    for (const auto& block : site.blocks) roles.insert(block.role);
    paths.push_back(module_path(site.path));
  }
  const bool any_dense =
      std::any_of(sites.begin(), sites.end(), [](const AdapterSite& site) { return in_preset(site, kAllDense); });
  for (const auto& named : targets) {
    const std::string target = named != kDenseOrLinear ? named : any_dense ? kAllDense : kAllLinear;
    bool any = false;
    for (size_t i = 0; i < sites.size(); ++i) any |= choose(sites[i], target, wanted[i], errors);
    if (any) continue;
    std::vector<std::string> words = target_presets();
    words.insert(words.end(), roles.begin(), roles.end());
    errors.add("'", target, "' matches no weight", did_you_mean(target, words));
  }
  if (!errors.empty())
    errors.throw_if_any(cat("adapter.targets (presets: ", join(target_presets()), "; roles here: ", join(roles),
                            "; paths here: ", join(paths, ", ", 8), ")"));
  std::vector<AdapterSite> out;
  for (size_t i = 0; i < sites.size(); ++i) {
    if (wanted[i].whole) out.push_back(sites[i]);
    if (wanted[i].whole || wanted[i].blocks.empty()) continue;
    for (auto& block : block_sites(sites[i]))
      if (wanted[i].blocks.count(block.role)) out.push_back(std::move(block));
  }
  return out;
}

}  // namespace deeplora
