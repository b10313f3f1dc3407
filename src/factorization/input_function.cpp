#include "factorization/input_function.h"

#include <torch/torch.h>

#include "core/error.h"
#include "core/parallel.h"
#include "factorization/loops/loops.h"

namespace deeplora {
namespace {

uint16_t* bfloat16_of(torch::Tensor& x) { return reinterpret_cast<uint16_t*>(x.mutable_data_ptr<at::BFloat16>()); }

const elementwise_loops::Function& loops_of(InputFunction function) {
  return function == InputFunction::gelu ? elementwise_loops::best().gelu : elementwise_loops::best().gelu_tanh;
}

}  // namespace

bool can_apply(const torch::Tensor& x) { return x.device().is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous(); }

torch::Tensor rounded_to(const torch::Tensor& x, at::ScalarType dtype) {
  if (dtype != at::kBFloat16 || !can_apply(x)) return x.to(dtype);
  torch::Tensor out = torch::empty(x.sizes(), x.options().dtype(dtype));
  uint16_t* to = bfloat16_of(out);
  const float* from = x.const_data_ptr<float>();
  parallel_rows(x.numel(), 1, [&](int64_t first, int64_t count) { elementwise_loops::best().to_bfloat16(to + first, from + first, count); });
  return out;
}

torch::Tensor applied(InputFunction function, const torch::Tensor& x, at::ScalarType dtype) {
  if (function == InputFunction::identity) return rounded_to(x, dtype);
  check(can_apply(x) && (dtype == at::kFloat || dtype == at::kBFloat16), "an input function wants float32 on the CPU");
  torch::Tensor out = torch::empty(x.sizes(), x.options().dtype(dtype));
  const auto& loops = loops_of(function);
  const float* from = x.const_data_ptr<float>();
  if (dtype == at::kFloat) {
    float* to = out.mutable_data_ptr<float>();
    parallel_rows(x.numel(), 1, [&](int64_t first, int64_t count) { loops.to_float32(to + first, from + first, count); });
  } else {
    uint16_t* to = bfloat16_of(out);
    parallel_rows(x.numel(), 1, [&](int64_t first, int64_t count) { loops.to_bfloat16(to + first, from + first, count); });
  }
  return out;
}

void multiply_by_derivative(InputFunction function, torch::Tensor& g, const torch::Tensor& x) {
  if (function == InputFunction::identity) return;
  const auto& loops = loops_of(function);
  float* to = g.mutable_data_ptr<float>();
  const float* from = x.const_data_ptr<float>();
  parallel_rows(x.numel(), 1, [&](int64_t first, int64_t count) { loops.times_derivative(to + first, from + first, count); });
}

}  // namespace deeplora
