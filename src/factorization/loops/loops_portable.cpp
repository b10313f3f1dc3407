#include "factorization/loops/loops.h"

namespace deeplora::elementwise_loops::portable {
#include "factorization/loops/loops.inc"
}  // namespace deeplora::elementwise_loops::portable
