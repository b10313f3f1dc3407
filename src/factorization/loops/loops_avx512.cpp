#include "factorization/loops/loops.h"

namespace deeplora::elementwise_loops::avx512 {
#include "factorization/loops/loops.inc"
}  // namespace deeplora::elementwise_loops::avx512
