// Numbers as they are shown in sentences.
#pragma once

#include <cstddef>
#include <string>

namespace deeplora {

/// "1,204"
std::string with_commas(size_t number);

}  // namespace deeplora
