// LoRA adapters as llama.cpp reads them: a GGUF file beside the GGUF file of the base model.
#pragma once

#include <filesystem>

#include "lm/adapt.h"
#include "model_files/model_files.h"

namespace deeplora {

/// Writes the adapters as float32 pairs (lora_a [r, in], lora_b [out, r]) under llama.cpp's names, chains collapsed to
/// one pair each, several blocks of a fused weight too. Rows of Llama's and Mistral's query and key are put in the
/// order that its converter gives the base. Throws Error, naming all of them, for architectures, methods and weights
/// that such a file cannot hold (DoRA, heads, tables, weights that were trained themselves). Source:
/// convert_lora_to_gguf.py of llama.cpp.
void export_gguf_adapter(const ModelFiles& files, const AdaptedModel& adapted, const std::filesystem::path& output);

}  // namespace deeplora
