#include "models/loops/loops.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors pass between inlined functions of this file only

namespace deeplora::attention_loops::avx2 {
inline constexpr int kBytes = 32;  // a register of AVX2: 16 of them
#include "models/loops/loops.inc"
}  // namespace deeplora::attention_loops::avx2
