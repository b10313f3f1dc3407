#include "interchange/gguf.h"

#include <torch/torch.h>

#include <algorithm>
#include <map>

#include "interchange/gguf_file.h"
#include "interchange/peft.h"
#include "lm/targets.h"

namespace deeplora {
namespace {

/// A model_type of config.json in llama.cpp.
struct GgufArchitecture {
  std::string name;
  bool permutes;  ///< the converter reorders the rows of query and key for llama.cpp's rotary positions
};

const std::map<std::string, GgufArchitecture>& architectures() {
  static const std::map<std::string, GgufArchitecture> known{
      {"llama", {"llama", true}},   {"mistral", {"llama", true}},  {"qwen2", {"qwen2", false}},
      {"qwen3", {"qwen3", false}},  {"gemma", {"gemma", false}},   {"gemma2", {"gemma2", false}},
      {"gemma3_text", {"gemma3", false}}};
  return known;
}

/// "model.layers.3.self_attn.q_proj" -> "blk.3.attn_q"; empty for a module that has no such name.
std::string gguf_module(const std::string& module) {
  static const std::map<std::string, std::string> parts{
      {"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"},
      {"self_attn.o_proj", "attn_output"}, {"mlp.gate_proj", "ffn_gate"}, {"mlp.up_proj", "ffn_up"},
      {"mlp.down_proj", "ffn_down"}};
  if (module == "lm_head") return "output";
  const std::string before = "model.layers.";
  if (!module.starts_with(before)) return "";
  const size_t dot = module.find('.', before.size());
  if (dot == std::string::npos) return "";
  const auto part = parts.find(module.substr(dot + 1));
  return part == parts.end() ? "" : cat("blk.", module.substr(before.size(), dot - before.size()), ".", part->second);
}

/// Rows of b [out, r] from Hugging Face's order of rotary halves to llama.cpp's pairs, head by head.
torch::Tensor permuted_rows(const torch::Tensor& b, int64_t heads) {
  return b.reshape({heads, 2, b.size(0) / heads / 2, b.size(1)}).transpose(1, 2).reshape(b.sizes());
}

/// One site's pair under llama.cpp's name.
struct GgufPair {
  std::string module;
  torch::Tensor a, b;  ///< [r, in], [out, r], b with the scale folded in
};

class PairMaker {
 public:
  PairMaker(const ModelFiles& files, const GgufArchitecture& architecture)
      : files_(files),
        permutes_(architecture.permutes),
        heads_(files.config().value("num_attention_heads", int64_t{0})),
        kv_heads_(files.config().value("num_key_value_heads", heads_)) {}

  /// Notes what cannot be held; the rest goes to pairs().
  void add(const AdapterSite& site, const Adapter& adapter) {
    const std::string module = module_path(hugging_face_name(files_, site.archive_path()));
    const std::string name = gguf_module(module);
    const auto update = adapter.peft_update();
    if (site.kind == SiteKind::embedding) errors_.add(site.path, ": llama.cpp takes no LoRA at an embedding from this program");
    else if (!site.fused_path.empty() || name.empty()) errors_.add(site.path, ": has no name in llama.cpp");
    else if (!update || update->magnitude.defined()) errors_.add(site.path, ": this method's update is no plain LoRA pair");
    else pairs_.push_back(pair_of(name, site, update->pair));
  }

  const std::vector<GgufPair>& pairs() const { return pairs_; }
  Errors& errors() { return errors_; }

 private:
  GgufPair pair_of(const std::string& name, const AdapterSite& site, const LowRankPair& pair) {
    torch::Tensor b = (pair.b.to(torch::kFloat32) * pair.scale).contiguous();
    const bool query = site.role == "query", key = site.role == "key";
    if (permutes_ && (query || key)) b = permuted_rows(b, query ? heads_ : kv_heads_).contiguous();
    return {name, pair.a.to(torch::kCPU, torch::kFloat32).contiguous(), b.to(torch::kCPU)};
  }

  const ModelFiles& files_;
  bool permutes_;
  int64_t heads_, kv_heads_;
  std::vector<GgufPair> pairs_;
  Errors errors_;
};

}  // namespace

void export_gguf_adapter(const ModelFiles& files, const AdaptedModel& adapted, const std::filesystem::path& output) {
  const torch::NoGradGuard no_grad;
  const std::string type = files.config().value("model_type", std::string());
  const auto found = architectures().find(type);
  std::vector<std::string> known;
  for (const auto& [name, unused] : architectures()) known.push_back(name);
  check(found != architectures().end(), "a GGUF adapter of model_type '", type, "' cannot be written; known: ", join(known, ", ", known.size()),
        "; export peft or safetensors");
  check(!adapted.adapters().empty(), "this run has no adapters (method none or full); export safetensors and convert the folder with llama.cpp's converter");

  PairMaker maker(files, found->second);
  if (adapted.new_head() || !adapted.trained_base().empty()) maker.errors().add("a trained head has no place in a GGUF adapter");
  for (const auto& [site, adapter] : adapted.adapters()) maker.add(site, *adapter);
  maker.errors().throw_if_any("a GGUF adapter cannot hold this run (export peft or safetensors)");

  // llama.cpp multiplies every pair by alpha / its own rank: with the scales folded in, that has to be 1.
  int64_t largest = 1;
  for (const auto& pair : maker.pairs()) largest = std::max(largest, pair.a.size(0));
  std::vector<torch::Tensor> kept;
  std::vector<GgufTensor> tensors;
  const auto add = [&](const std::string& name, const torch::Tensor& value) {
    kept.push_back(value.contiguous());
    const torch::Tensor& x = kept.back();
    tensors.push_back({name, x.sizes().vec(), {x.const_data_ptr<float>(), static_cast<size_t>(x.numel())}});
  };
  for (const auto& pair : maker.pairs()) {
    const double share = static_cast<double>(pair.a.size(0)) / static_cast<double>(largest);
    add(pair.module + ".weight.lora_a", pair.a);
    add(pair.module + ".weight.lora_b", pair.b * share);
  }
  write_gguf(output, {{"general.type", std::string("adapter")},
                      {"general.architecture", found->second.name},
                      {"general.name", std::string("deeplora adapter")},
                      {"adapter.type", std::string("lora")},
                      {"adapter.lora.alpha", static_cast<float>(largest)}},
             tensors);
}

}  // namespace deeplora
