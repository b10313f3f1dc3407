// Runs every target on its committed inputs: deeplora_fuzz_replay tests/fuzz/seeds tests/fuzz/found. Also on each input
// cut short and with single bytes changed, so that an ordinary build meets broken files too.
#include <cstdio>
#include <exception>
#include <fstream>
#include <iterator>
#include <random>

#include "tests/fuzz/targets.h"

namespace fs = std::filesystem;
namespace fuzz = deeplora::fuzz;

namespace {

constexpr int kVariants = 60;

std::string read(const fs::path& file) {
  std::ifstream in(file, std::ios::binary);
  return {std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
}

/// `input` with one mistake in it.
std::string broken(std::string input, std::mt19937& random) {
  if (input.empty()) return input;
  const size_t at = random() % input.size();
  switch (random() % 3) {
    case 0: input.resize(at); break;
    case 1: input[at] = static_cast<char>(random()); break;
    default: input.erase(at, 1 + random() % 8);
  }
  return input;
}

}  // namespace

int main(int argc, char** argv) {
  size_t inputs = 0;
  for (const fuzz::Target& target : fuzz::kTargets) {
    size_t own = 0;
    for (int i = 1; i < argc; ++i) {
      const fs::path folder = fs::path(argv[i]) / target.name;
      if (!fs::is_directory(folder)) continue;
      for (const auto& entry : fs::directory_iterator(folder)) {
        const std::string input = read(entry.path());
        std::mt19937 random(1);
        for (int variant = -1; variant < kVariants; ++variant) {
          try {
            target.run(variant < 0 ? input : broken(input, random));
          } catch (const std::exception& e) {
            std::fprintf(stderr, "%s on %s, variant %d: %s\n", target.name, entry.path().c_str(), variant, e.what());
            return 1;
          }
        }
        ++own;
      }
    }
    if (own == 0) {
      std::fprintf(stderr, "%s has no inputs\n", target.name);
      return 1;
    }
    inputs += own;
  }
  std::printf("%zu inputs, each also with %d mistakes\n", inputs, kVariants);
  return 0;
}
