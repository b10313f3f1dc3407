#include "interchange/gguf.h"

#include <torch/torch.h>

#include <algorithm>
#include <map>

#include "interchange/export_form.h"
#include "interchange/gguf_file.h"
#include "interchange/names.h"
#include "interchange/peft.h"
#include "lm/targets.h"

namespace deeplora {
namespace {

/// The module of a layer -> its name in llama.cpp.
using GgufParts = std::map<std::string, std::string>;

const GgufParts kLlamaParts{{"self_attn.q_proj", "attn_q"}, {"self_attn.k_proj", "attn_k"},
                            {"self_attn.v_proj", "attn_v"}, {"self_attn.o_proj", "attn_output"},
                            {"mlp.gate_proj", "ffn_gate"},  {"mlp.up_proj", "ffn_up"},
                            {"mlp.down_proj", "ffn_down"}};
const GgufParts kPhi3Parts{{"self_attn.qkv_proj", "attn_qkv"},
                           {"self_attn.o_proj", "attn_output"},
                           {"mlp.gate_up_proj", "ffn_up"},
                           {"mlp.down_proj", "ffn_down"}};
const GgufParts kGpt2Parts{
    {"attn.c_attn", "attn_qkv"}, {"attn.c_proj", "attn_output"}, {"mlp.c_fc", "ffn_up"}, {"mlp.c_proj", "ffn_down"}};

/// A model_type of config.json in llama.cpp.
struct GgufArchitecture {
  std::string name;
  const GgufParts& parts;
  std::string layers = "layers.";  ///< what stands before a layer's number, behind the model's own prefix
  bool permutes = false;  ///< the converter reorders the rows of query and key for llama.cpp's rotary positions
};

const std::map<std::string, GgufArchitecture>& gguf_architectures() {
  static const std::map<std::string, GgufArchitecture> known{
      {"llama", {.name = "llama", .parts = kLlamaParts, .permutes = true}},
      {"mistral", {.name = "llama", .parts = kLlamaParts, .permutes = true}},
      {"qwen2", {.name = "qwen2", .parts = kLlamaParts}},
      {"qwen3", {.name = "qwen3", .parts = kLlamaParts}},
      {"gemma", {.name = "gemma", .parts = kLlamaParts}},
      {"gemma2", {.name = "gemma2", .parts = kLlamaParts}},
      {"gemma3_text", {.name = "gemma3", .parts = kLlamaParts}},
      {"phi3", {.name = "phi3", .parts = kPhi3Parts}},
      {"gpt2", {.name = "gpt2", .parts = kGpt2Parts, .layers = "h."}}};
  return known;
}

const GgufArchitecture& gguf_architecture_of(const ModelFiles& files) {
  const auto& known = gguf_architectures();
  const std::string type = files.config().value("model_type", std::string());
  const auto found = known.find(type);
  if (found != known.end()) return found->second;
  std::vector<std::string> names;
  for (const auto& [name, unused] : known) names.push_back(name);
  fail("a GGUF adapter of ", type.empty() ? "a model without config.json's model_type" : "model_type '" + type + "'",
       " cannot be written; known: ", join(names, ", ", names.size()), "; export peft or safetensors");
}

/// "model.layers.3.self_attn.q_proj" -> "blk.3.attn_q"; empty for a module that has no such name.
std::string gguf_module(const GgufArchitecture& architecture, const std::string& module) {
  if (module == "lm_head") return "output";
  const size_t begin = module.starts_with(architecture.layers) ? 0 : module.find("." + architecture.layers);
  if (begin == std::string::npos) return "";
  const size_t number = begin + (begin == 0 ? 0 : 1) + architecture.layers.size(), dot = module.find('.', number);
  if (dot == std::string::npos) return "";
  const auto part = architecture.parts.find(module.substr(dot + 1));
  return part == architecture.parts.end() ? "" : cat("blk.", module.substr(number, dot - number), ".", part->second);
}

/// Why a GGUF adapter can hold nothing of an adapter; empty where it can.
std::string gguf_obstacle(const GgufArchitecture& architecture, const std::string& module, const AdapterSite& site,
                          const Adapter& adapter) {
  if (site.kind == SiteKind::embedding) return "a table of words or positions has no place in a GGUF adapter";
  if (gguf_module(architecture, module).empty()) return cat("llama.cpp has no name for it in ", architecture.name);
  const auto update = adapter.peft_update();
  if (!update) return "this method's update is no LoRA pair";
  return update->magnitude.defined() ? "DoRA's magnitudes have no place in a GGUF adapter" : "";
}

std::string hub_module(const ModelFiles& files, const AdapterSite& site) {
  return module_path(hugging_face_name(files, site.archive_path()));
}

/// Throws Error, naming everything of the run that a GGUF adapter cannot hold.
void check_fits_gguf(const ModelFiles& files, const GgufArchitecture& architecture, const AdaptedModel& adapted) {
  Errors errors;
  if (adapted.new_head()) errors.add("head: a new head has no place in a GGUF adapter");
  for (const auto& [name, unused] : adapted.trained_base())
    errors.add(name, ": it was trained itself, and a GGUF adapter holds LoRA pairs alone");
  for (const auto& [site, adapter] : adapted.adapters())
    if (const std::string reason = gguf_obstacle(architecture, hub_module(files, site), site, *adapter);
        !reason.empty())
      errors.add(site.path, ": ", reason);
  errors.throw_if_any("a GGUF adapter cannot hold this run; export peft or safetensors");
  check(!adapted.adapters().empty(),
        "this run has no adapters that a GGUF file could hold; export safetensors, which llama.cpp's converter takes");
}

/// Rows of b [out, r] from the order of Hugging Face's rotary positions (halves of a head) to llama.cpp's (pairs), head
/// by head: the `permute` of its convert_hf_to_gguf.py.
torch::Tensor permuted_rows(const torch::Tensor& b, int64_t heads) {
  return b.reshape({heads, 2, b.size(0) / heads / 2, b.size(1)}).transpose(1, 2).reshape(b.sizes());
}

/// Scales are folded into b. llama.cpp multiplies each pair by alpha / (the pair's own rank); one alpha is for all, so
/// pairs of a smaller rank are made smaller by as much.
class GgufPairs {
 public:
  GgufPairs(const ModelFiles& files, const GgufArchitecture& architecture)
      : files_(files), architecture_(architecture) {}

  void add(const AdapterSite& site, const LowRankPair& pair) {
    torch::Tensor b = pair.b.to(torch::kCPU, torch::kFloat32) * pair.scale;
    const int64_t heads = files_.config().value("num_attention_heads", int64_t{0});
    if (architecture_.permutes && site.role == "query") b = permuted_rows(b, heads);
    if (architecture_.permutes && site.role == "key")
      b = permuted_rows(b, files_.config().value("num_key_value_heads", heads));
    pairs_.push_back(
        {gguf_module(architecture_, hub_module(files_, site)) + ".weight", pair.a.to(torch::kCPU, torch::kFloat32), b});
    alpha_ = std::max(alpha_, pair.a.size(0));
  }

  double alpha() const { return static_cast<double>(alpha_); }
  std::vector<NamedTensor> tensors() const {
    std::vector<NamedTensor> out;
    for (const auto& [name, a, b] : pairs_) {
      out.push_back({name + ".lora_a", a.contiguous()});
      out.push_back({name + ".lora_b", (b * (static_cast<double>(a.size(0)) / alpha())).contiguous()});
    }
    return out;
  }

 private:
  struct Pair {
    std::string name;
    torch::Tensor a, b;  ///< [r, in], [out, r]
  };
  const ModelFiles& files_;
  const GgufArchitecture& architecture_;
  std::vector<Pair> pairs_;
  int64_t alpha_ = 1;
};

}  // namespace

void export_gguf_adapter(const ModelFiles& files, const AdaptedModel& adapted, const std::filesystem::path& output) {
  const torch::NoGradGuard no_grad;
  const GgufArchitecture& architecture = gguf_architecture_of(files);
  check_fits_gguf(files, architecture, adapted);
  GgufPairs pairs(files, architecture);
  for (const auto& [site, update] : peft_factors(adapted)) pairs.add(site, update.pair);
  const std::vector<NamedTensor> tensors = pairs.tensors();
  std::vector<GgufTensor> views;
  for (const auto& [name, value] : tensors)
    views.push_back({name, value.sizes().vec(), {value.const_data_ptr<float>(), static_cast<size_t>(value.numel())}});
  write_gguf(output,
             {{"general.type", std::string("adapter")},
              {"general.architecture", architecture.name},
              {"general.name", std::string("deeplora adapter")},
              {"adapter.type", std::string("lora")},
              {"adapter.lora.alpha", static_cast<float>(pairs.alpha())}},
             views);
}

ExportForm gguf_form() {
  return {"a LoRA adapter as llama.cpp reads it, for models of the shape of Llama, and GPT-2",
          [](const ExportSource& s, const std::filesystem::path& output) {
            export_gguf_adapter(s.files, s.adapted, output);
            return cat("GGUF adapter, ", s.adapted.adapters().size(), " weights");
          }};
}

}  // namespace deeplora
