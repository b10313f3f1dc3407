// Programs of torch.export written again with other weights.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "model_files/exported_file.h"

namespace deeplora {

/// Writes the program as it is in its file, with the values that its tensors have now, and with these extra files.
/// Throws Error when it cannot be written.
void save_program(const ExportedFile& changed, const std::map<std::string, std::string>& extras,
                  const std::filesystem::path& file);

}  // namespace deeplora
