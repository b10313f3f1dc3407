// Texts as vectors: an encoder's states pooled into one, as sentence-transformers does it.
#pragma once

#include "lm/head.h"

namespace deeplora {

/// How states become the vector of a text.
struct VectorForm {
  Pooling pooling = Pooling::mean;
  bool normalize = false;  ///< to length 1
};

/// What the model's own files say: 1_Pooling (pooling.json in an archive) and modules.json; mean pooling and no
/// normalisation where they say nothing. Throws Error, naming it, for a module of sentence-transformers and a setting
/// that are not known here.
VectorForm vector_form_of(const ModelFiles& files);

/// Encoder + pooling as one LanguageModel: logits [B, D] are the texts' vectors, float32 or wider. The base's adapter
/// sites stay its own.
class PooledModel : public LanguageModel {
 public:
  PooledModel(std::shared_ptr<LanguageModel> base, VectorForm form)
      : base_(register_module("base", std::move(base))), form_(form) {}

  ModelOutput forward(const Batch& batch) override;
  std::vector<AdapterSite> sites() override { return base_->sites(); }
  std::vector<NamedTensor> base_parameters() override { return base_->base_parameters(); }
  bool takes_padding() const override { return base_->takes_padding(); }
  void set_gradient_checkpointing(bool on) override { base_->set_gradient_checkpointing(on); }
  std::string family() const override { return base_->family(); }
  std::vector<std::pair<std::string, torch::Tensor>> checkpoints(const Batch& batch) override {
    return base_->checkpoints(batch);
  }
  const VectorForm& form() const { return form_; }

 private:
  std::shared_ptr<LanguageModel> base_;
  VectorForm form_;
};

/// The model as such a one; null where it is another.
inline const PooledModel* pooled_model(const LanguageModel& model) { return dynamic_cast<const PooledModel*>(&model); }

}  // namespace deeplora
