// Lets the Python tests drive the library: one command, its arguments, exit code 1 with "error: ..." on a
// mistake.
#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "core/safetensors.h"

namespace deeplora {
namespace {

/// Reads a safetensors file and writes its tensors anew.
void copy_safetensors(const std::string& from, const std::string& to) {
  const SafeTensorsFile file = SafeTensorsFile::read(from);
  std::vector<SafeTensorView> views;
  for (const auto& [name, info] : file.tensors())
    views.push_back({name, info.dtype, info.shape, file.data(name)});
  write_safetensors(to, views, file.metadata());
}

int run(const std::vector<std::string>& words) {
  if (words.size() == 3 && words[0] == "copy-safetensors") {
    copy_safetensors(words[1], words[2]);
    return 0;
  }
  std::fprintf(stderr, "usage: copy-safetensors IN OUT\n");
  return 2;
}

}  // namespace
}  // namespace deeplora

int main(int argc, char** argv) {
  try {
    return deeplora::run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
