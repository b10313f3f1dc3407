#include "completion/loops/loops.h"

#pragma GCC diagnostic ignored "-Wpsabi"  // vectors pass between inlined functions of this file only

namespace deeplora::loops::portable {
#include "completion/loops/loops.inc"
}
