#include "models/attention.h"

#include <torch/torch.h>

#include <cmath>

#include "core/parallel.h"
#include "models/dropout.h"
#include "models/vector_loops.h"

namespace deeplora {
namespace {

using torch::autograd::AutogradContext;
using torch::autograd::variable_list;

HeadView head_of(const torch::Tensor& x, int64_t row, int64_t head, int64_t width) {
  return {x.const_data_ptr<float>() + row * x.stride(0) + head * width, x.stride(0)};
}

/// What both passes share.
struct Layout {
  const std::vector<int64_t>& offsets;
  int64_t heads, width;
  double dropout;
  int64_t seed;

  int64_t tasks() const { return (static_cast<int64_t>(offsets.size()) - 1) * heads; }
  /// Calls run(task, first row, head) for every head of every sequence, on all threads.
  template <class Run>
  void each(const Run& run) const {
    parallel_parts(tasks(), [&](int64_t t) {
      const auto sequence = static_cast<size_t>(t / heads);
      const int64_t head = t % heads, row = offsets[sequence];
      HeadTask task{offsets[sequence + 1] - row, width, static_cast<float>(1.0 / std::sqrt(static_cast<double>(width))),
                    static_cast<uint32_t>(seed), static_cast<uint32_t>(t) * 0x85ebca6bU, dropout > 0 ? drop_threshold(dropout) : 0U,
                    static_cast<float>(1.0 / (1.0 - dropout))};
      if (task.tokens > 0) run(task, row, head);
    });
  }
};

/// [rows, width], zeros in the rows behind the last sequence.
torch::Tensor rows_for(const Layout& layout, int64_t rows, int64_t width, const torch::TensorOptions& options) {
  torch::Tensor out = torch::empty({rows, width}, options);
  out.narrow(0, layout.offsets.back(), rows - layout.offsets.back()).zero_();
  return out;
}

class SequenceAttention : public torch::autograd::Function<SequenceAttention> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, int64_t heads,
                               const std::vector<int64_t>& offsets, double dropout, int64_t seed) {
    const Layout layout{offsets, heads, q.size(1) / heads, dropout, seed};
    torch::Tensor out = rows_for(layout, q.size(0), q.size(1), q.options()), log_sums = torch::empty({q.size(0), heads}, q.options());
    float *to = out.mutable_data_ptr<float>(), *logs = log_sums.mutable_data_ptr<float>();
    layout.each([&](const HeadTask& task, int64_t row, int64_t head) {
      const auto view = [&](const torch::Tensor& x) { return head_of(x, row, head, layout.width); };
      attend_head(task, view(q), view(k), view(v), to + row * q.size(1) + head * layout.width, q.size(1), logs + row * heads + head, heads);
    });
    ctx->save_for_backward({q, k, v, out, log_sums});
    ctx->saved_data["heads"] = heads;
    ctx->saved_data["offsets"] = offsets;
    ctx->saved_data["dropout"] = dropout;
    ctx->saved_data["seed"] = seed;
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &log_sums = saved[4];
    const torch::Tensor g = gradients[0].contiguous();
    const auto offsets = ctx->saved_data["offsets"].toIntVector();
    const int64_t heads = ctx->saved_data["heads"].toInt();
    const Layout layout{offsets, heads, q.size(1) / heads, ctx->saved_data["dropout"].toDouble(), ctx->saved_data["seed"].toInt()};
    // Side by side, so that a joined projection takes them as one.
    torch::Tensor joined = rows_for(layout, q.size(0), 3 * q.size(1), q.options());
    auto to = at::unsafe_split(joined, q.size(1), 1);
    float *to_q = to[0].mutable_data_ptr<float>(), *to_k = to[1].mutable_data_ptr<float>(), *to_v = to[2].mutable_data_ptr<float>();
    const float* logs = log_sums.const_data_ptr<float>();
    layout.each([&](const HeadTask& task, int64_t row, int64_t head) {
      const auto view = [&](const torch::Tensor& x) { return head_of(x, row, head, layout.width); };
      const int64_t at = row * joined.stride(0) + head * layout.width;
      attend_head_backward(task, view(q), view(k), view(v), view(g), view(out), logs + row * heads + head, heads,
                           {to_q + at, to_k + at, to_v + at, joined.stride(0)});
    });
    return {to[0], to[1], to[2], {}, {}, {}, {}};
  }
};

}  // namespace

torch::Tensor sequence_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v, int64_t heads,
                                 const std::vector<int64_t>& offsets, double dropout) {
  const auto rows = [](const torch::Tensor& x) { return x.stride(1) == 1 ? x : x.contiguous(); };
  return SequenceAttention::apply(rows(q), rows(k), rows(v), heads, offsets, dropout, dropout > 0 ? draw_dropout_seed() : 0);
}

}  // namespace deeplora
