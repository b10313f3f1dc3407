// What writers of core/files.h leave behind when they are killed.
#pragma once

#include <filesystem>

namespace deeplora {

/// True for a temporary file or folder of write_file_atomically() and write_folder_atomically(): ".NAME.tmp-PID-N".
bool is_leftover(const std::filesystem::path& path);

/// Removes those in a folder. For the holder of its lock: he is the only writer, so they belong to dead processes.
void remove_leftovers(const std::filesystem::path& folder);

}  // namespace deeplora
