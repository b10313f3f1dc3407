#include "lm/quantized_model.h"

#include "core/long_work.h"

namespace deeplora {

QuantizedWeights quantize_linear_layers(LanguageModel& model, Quantization kind) {
  const std::string& name = to_string(kind);
  QuantizedWeights out;
  const std::vector<AdapterSite> sites = model.sites();
  LongWork work(cat("weights in ", name), static_cast<int64_t>(sites.size()));
  for (const auto& site : sites) {
    work.advance();
    if (site.kind != SiteKind::linear || site.role == "head" || site.role == "lm_head") continue;
    check(site.quantize != nullptr, "model.quantize: ", name, " needs a native model family; this model runs by the ",
          model.family(), " backend, whose code reads whole matrices; leave the key out, or take precision: bfloat16 ",
          "for a model in half precision");
    if (out.names.insert(site.path).second) out.bytes += site.quantize(kind);
  }
  check(!out.names.empty(), "model.quantize: ", name, ": the model has no linear layer besides its head");
  return out;
}

}  // namespace deeplora
