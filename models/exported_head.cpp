#include "models/exported_head.h"

#include <torch/torch.h>

#include "lm/head.h"
#include "model_files/own_head.h"
#include "models/projection.h"

namespace deeplora {
namespace {

class ExportedHead : public LanguageModel {
 public:
  ExportedHead(std::shared_ptr<LanguageModel> base, const ModelFiles& archive, const OwnHead& head)
      : base_(register_module("base", std::move(base))),
        name_(head.module),
        pooling_(parse_pooling(head.pooling)),
        normalize_(head.normalized) {
    head_ = register_module("head", Projection(name_ + ".weight", archive.tensor(name_ + ".weight").detach(),
                                               archive.tensor(name_ + ".bias").detach()));
  }

  ModelOutput forward(const Batch& batch) override {
    torch::Tensor pooled = pooled_states(*base_, batch, pooling_, "the head " + name_);
    if (normalize_) pooled = normalized(pooled);
    return {.hidden = {},
            .logits = head_->forward(is_half(head_->weight()) ? pooled : pooled.to(head_->weight().scalar_type()))};
  }
  std::vector<AdapterSite> sites() override {
    auto out = base_->sites();
    out.push_back(head_->site("head"));
    return out;
  }
  std::vector<NamedTensor> base_parameters() override {
    auto out = base_->base_parameters();
    out.push_back({name_ + ".weight", head_->weight()});
    out.push_back({name_ + ".bias", head_->bias()});
    return out;
  }
  void set_gradient_checkpointing(bool on) override { base_->set_gradient_checkpointing(on); }
  bool takes_padding() const override { return base_->takes_padding(); }
  std::string family() const override { return base_->family(); }
  std::vector<std::pair<std::string, torch::Tensor>> checkpoints(const Batch& batch) override {
    return base_->checkpoints(batch);
  }

 private:
  std::shared_ptr<LanguageModel> base_;
  std::string name_;
  Pooling pooling_;
  bool normalize_;
  Projection head_{nullptr};
};

}  // namespace

ModelFamily with_exported_head(const ModelFamily& family) {
  ModelFamily out = family;
  out.build = [build = family.build](const ModelFiles& archive,
                                     const ModelOptions& options) -> std::shared_ptr<LanguageModel> {
    const auto head = options.head == HeadKind::as_files ? own_head_of(archive) : std::nullopt;
    if (!head) return build(archive, options);
    ModelOptions below = options;
    if (!archive.holds_code()) below.head = HeadKind::none;  // else the code says what it gives
    return std::make_shared<ExportedHead>(build(archive, below), archive, *head);
  };
  return out;
}

}  // namespace deeplora
