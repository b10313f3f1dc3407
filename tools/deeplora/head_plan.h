// What gives a run's outputs: the model itself, a head in its files, its family's own head, or a new linear layer.
#pragma once

#include "run_config.h"

namespace deeplora {

/// The first family that recognises the files; null where none does.
const ModelFamily* family_of(const ModelFiles& files, const ModelFamilies& families);

/// What head.type comes to for a task and a model.
struct HeadPlan {
  HeadKind kind = HeadKind::as_files;  ///< none: a new linear head follows
  bool in_files = false;               ///< the head that is used lies in the model's files, so its classes are theirs
};
/// Throws Error for a type that the model cannot have, and for a head of type huggingface whose pooling is asked for.
HeadPlan plan_head(const RunConfig& config, const ModelFiles& files, const ModelFamilies& families);

/// True for models that end in a head for classifying texts, or tokens, as far as their files say: one of ours, or
/// transformers'.
bool gives_classes(const ModelFiles& files);
bool gives_token_classes(const ModelFiles& files);

/// Names of the classes of the head in the files, LABEL_0 and so on where config.json has none; nothing where their
/// number is not known.
std::vector<std::string> classes_in(const ModelFiles& files, const ModelFamilies& families);

/// Puts the family's own head for texts or tokens, of so many outputs, on the model; weights that the files lack start
/// by `seed`. Throws Error when the files' head has another number.
void put_class_head(ModelFiles& files, const ModelFamily& family, HeadKind kind, int64_t outputs, uint64_t seed,
                    torch::Device device);

}  // namespace deeplora
