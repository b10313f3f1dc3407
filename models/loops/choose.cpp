#include "core/instruction_set.h"
#include "models/loops/loops.h"

namespace deeplora::attention_loops {

const Table& best() {
  static const Table& chosen = DEEPLORA_CHOOSE_LOOPS(table)();
  return chosen;
}

}  // namespace deeplora::attention_loops
