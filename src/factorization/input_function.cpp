#include "factorization/input_function.h"

#include <torch/torch.h>

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/parallel.h"
#include "factorization/loops/loops.h"

namespace deeplora {
namespace {

namespace loops = elementwise_loops;

uint16_t* bfloat16_of(torch::Tensor& x) { return reinterpret_cast<uint16_t*>(x.mutable_data_ptr<at::BFloat16>()); }

const uint16_t* bfloat16_of(const torch::Tensor& x) {
  return reinterpret_cast<const uint16_t*>(x.const_data_ptr<at::BFloat16>());
}

const loops::Function& loops_of(InputFunction function) {
  return function == InputFunction::gelu ? loops::best().gelu : loops::best().gelu_tanh;
}

const loops::Gate& gate_loops_of(InputFunction function) {
  const loops::Table& table = loops::best();
  return function == InputFunction::silu_gate   ? table.silu_gate
         : function == InputFunction::gelu_gate ? table.gelu_gate
                                                : table.gelu_tanh_gate;
}

constexpr int64_t kGateStretch = 512;  ///< numbers of a row that are worked on together, in the innermost cache

/// Numbers of x from `at` as float32: where they lie, or widened into `room`.
const float* widened(const torch::Tensor& x, int64_t at, int64_t count, float* room) {
  if (x.scalar_type() == at::kFloat) return x.const_data_ptr<float>() + at;
  loops::best().from_bfloat16(room, bfloat16_of(x) + at, count);
  return room;
}

/// Calls run(first of the gate in x, its counterpart in a matrix half as wide, count) for stretches of rows, on all
/// threads. x [N, 2 M]
template <class Run>
void each_gate(const torch::Tensor& x, const Run& run) {
  const int64_t width = x.size(-1) / 2;
  parallel_rows(x.numel() / (2 * width), width, [&](int64_t first, int64_t rows) {
    for (int64_t row = first; row < first + rows; ++row)
      for (int64_t j = 0; j < width; j += kGateStretch)
        run(2 * row * width + j, row * width + j, std::min(kGateStretch, width - j));
  });
}

torch::Tensor gated(InputFunction function, const torch::Tensor& x, at::ScalarType dtype) {
  const loops::Gate& f = gate_loops_of(function);
  std::vector<int64_t> shape = x.sizes().vec();
  const int64_t width = shape.back() /= 2;
  torch::Tensor out = torch::empty(shape, x.options().dtype(dtype));
  float* floats = dtype == at::kFloat ? out.mutable_data_ptr<float>() : nullptr;
  uint16_t* words = floats ? nullptr : bfloat16_of(out);
  each_gate(x, [&](int64_t from, int64_t to, int64_t count) {
    float a[kGateStretch], b[kGateStretch], product[kGateStretch];
    f.to_float32(floats ? floats + to : product, widened(x, from, count, a), widened(x, from + width, count, b), count);
    if (!floats) loops::best().to_bfloat16(words + to, product, count);
  });
  return out;
}

torch::Tensor gradient_before_gate(InputFunction function, const torch::Tensor& g, const torch::Tensor& x) {
  const loops::Gate& f = gate_loops_of(function);
  const int64_t width = x.size(-1) / 2;
  torch::Tensor out = torch::empty(x.sizes(), g.options());
  float* to = out.mutable_data_ptr<float>();
  const float* down = g.const_data_ptr<float>();
  each_gate(x, [&](int64_t at, int64_t from, int64_t count) {
    float a[kGateStretch], b[kGateStretch];
    f.backward(to + at, to + at + width, down + from, widened(x, at, count, a), widened(x, at + width, count, b),
               count);
  });
  return out;
}

}  // namespace

bool can_apply(const torch::Tensor& x) {
  return x.device().is_cpu() && x.scalar_type() == at::kFloat && x.is_contiguous();
}

torch::Tensor rounded_to(const torch::Tensor& x, at::ScalarType dtype) {
  if (dtype != at::kBFloat16 || !can_apply(x)) return x.to(dtype);
  torch::Tensor out = torch::empty(x.sizes(), x.options().dtype(dtype));
  uint16_t* to = bfloat16_of(out);
  const float* from = x.const_data_ptr<float>();
  parallel_rows(x.numel(), 1,
                [&](int64_t first, int64_t count) { loops::best().to_bfloat16(to + first, from + first, count); });
  return out;
}

torch::Tensor applied(InputFunction function, const torch::Tensor& x, at::ScalarType dtype) {
  if (function == InputFunction::identity) return rounded_to(x, dtype);
  const bool gate = is_gate(function),
             rounded = gate && x.device().is_cpu() && x.scalar_type() == at::kBFloat16 && x.is_contiguous();
  check((can_apply(x) || rounded) && (dtype == at::kFloat || dtype == at::kBFloat16),
        "an input function wants float32 on the CPU");
  if (gate) return gated(function, x, dtype);
  torch::Tensor out = torch::empty(x.sizes(), x.options().dtype(dtype));
  const auto& f = loops_of(function);
  const float* from = x.const_data_ptr<float>();
  if (dtype == at::kFloat) {
    float* to = out.mutable_data_ptr<float>();
    parallel_rows(x.numel(), 1, [&](int64_t first, int64_t count) { f.to_float32(to + first, from + first, count); });
  } else {
    uint16_t* to = bfloat16_of(out);
    parallel_rows(x.numel(), 1, [&](int64_t first, int64_t count) { f.to_bfloat16(to + first, from + first, count); });
  }
  return out;
}

torch::Tensor gradient_before(InputFunction function, torch::Tensor g, const torch::Tensor& x) {
  if (function == InputFunction::identity) return g;
  if (is_gate(function)) return gradient_before_gate(function, g, x);
  const auto& f = loops_of(function);
  float* to = g.mutable_data_ptr<float>();
  const float* from = x.const_data_ptr<float>();
  parallel_rows(x.numel(), 1,
                [&](int64_t first, int64_t count) { f.times_derivative(to + first, from + first, count); });
  return g;
}

}  // namespace deeplora
