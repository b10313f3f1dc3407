// Work for several cores on LibTorch's own threads, so that nothing competes with its matrix products.
#pragma once

#include <cstdint>
#include <functional>

namespace deeplora {

/// Threads that parallel_parts() may use: LibTorch's number (train.threads, OMP_NUM_THREADS); at least 1.
int64_t parallel_threads();

/// Calls work(0), ..., work(parts - 1), each once, side by side; returns when all are done. Exceptions of `work`
/// arrive at the caller.
void parallel_parts(int64_t parts, const std::function<void(int64_t)>& work);

}  // namespace deeplora
