#include "lm/pooled_model.h"

#include <torch/torch.h>

#include "model_files/model_files.h"

namespace deeplora {
VectorForm vector_form_of(const ModelFiles& files) {
  check(!files.json("sentence_bert_config.json").value("do_lower_case", false), "model ", files.file().string(),
        ": sentence_bert_config.json asks for texts in lower case (do_lower_case), which is not known here; write them "
        "so, and take the setting out");
  VectorForm out{.pooling = pooling_of(files).value_or(Pooling::mean)};
  for (const auto& module : modules_behind_pooling(files)) {
    check(module == "Normalize", "model ", files.file().string(), ": modules.json: a ", module,
          " behind the pooling is not read; without it the vectors would be others");
    out.normalize = true;
  }
  return out;
}

ModelOutput PooledModel::forward(const Batch& batch) {
  const torch::Tensor pooled = pooled_states(*base_, batch, form_.pooling, "the task");
  const torch::Tensor wide = pooled.to(c10::promoteTypes(pooled.scalar_type(), torch::kFloat32));
  return {.hidden = {}, .logits = form_.normalize ? normalized(wide) : wide};
}

}  // namespace deeplora
