#include "completion/loops/loops.h"

namespace deeplora::loops {
namespace {

template <class T>
const Table<T>& choose() {
#ifdef DEEPLORA_X86_LOOPS
  __builtin_cpu_init();
  if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl"))
    return avx512::table<T>();
  if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2::table<T>();
#endif
  return portable::table<T>();
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
