// Work for several cores on LibTorch's own threads, so that nothing competes with its matrix products.
#pragma once

#include <cstdint>
#include <functional>

namespace deeplora {

/// Gives LibTorch, OpenMP and MKL `threads` threads each, and takes from OpenMP and MKL the right to use fewer when the
/// machine is busy: how a sum is cut decides its rounding, so the same count must mean the same bits. For the calling
/// thread; 0 leaves all as it is.
void use_threads(int64_t threads);

/// Threads of a program that was told nothing: OMP_NUM_THREADS where it holds a number, else usable_cores().
int64_t default_threads();

/// Threads that parallel_parts() may use: those of use_threads(); at least 1.
int64_t parallel_threads();

/// Calls work(0), ..., work(parts - 1), each once, side by side; returns when all are done. Exceptions of `work`
/// arrive at the caller.
void parallel_parts(int64_t parts, const std::function<void(int64_t)>& work);

/// The same for `rows` rows of `width` elements: work(first row, rows) for stretches of about 16384 elements, whole
/// rows, which depend on nothing but the two numbers.
void parallel_rows(int64_t rows, int64_t width, const std::function<void(int64_t, int64_t)>& work);

}  // namespace deeplora
