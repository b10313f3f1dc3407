// Tokenizers for tests: from a folder, or from contents written in the test.
#pragma once

#include <filesystem>
#include <map>
#include <string>

#include "core/files.h"
#include "text/tokenizer.h"

namespace deeplora {

inline TokenizerFiles files_in(const std::filesystem::path& folder) {
  return [folder](const std::string& name) -> std::optional<std::string> {
    if (!std::filesystem::exists(folder / name)) return std::nullopt;
    return read_file(folder / name, "tokenizer file");
  };
}

inline TokenizerFiles files_of(std::map<std::string, std::string> contents) {
  return [contents = std::move(contents)](const std::string& name) -> std::optional<std::string> {
    const auto found = contents.find(name);
    if (found == contents.end()) return std::nullopt;
    return found->second;
  };
}

}  // namespace deeplora
