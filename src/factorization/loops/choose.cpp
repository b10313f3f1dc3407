#include "core/instruction_set.h"
#include "factorization/loops/loops.h"

namespace deeplora::elementwise_loops {

const Table& best() {
#ifdef DEEPLORA_X86_LOOPS
  static const Table& chosen = choose_loops(portable::table, avx2::table, avx512::table)();
#else
  static const Table& chosen = portable::table();
#endif
  return chosen;
}

}  // namespace deeplora::elementwise_loops
