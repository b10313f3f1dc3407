// The expressions of GPT-2, Qwen 2 and Llama 3, by hand: several times as fast as the general machine.
#pragma once

#include <string_view>

namespace deeplora {

/// The end of the match at `at` of a text (valid UTF-8, at < size). These expressions match at every place.
using Splitter = size_t (*)(std::string_view text, size_t at);

/// The hand-made form of an expression, or nullptr.
Splitter known_splitter(std::string_view pattern);

/// GPT-2's expression, which the ByteLevel pre-tokenizer uses.
extern const char* const kGpt2Expression;

}  // namespace deeplora
