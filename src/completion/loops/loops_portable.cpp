#include "completion/loops/loops.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors pass between inlined functions of this file only

namespace deeplora::loops::portable {
inline constexpr int kBytes = 16;  // a register of what every x86-64 and ARM64 processor has
#include "completion/loops/loops.inc"
}  // namespace deeplora::loops::portable
