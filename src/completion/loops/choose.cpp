#include "completion/loops/loops.h"

#include "core/instruction_set.h"

namespace deeplora::loops {
namespace {

template <class T>
const Table<T>& choose() {
  return DEEPLORA_CHOOSE_LOOPS(table<T>)();
}

}  // namespace

template <>
const Table<double>& best<double>() {
  static const Table<double>& table = choose<double>();
  return table;
}
template <>
const Table<float>& best<float>() {
  static const Table<float>& table = choose<float>();
  return table;
}

}  // namespace deeplora::loops
