#include "core/random.h"

#include <ATen/CPUGeneratorImpl.h>
#include <ATen/Context.h>

namespace deeplora {

uint64_t stream_seed(uint64_t seed, std::string_view name) {
  uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a over the name, then SplitMix64 with the seed
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  uint64_t z = hash + (seed + 1) * 0x9e3779b97f4a7c15ULL;
  z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
  z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
  return z ^ (z >> 31);
}

at::Generator make_generator(uint64_t seed, std::string_view name) {
  return at::detail::createCPUGenerator(stream_seed(seed, name));
}

std::vector<std::pair<std::string, at::Generator>> default_generators(c10::Device device) {
  std::vector<std::pair<std::string, at::Generator>> out = {{"cpu", at::globalContext().defaultGenerator(at::kCPU)}};
  if (!device.is_cpu()) out.emplace_back("device", at::globalContext().defaultGenerator(device));
  return out;
}

}  // namespace deeplora
