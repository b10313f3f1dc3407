#include "models/attention.h"

#include <torch/torch.h>

#include <cmath>

#include "core/error.h"
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
  SequenceAttentionShape shape;
  int64_t width;  ///< d
  int64_t seed;

  int64_t queries() const { return shape.heads * width; }
  int64_t keys() const { return shape.kv_heads * width; }
  /// Calls run(task, first row of q, first row of k and v, head of q, head of k and v, whether that was met before) for
  /// every head of every sequence, on all threads; those that share keys one after the other.
  template <class Run>
  void each(const Run& run) const {
    const int64_t sharing = shape.heads / shape.kv_heads;
    parallel_parts((static_cast<int64_t>(offsets.size()) - 1) * shape.kv_heads, [&](int64_t part) {
      const int64_t sequence = part / shape.kv_heads, kv_head = part % shape.kv_heads,
                    row = offsets[static_cast<size_t>(sequence)];
      for (int64_t i = 0; i < sharing; ++i) {
        const int64_t head = kv_head * sharing + i;
        const int64_t tokens = offsets[static_cast<size_t>(sequence) + 1] - row;
        const HeadTask task{
            .queries = shape.first_only ? 1 : tokens,
            .tokens = tokens,
            .width = width,
            .scale = static_cast<float>(shape.scale > 0 ? shape.scale : 1.0 / std::sqrt(static_cast<double>(width))),
            .seed = static_cast<uint32_t>(seed),
            .first = static_cast<uint32_t>(sequence * shape.heads + head) * 0x85ebca6bU,
            .threshold = shape.dropout > 0 ? drop_threshold(shape.dropout) : 0U,
            .kept = static_cast<float>(1.0 / (1.0 - shape.dropout)),
            .causal = shape.causal,
            .window = shape.window};
        if (tokens > 0) run(task, shape.first_only ? sequence : row, row, head, kv_head, i > 0);
      }
    });
  }

  void keep(AutogradContext* ctx) const {
    ctx->saved_data["offsets"] = offsets;
    ctx->saved_data["sizes"] =
        std::vector<int64_t>{shape.heads, shape.kv_heads, shape.first_only, shape.causal, shape.window, width, seed};
    ctx->saved_data["scale"] = shape.scale;
    ctx->saved_data["dropout"] = shape.dropout;
  }
  static Layout kept(AutogradContext* ctx, const std::vector<int64_t>& offsets) {
    const auto sizes = ctx->saved_data["sizes"].toIntVector();
    return {offsets,
            {.heads = sizes[0],
             .kv_heads = sizes[1],
             .scale = ctx->saved_data["scale"].toDouble(),
             .first_only = sizes[2] != 0,
             .causal = sizes[3] != 0,
             .window = sizes[4],
             .dropout = ctx->saved_data["dropout"].toDouble()},
            sizes[5],
            sizes[6]};
  }
};

/// [rows, width] for tokens, zeros in the rows behind the last sequence.
torch::Tensor rows_for(const Layout& layout, int64_t rows, int64_t width, const torch::TensorOptions& options) {
  torch::Tensor out = torch::empty({rows, width}, options);
  out.narrow(0, layout.offsets.back(), rows - layout.offsets.back()).zero_();
  return out;
}

/// [rows, width] for the queries.
torch::Tensor query_rows_for(const Layout& layout, int64_t rows, int64_t width, const torch::TensorOptions& options) {
  return layout.shape.first_only ? torch::zeros({rows, width}, options) : rows_for(layout, rows, width, options);
}

/// out [N, heads d] (rows of any stride, may be x) = x turned by the angles, or turned back.
void rotate(torch::Tensor& out, const torch::Tensor& x, const RotaryAngles& angles, float direction) {
  const int64_t half = angles.cosines.size(1), heads = x.size(1) / (2 * half), to_stride = out.stride(0),
                from_stride = x.stride(0);
  float* to = out.mutable_data_ptr<float>();
  const float *from = x.const_data_ptr<float>(), *cosines = angles.cosines.const_data_ptr<float>(),
              *sines = angles.sines.const_data_ptr<float>();
  parallel_rows(x.size(0), x.size(1), [&](int64_t row, int64_t rows) {
    rotate_rows({rows, heads, half, cosines + row * half, sines + row * half, direction}, to + row * to_stride,
                to_stride, {from + row * from_stride, from_stride});
  });
}

/// Queries, keys and values as attention reads them and as they are kept: turned, then side by side in one tensor, so
/// that those before them can go.
std::vector<torch::Tensor> turned(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                  const RotaryAngles& angles) {
  if (!angles.cosines.defined()) return {q, k, v};
  const int64_t queries = q.size(1), keys = k.size(1);
  auto out =
      at::unsafe_split_with_sizes(torch::empty({q.size(0), queries + 2 * keys}, q.options()), {queries, keys, keys}, 1);
  rotate(out[0], q, angles, 1);
  rotate(out[1], k, angles, 1);
  out[2].copy_(v);
  return out;
}

class SequenceAttention : public torch::autograd::Function<SequenceAttention> {
 public:
  static torch::Tensor forward(AutogradContext* ctx, const torch::Tensor& q, const torch::Tensor& k,
                               const torch::Tensor& v, const Layout& layout, const RotaryAngles& angles) {
    const auto read = turned(q, k, v, angles);
    const torch::Tensor &queries = read[0], &keys = read[1], &values = read[2];
    const int64_t heads = layout.shape.heads;
    torch::Tensor out = query_rows_for(layout, q.size(0), q.size(1), q.options()),
                  log_sums = torch::empty({q.size(0), heads}, q.options());
    float *to = out.mutable_data_ptr<float>(), *logs = log_sums.mutable_data_ptr<float>();
    layout.each([&](const HeadTask& task, int64_t query, int64_t row, int64_t head, int64_t kv_head, bool) {
      attend_head(task, head_of(queries, query, head, layout.width), head_of(keys, row, kv_head, layout.width),
                  head_of(values, row, kv_head, layout.width), to + query * q.size(1) + head * layout.width, q.size(1),
                  logs + query * heads + head, heads);
    });
    ctx->save_for_backward({queries, keys, values, out, log_sums, angles.cosines, angles.sines});
    layout.keep(ctx);
    return out;
  }

  static variable_list backward(AutogradContext* ctx, variable_list gradients) {
    const auto saved = ctx->get_saved_variables();
    const torch::Tensor &q = saved[0], &k = saved[1], &v = saved[2], &out = saved[3], &log_sums = saved[4];
    const torch::Tensor g = gradients[0].contiguous();
    const auto offsets = ctx->saved_data["offsets"].toIntVector();
    const Layout layout = Layout::kept(ctx, offsets);
    const int64_t heads = layout.shape.heads, queries = layout.queries(), keys = layout.keys();
    // Side by side, so that a joined projection takes them as one.
    std::vector<torch::Tensor> to;
    if (layout.shape.first_only) {
      to = at::unsafe_split_with_sizes(rows_for(layout, k.size(0), 2 * keys, q.options()), {keys, keys}, 1);
      to.insert(to.begin(), query_rows_for(layout, q.size(0), queries, q.options()));
    } else {
      to = at::unsafe_split_with_sizes(rows_for(layout, k.size(0), queries + 2 * keys, q.options()),
                                       {queries, keys, keys}, 1);
    }
    float *to_q = to[0].mutable_data_ptr<float>(), *to_k = to[1].mutable_data_ptr<float>(),
          *to_v = to[2].mutable_data_ptr<float>();
    const float* logs = log_sums.const_data_ptr<float>();
    const int64_t width = layout.width, q_stride = to[0].stride(0), stride = to[1].stride(0);
    layout.each([&](const HeadTask& task, int64_t query, int64_t row, int64_t head, int64_t kv_head, bool met) {
      const int64_t kv_at = row * stride + kv_head * width;
      attend_head_backward(task, head_of(q, query, head, width), head_of(k, row, kv_head, width),
                           head_of(v, row, kv_head, width), head_of(g, query, head, width),
                           head_of(out, query, head, width), logs + query * heads + head, heads,
                           {to_q + query * q_stride + head * width, to_k + kv_at, to_v + kv_at, q_stride, stride, met});
    });
    if (saved[5].defined()) {
      for (const size_t i : {0UL, 1UL}) rotate(to[i], to[i], {saved[5], saved[6]}, -1);
    }
    return {to[0], to[1], to[2], {}, {}};
  }
};

}  // namespace

torch::Tensor sequence_attention(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v,
                                 const SequenceAttentionShape& shape, const std::vector<int64_t>& offsets,
                                 const RotaryAngles& angles) {
  const auto rows = [](const torch::Tensor& x) {
    const torch::Tensor wide = x.to(torch::kFloat32);
    return wide.stride(1) == 1 ? wide : wide.contiguous();
  };
  check(!shape.first_only || (!shape.causal && !angles.cosines.defined()),
        "attention of first tokens alone neither is causal nor turns positions");
  const Layout layout{offsets, shape, q.size(1) / shape.heads, shape.dropout > 0 ? draw_dropout_seed() : 0};
  return SequenceAttention::apply(rows(q), rows(k), rows(v), layout, angles);
}

bool can_attend_packed(const torch::Tensor& q, const torch::Tensor& k, const torch::Tensor& v) {
  const auto fits = [](const torch::Tensor& x) {
    return x.device().is_cpu() && (x.scalar_type() == torch::kFloat32 || x.scalar_type() == torch::kBFloat16);
  };
  return fits(q) && fits(k) && fits(v) && q.numel() > 0;
}

}  // namespace deeplora
