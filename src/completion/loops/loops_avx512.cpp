#include "completion/loops/loops.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors pass between inlined functions of this file only

namespace deeplora::loops::avx512 {
inline constexpr int kBytes = 64;  // a register of AVX-512
#include "completion/loops/loops.inc"
}  // namespace deeplora::loops::avx512
