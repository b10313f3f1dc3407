// Heads that our own export put on a model: around an archive, or in head.safetensors of a folder.
#pragma once

#include <optional>
#include <string>

#include "model_files/model_files.h"

namespace deeplora {

/// What export.json says that an archive is for, where it ends in a head for texts, or for tokens.
inline constexpr const char *kClassifier = "classifier", *kTokenClassifier = "token-classifier";

/// Key of export.json in such archives.
inline constexpr const char* kHeadInfo = "new_head";

/// The file of such a head in a folder: weight [C, D], bias [C], and what is done before it in its metadata (pooling,
/// "none" for a head on every state; normalized where the pooled states are).
inline constexpr const char* kHeadFile = "head.safetensors";

/// As export.json or the folder's file says; nothing for other models. Throws Error when it says it badly.
std::optional<OwnHead> own_head_of(const ModelFiles& archive);

/// Its pooling where it reads every state.
inline constexpr const char* kNoPooling = "none";

/// True for files that end in a head for tokens, as far as they say it: one of ours, or transformers'.
bool ends_in_token_head(const ModelFiles& files);

}  // namespace deeplora
