#include "factorization/block_kernels.h"

#include <torch/torch.h>
#if __has_include(<ATen/native/CPUBlas.h>)
#include <ATen/native/CPUBlas.h>
#endif

#include <atomic>
#include <mutex>

#include "core/error.h"

namespace deeplora {
namespace {

std::atomic<BlockShapesMet*> listener{nullptr};
std::mutex listening;

}  // namespace

void note_block_shape(const BlockShape& shape) {
  if (listener.load(std::memory_order_relaxed) == nullptr) return;
  const std::lock_guard<std::mutex> lock(listening);
  if (BlockShapesMet* met = listener.load()) met->shapes_.insert(shape);
}

BlockShapesMet::BlockShapesMet() { listener = this; }

BlockShapesMet::~BlockShapesMet() {
  const std::lock_guard<std::mutex> lock(listening);
  listener = nullptr;
}

// The macros say that LibTorch has the kernels.
#if defined(CPUBLAS_BRGEMM_F32F32F32) && defined(CPUBLAS_BRGEMM_BF16BF16F32)

bool has_block_kernels(at::ScalarType type) { return type == at::kFloat || type == at::kBFloat16; }

void block_kernel(const BlockShape& s, const float* a, const float* b, float* c) {
  note_block_shape(s);
  at::native::cpublas::brgemm(s.rows, s.columns, s.depth, s.a_row, s.b_row, s.c_row, s.add, a, b, c, /*is_vnni=*/false);
}

void block_kernel(const BlockShape& s, const at::BFloat16* a, const at::BFloat16* b, float* c) {
  note_block_shape(s);
  at::native::cpublas::brgemm(s.rows, s.columns, s.depth, s.a_row, s.b_row, s.c_row, s.add, a, b, c, /*is_vnni=*/true);
}

void release_block_kernels(bool bfloat16) { at::native::cpublas::brgemm_release(bfloat16); }

#else

bool has_block_kernels(at::ScalarType) { return false; }
void block_kernel(const BlockShape&, const float*, const float*, float*) { fail("LibTorch has no kernels for blocks"); }
void block_kernel(const BlockShape&, const at::BFloat16*, const at::BFloat16*, float*) {
  fail("LibTorch has no kernels for blocks");
}
void release_block_kernels(bool) {}

#endif

}  // namespace deeplora
