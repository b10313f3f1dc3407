#include "core/instruction_set.h"
#include "factorization/loops/loops.h"

namespace deeplora::elementwise_loops {

const Table& best() {
  static const Table& chosen = DEEPLORA_CHOOSE_LOOPS(table)();
  return chosen;
}

}  // namespace deeplora::elementwise_loops
