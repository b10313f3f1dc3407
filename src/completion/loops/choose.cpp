#include "completion/loops/loops.h"

#include "core/instruction_set.h"

namespace deeplora::loops {
namespace {

template <class T>
const Table<T>& choose() {
#ifdef DEEPLORA_X86_LOOPS
  return choose_loops(portable::table<T>, avx2::table<T>, avx512::table<T>)();
#else
  return portable::table<T>();
#endif
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
