#include "factorization/loops/loops.h"

namespace deeplora::elementwise_loops::avx2 {
#include "factorization/loops/loops.inc"
}  // namespace deeplora::elementwise_loops::avx2
