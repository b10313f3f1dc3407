// Chat templates that can be chosen by name, for tokenizers that bring none. Free of LibTorch.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace deeplora {

/// Names and Jinja texts, by name. Each marks what the model writes with {% generation %} and takes contents that are
/// texts or lists of text parts.
const std::vector<std::pair<std::string, std::string>>& known_templates();

}  // namespace deeplora
