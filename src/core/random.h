// One seed, several independent named streams, so that adding a use of randomness never shifts another.
#pragma once

#include <ATen/core/Generator.h>

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

namespace deeplora {

/// The seed of stream `name` ("data", "init/encoder.layer.0...", "dropout") under `seed`.
uint64_t stream_seed(uint64_t seed, std::string_view name);

/// A CPU generator of that stream. The same seed and name give the same numbers on every machine with the same
/// LibTorch.
at::Generator make_generator(uint64_t seed, std::string_view name);

/// LibTorch's default generators by name ("cpu", "device"), which dropout draws from: the CPU's, and that of another
/// device.
std::vector<std::pair<std::string, at::Generator>> default_generators(c10::Device device);

}  // namespace deeplora
