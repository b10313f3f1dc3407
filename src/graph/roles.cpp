#include "graph/roles.h"

#include <algorithm>
#include <cctype>

#include "lm/targets.h"

namespace deeplora {
namespace {

struct RoleRule {
  const char* role;
  std::vector<const char*> patterns;  ///< globs over "." + the path in lower case, without ".weight"
};

/// The first rule that matches decides, so the narrower names of a word that several roles share come first.
/// Names are those of transformers' families, of torch.nn and of the models that were published with their
/// own code.
const std::vector<RoleRule>& role_rules() {
  static const std::vector<RoleRule> rules{
      {"lm_head", {"*.lm_head", "*.embed_out", "*.lm_head.decoder", "*.predictions.decoder", "*.output_projection"}},
      {"head",
       {"*.classifier", "*.classifier.dense", "*.classifier.out_proj", "*.pre_classifier", "*.score",
        "*.classification_head.*", "*.logits_proj", "*.sequence_summary.summary", "*.regressor"}},
      {"pooler", {"*pooler*"}},
      {"query_key_value",
       {"*.c_attn", "*.query_key_value", "*.in_proj", "*.in_proj_weight", "*.qkv", "*.qkv_proj", "*.wqkv"}},
      {"query", {"*.query", "*.query_proj", "*.q_proj", "*.q_lin", "*.q", "*.wq", "*.to_q", "*.linear_q"}},
      {"key", {"*.key", "*.key_proj", "*.k_proj", "*.k_lin", "*.k", "*.wk", "*.to_k", "*.linear_k"}},
      {"value", {"*.value", "*.value_proj", "*.v_proj", "*.v_lin", "*.v", "*.wv", "*.to_v", "*.linear_v"}},
      {"attention_output",
       {"*attention*.output.dense", "*attention.dense", "*attn.dense", "*attn*.c_proj", "*attn*.out_proj",
        "*attention*.out_proj", "*.out_lin", "*.o_proj", "*attention.o", "*attn.o", "*attn*.wo", "*attention.wo",
        "*.to_out", "*.to_out.0"}},
      {"mlp_gate", {"*.gate_proj", "*.wi_0", "*.w1"}},
      {"mlp_in",
       {"*.intermediate.dense", "*.fc1", "*.lin1", "*.up_proj", "*.wi", "*.wi_1", "*.w3", "*.c_fc", "*.dense_h_to_4h",
        "*.linear1", "*.gate_up_proj", "*.fc_in", "*.ffn", "*.ff.layer_1"}},
      {"mlp_out",
       {"*.output.dense", "*.fc2", "*.lin2", "*.down_proj", "*.wo", "*.w2", "*.mlp.c_proj", "*.dense_4h_to_h",
        "*.linear2", "*.fc_out", "*.ffn_output", "*.ff.layer_2"}},
  };
  return rules;
}

}  // namespace

std::string guess_role(const std::string& weight_path, SiteKind kind) {
  if (kind == SiteKind::embedding) return "embedding";
  std::string path = "." + module_path(weight_path);
  std::transform(path.begin(), path.end(), path.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  for (const auto& rule : role_rules())
    for (const char* pattern : rule.patterns)
      if (glob_matches(pattern, path)) return rule.role;
  return "other";
}

std::string role_of_weight(const std::string& weight_path, SiteKind kind, const std::string& op) {
  if (kind != SiteKind::weight) return guess_role(weight_path, kind);
  for (const char* recurrent : {"lstm", "gru", "rnn_"})
    if (op.find(recurrent) != std::string::npos) return "recurrent";
  return op.find("conv") != std::string::npos ? "convolution" : guess_role(weight_path, kind);
}

}  // namespace deeplora
