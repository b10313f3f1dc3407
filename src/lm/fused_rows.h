// Query, key and value in one weight: whose rows are which, and adapters at some of them.
#pragma once

#include <string>
#include <vector>

#include "core/json_file.h"
#include "lm/language_model.h"

namespace deeplora {

/// How the rows of a fused weight are laid out.
enum class FusedLayout {
  automatic,  ///< by config.json's model_type, or by the name (in_proj_weight of torch.nn.MultiheadAttention)
  blocks,     ///< all query rows, all key rows, all value rows, in equal parts
  per_head,   ///< query, key and value rows of the first head, then of the second; heads from config.json
};
FusedLayout parse_fused_layout(const std::string& name);

/// Fills `blocks`, or `layout_unknown`, of every site with the role query_key_value. `config` is the archive's
/// config.json. Sources of the layouts: the attention modules of transformers, one by one.
void find_row_blocks(std::vector<AdapterSite>& sites, const JsonFile& config, FusedLayout layout);

/// "a.c_attn.weight", "query" -> "a.c_attn.query.weight"
std::string block_path(const AdapterSite& whole, const std::string& role);

/// Every block of a fused site as a site of its own: path block_path(), weight [groups x size, in]. An adapter
/// there sees its own rows of weight and bias only, so any method works, and is what it would be at an unfused
/// projection. The sites of one call share the fused weight's slot. Empty for other sites.
std::vector<AdapterSite> block_sites(const AdapterSite& whole);

}  // namespace deeplora
