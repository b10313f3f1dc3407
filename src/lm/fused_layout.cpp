#include <optional>
#include <set>

#include "lm/fused_rows.h"

namespace deeplora {
namespace {

/// Each of `groups` runs of rows holds `query` rows, then `key_value` rows of keys, then as many of values.
struct GroupedRows {
  int64_t groups, query, key_value;
};

/// Of the first key that is there. Larger numbers than any model's would only overflow what is computed from them.
int64_t number_of(const JsonFile& config, std::initializer_list<const char*> keys, int64_t otherwise = 0) {
  constexpr int64_t kMost = int64_t{1} << 20;
  for (const char* key : keys) {
    if (!config.has(key)) continue;
    const auto number = config.at<int64_t>(key);
    check(number >= 0 && number <= kMost, config.name, ": ", key, ": expected a number from 0 to ", kMost, ", found ",
          number);
    return number;
  }
  return otherwise;
}

struct HeadCounts {
  int64_t heads, key_value_heads, width;

  explicit HeadCounts(const JsonFile& config)
      : heads(number_of(config, {"num_attention_heads", "n_head", "n_heads"})),
        key_value_heads(number_of(config, {"num_key_value_heads", "kv_n_heads", "num_kv_heads"}, heads)),
        width(number_of(config, {"head_dim"})) {
    if (width == 0 && heads > 0) width = number_of(config, {"hidden_size", "n_embd", "d_model"}) / heads;
  }
  bool known() const { return heads > 0 && key_value_heads > 0 && width > 0; }
  GroupedRows blocks() const { return {1, heads * width, key_value_heads * width}; }
  GroupedRows per_head() const { return {heads, width, width}; }
  GroupedRows per_key_value_head() const { return {key_value_heads, heads / key_value_heads * width, width}; }
};

/// Falcon: new_decoder_architecture groups by key-value head; else multi_query has one key and value for all.
GroupedRows falcon(const JsonFile& config, const HeadCounts& counts) {
  if (config.value("new_decoder_architecture", false)) return counts.per_key_value_head();
  if (config.value("multi_query", true)) return {1, counts.heads * counts.width, counts.width};
  return counts.per_head();
}

std::optional<GroupedRows> of_family(const JsonFile& config) {
  static const std::set<std::string> in_blocks{"gpt2", "openai-gpt", "imagegpt", "modernbert", "mpt", "phi3"};
  static const std::set<std::string> by_head{"gpt_neox", "gpt_neox_japanese", "bloom", "persimmon"};
  const std::string type = config.value("model_type", std::string());
  const HeadCounts counts(config);
  if (!counts.known()) return std::nullopt;
  if (in_blocks.count(type)) return counts.blocks();
  if (by_head.count(type)) return counts.per_head();
  if (type == "falcon") return falcon(config, counts);
  if (type == "gpt_bigcode")
    return config.value("multi_query", true) ? GroupedRows{1, counts.heads * counts.width, counts.width}
                                             : counts.per_head();
  return std::nullopt;
}

std::string unknown_layout(const JsonFile& config) {
  const std::string type = config.value("model_type", std::string());
  return cat("how its rows are shared among query, key and value is not known (",
             type.empty() ? "the archive holds no config.json with a model_type" : cat("model_type '", type, "'"),
             "); say so with adapter.fused_layout: blocks or per-head, or adapt the whole weight (query_key_value)");
}

void describe_rows(AdapterSite& site, const JsonFile& config, FusedLayout layout) {
  const int64_t out = site.weight.size(0);
  std::optional<GroupedRows> rows;
  const bool torch_nn = site.path.ends_with("in_proj_weight");
  if (layout == FusedLayout::blocks || (layout == FusedLayout::automatic && torch_nn)) {
    rows = {1, out / 3, out / 3};
  } else if (layout == FusedLayout::per_head) {
    const HeadCounts counts(config);
    if (counts.heads > 0) rows = {counts.heads, out / counts.heads / 3, out / counts.heads / 3};
    else site.layout_unknown = "adapter.fused_layout: per-head needs num_attention_heads of the archive's config.json";
  } else {
    rows = of_family(config);
    if (!rows) site.layout_unknown = unknown_layout(config);
  }
  if (!rows) return;
  const auto [groups, query, key_value] = *rows;
  if (groups * (query + 2 * key_value) != out) {
    site.layout_unknown = cat("its ", out, " rows are not ", groups, " x (", query, " query + ", key_value, " key + ",
                              key_value, " value) rows, as ",
                              layout == FusedLayout::automatic ? "its config.json says" : "adapter.fused_layout says");
    return;
  }
  site.blocks = {
      {"query", groups, 0, query}, {"key", groups, query, key_value}, {"value", groups, query + key_value, key_value}};
}

}  // namespace

FusedLayout parse_fused_layout(const std::string& name) {
  if (name == "auto") return FusedLayout::automatic;
  if (name == "blocks") return FusedLayout::blocks;
  if (name == "per-head") return FusedLayout::per_head;
  fail("unknown fused_layout '", name, "'; known: auto, blocks, per-head");
}

void find_row_blocks(std::vector<AdapterSite>& sites, const JsonFile& config, FusedLayout layout) {
  for (auto& site : sites)
    if (site.role == "query_key_value") describe_rows(site, config, layout);
}

}  // namespace deeplora
