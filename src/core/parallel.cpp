// The one file that is compiled with OpenMP: without it the loops in LibTorch's headers run on one core.
#include "core/parallel.h"

#include <ATen/Parallel.h>

#include <algorithm>

namespace deeplora {

int64_t parallel_threads() {
  return std::max(1, at::get_num_threads());
}

void parallel_parts(int64_t parts, const std::function<void(int64_t)>& work) {
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) work(part);
  });
}

}  // namespace deeplora
