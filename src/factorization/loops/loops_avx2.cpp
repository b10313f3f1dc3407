#include "factorization/loops/loops.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors pass between inlined functions of this file only

namespace deeplora::elementwise_loops::avx2 {
inline constexpr int kBytes = 32;  // a register
#include "factorization/loops/loops.inc"
}  // namespace deeplora::elementwise_loops::avx2
