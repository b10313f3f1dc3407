#include "completion/loops/loops.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors pass between inlined functions of this file only

namespace deeplora::loops::avx2 {
inline constexpr int kBytes = 32;  // a register of AVX2
#include "completion/loops/loops.inc"
}  // namespace deeplora::loops::avx2
