#include "core/instruction_set.h"
#include "models/loops/loops.h"

namespace deeplora::attention_loops {

const Table& best() {
#ifdef DEEPLORA_X86_LOOPS
  static const Table& chosen = choose_loops(portable::table, avx2::table, avx512::table)();
#else
  static const Table& chosen = portable::table();
#endif
  return chosen;
}

}  // namespace deeplora::attention_loops
