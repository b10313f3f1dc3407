// 32 well-mixed bits of a counter: what decides about one element of a dropout mask.
#pragma once

#include <cstdint>

namespace deeplora {

/// Wellons' lowbias32. Always part of its caller: it is compiled for several instruction sets.
[[gnu::always_inline]] inline uint32_t mix_bits(uint32_t x) {
  x ^= x >> 16;
  x *= 0x7feb352dU;
  x ^= x >> 15;
  x *= 0x846ca68bU;
  return x ^ (x >> 16);
}

}  // namespace deeplora
