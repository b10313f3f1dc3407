// Where a tensor's memory is.
#pragma once

#include <torch/torch.h>

#include <cstdio>
#include <filesystem>
#include <fstream>
#include <string>

namespace deeplora::testing {

/// Whether x lies in a mapping of the file.
inline bool lies_in(const torch::Tensor& x, const std::filesystem::path& file) {
  std::ifstream maps("/proc/self/maps");
  const auto at = reinterpret_cast<uintptr_t>(x.const_data_ptr());
  for (std::string line; std::getline(maps, line);) {
    uintptr_t begin = 0, end = 0;
    if (std::sscanf(line.c_str(), "%lx-%lx", &begin, &end) == 2 && at >= begin && at < end)
      return line.ends_with(std::filesystem::canonical(file).string());
  }
  return false;
}

}  // namespace deeplora::testing
