#include "factorization/loops/loops.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors pass between inlined functions of this file only

namespace deeplora::elementwise_loops::avx512 {
inline constexpr int kBytes = 64;  // a register
#include "factorization/loops/loops.inc"
}  // namespace deeplora::elementwise_loops::avx512
