#include "models/loops/loops.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors pass between inlined functions of this file only

namespace deeplora::attention_loops::avx512 {
inline constexpr int kBytes = 64;  // a register of AVX-512: 32 of them
#include "models/loops/loops.inc"
}  // namespace deeplora::attention_loops::avx512
