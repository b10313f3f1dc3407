#include "factorization/few_rows.h"

#include <torch/torch.h>

#include <algorithm>
#include <array>

#include "core/error.h"
#include "core/parallel.h"
#include "factorization/loops/loops.h"

namespace deeplora {
namespace {

using elementwise_loops::DotTask;

constexpr int64_t kFewLines = DotTask::kMost;  ///< multiplied together
constexpr int64_t kFewPiece = 512;             ///< of a line: that many lines in float32 fit the first cache
constexpr int64_t kFewStretch = 16;            ///< lines that one thread takes at a time
constexpr int64_t kFewSmallest = 100'000;      ///< multiplications that are worth a second thread

using Room = std::array<std::array<float, kFewPiece>, kFewLines>;

struct FewRows {
  const float* a;  ///< [rows, length]
  int64_t rows;
  const StoredLines& w;
  bool rounds;  ///< the lines' numbers, to bfloat16
  float* y;
  int64_t y_row;
  bool add;
};

/// Numbers first .. first + count - 1 of a line in float32: where they are, or in `room`.
const float* piece_of(const FewRows& t, int64_t line, int64_t first, int64_t count, float* room) {
  if (const float* here = t.rounds ? nullptr : t.w.in_place(line)) return here + first;
  const auto& loops = elementwise_loops::best();
  t.w.read(line, first, count, room);
  if (t.rounds) {
    std::array<uint16_t, kFewPiece> narrow;
    loops.to_bfloat16(narrow.data(), room, count);
    loops.from_bfloat16(room, narrow.data(), count);
  }
  return room;
}

void run_lines(const FewRows& t, int64_t first_line, int64_t lines) {
  alignas(64) Room room;
  std::array<float, kFewRows * kFewLines> sums;
  for (int64_t line = first_line; line < first_line + lines; line += kFewLines) {
    const int64_t some = std::min(kFewLines, first_line + lines - line), length = t.w.length();
    sums.fill(0);
    for (int64_t first = 0; first < length; first += kFewPiece) {
      DotTask task{};
      task.count = std::min(kFewPiece, length - first);
      task.lines = some;
      task.a_row = length;
      for (int64_t i = 0; i < some; ++i)
        task.w[i] = piece_of(t, line + i, first, task.count, room[static_cast<size_t>(i)].data());
      for (int64_t row = 0; row < t.rows; row += DotTask::kMost) {
        task.rows = std::min(DotTask::kMost, t.rows - row);
        task.a = t.a + row * length + first;
        task.sums = sums.data() + row * kFewLines;
        elementwise_loops::best().dots(task);
      }
    }
    for (int64_t row = 0; row < t.rows; ++row)
      for (int64_t i = 0; i < some; ++i) {
        float& to = t.y[row * t.y_row + line + i];
        const float sum = sums[static_cast<size_t>(row * kFewLines + i)];
        to = t.add ? to + sum : sum;
      }
  }
}

}  // namespace

bool few_rows_product(torch::Tensor& y, const torch::Tensor& a, const StoredLines& w, bool add) {
  const auto type = a.scalar_type();
  if (a.size(0) > kFewRows || !a.device().is_cpu() || !y.device().is_cpu() || y.scalar_type() != at::kFloat ||
      (type != at::kFloat && type != at::kBFloat16) || y.numel() == 0 || y.stride(1) != 1)
    return false;
  check(a.size(1) == w.length() && y.size(1) == w.lines(), "a product with lines of another shape");
  const torch::NoGradGuard no_grad;
  const torch::Tensor wide = a.to(at::kFloat).contiguous();
  const FewRows task{wide.const_data_ptr<float>(), a.size(0),   w,  type == at::kBFloat16 && !w.in_bfloat16(),
                     y.mutable_data_ptr<float>(),  y.stride(0), add};
  const int64_t lines = w.lines(), parts = (lines + kFewStretch - 1) / kFewStretch;
  if (a.size(0) * lines * w.length() < kFewSmallest) {
    run_lines(task, 0, lines);
    return true;
  }
  parallel_parts(parts, [&](int64_t part) {
    run_lines(task, part * kFewStretch, std::min(kFewStretch, lines - part * kFewStretch));
  });
  return true;
}

}  // namespace deeplora
