// The one file that is compiled with OpenMP: without it the loops in LibTorch's headers run on one core.
#include "core/parallel.h"

#include <ATen/Parallel.h>
#ifdef _OPENMP
#include <omp.h>
#endif

#include <algorithm>
#include <cstdlib>

#include "core/system.h"

namespace deeplora {

void use_threads(int64_t threads) {
  if (threads <= 0) return;
#ifdef _OPENMP
  omp_set_dynamic(0);
#endif
  at::set_num_threads(static_cast<int>(threads));  // switches off MKL's own choice as well
}

int64_t default_threads() {
  const char* given = std::getenv("OMP_NUM_THREADS");  // "4", or "4,2" for nested regions
  const int64_t wanted = given ? std::atoll(given) : 0;
  return wanted > 0 ? wanted : usable_cores();
}

int64_t parallel_threads() { return std::max(1, at::get_num_threads()); }

void parallel_parts(int64_t parts, const std::function<void(int64_t)>& work) {
#ifdef __SANITIZE_THREAD__
  // The thread sanitizer does not see libgomp's fork and join and would report every loop; its build checks the threads
  // that are ours.
  for (int64_t part = 0; part < parts; ++part) work(part);
#else
  at::parallel_for(0, parts, 1, [&](int64_t begin, int64_t end) {
    for (int64_t part = begin; part < end; ++part) work(part);
  });
#endif
}

void parallel_rows(int64_t rows, int64_t width, const std::function<void(int64_t, int64_t)>& work) {
  const int64_t stretch = std::max<int64_t>(1, 16384 / std::max<int64_t>(1, width));
  parallel_parts((rows + stretch - 1) / stretch,
                 [&](int64_t part) { work(part * stretch, std::min(stretch, rows - part * stretch)); });
}

}  // namespace deeplora
