#include "models/loops/loops.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors pass between inlined functions of this file only

namespace deeplora::attention_loops::portable {
inline constexpr int kBytes = 16;  // a register of what every x86-64 and ARM64 processor has: 16 of them on x86-64
#include "models/loops/loops.inc"
}  // namespace deeplora::attention_loops::portable
