// Archives are code: what of it would run before anyone asked for it.
#pragma once

#include <filesystem>

namespace deeplora {

/// Throws Error when reading the archive would run code of its own: LibTorch calls a class's __setstate__ while it
/// loads. Everything else in an archive runs only when its forward() is called. Archives that cannot be read pass:
/// loading says what is wrong with them.
void check_loads_without_running(const std::filesystem::path& file);

/// Throws Error for code whose weights were packed for one library and are not in the file: optimize_for_inference
/// makes such of convolutions.
void check_weights_are_there(const std::filesystem::path& file);

}  // namespace deeplora
