#include "factorization/quantized_lines.h"

#include <torch/torch.h>

#include <algorithm>
#include <array>
#include <cmath>

#include "core/parallel.h"
#include "factorization/loops/loops.h"

namespace deeplora {
namespace {

/// QLoRA's code book (appendix E of the paper).
alignas(64) constexpr std::array<float, 16> kNf4Book = {
    -1.0F,
    -0.6961928009986877F,
    -0.5250730514526367F,
    -0.39491748809814453F,
    -0.28444138169288635F,
    -0.18477343022823334F,
    -0.09105003625154495F,
    0.0F,
    0.07958029955625534F,
    0.16093020141124725F,
    0.24611230194568634F,
    0.33791524171829224F,
    0.44070982933044434F,
    0.5626170039176941F,
    0.7229568362236023F,
    1.0F,
};

/// Halfway between neighbours; a number exactly there belongs to the lower one.
template <size_t N>
std::array<float, N - 1> middles_of(const std::array<float, N>& book) {
  std::array<float, N - 1> out;
  for (size_t i = 0; i + 1 < N; ++i) out[i] = (book[i] + book[i + 1]) / 2;
  return out;
}

/// The 8-bit numbers of "8-bit Optimizers via Block-wise Quantization" (Dettmers et al. 2022, section 1.3), rising: for
/// each of seven powers of ten the middles between evenly spaced numbers of 0.1 to 1, with both signs, then 0 and 1.
/// Rounded as the reference's operators round on processors with fused products, whatever this one has.
std::array<float, 256> make_dynamic_book() {
  std::vector<float> values{0.0F, 1.0F};
  for (int power = 0; power < 7; ++power) {
    const int parts = 1 << power;
    const float least = 0.1F, step = (1.0F - least) / static_cast<float>(parts);
    const auto edge = [&](int i) {  // counted from the nearer end
      return i < (parts + 1) / 2 ? std::fma(step, static_cast<float>(i), least)
                                 : std::fma(-step, static_cast<float>(parts - i), 1.0F);
    };
    const auto scale = static_cast<float>(std::pow(10.0, power - 6));
    for (int i = 0; i < parts; ++i) {
      const float middle = (edge(i) + edge(i + 1)) / 2.0F;
      for (const float sign : {1.0F, -1.0F}) values.push_back(sign * middle * scale);
    }
  }
  std::sort(values.begin(), values.end());
  std::array<float, 256> out;
  std::copy(values.begin(), values.end(), out.begin());
  return out;
}
const std::array<float, 256>& dynamic_book() {
  static const std::array<float, 256> book = make_dynamic_book();
  return book;
}

/// Rows first .. first + count - 1 in float32, side by side.
torch::Tensor wide_rows(const torch::Tensor& weight, int64_t first, int64_t count) {
  return weight.narrow(0, first, count).to(torch::kFloat32).contiguous();
}

float largest_of(const float* x, int64_t count) {
  float out = 0;
  for (int64_t i = 0; i < count; ++i) out = std::max(out, std::fabs(x[i]));
  return out;
}

/// Calls work(first, count) for stretches of `all`, multiples of `step` long, in threads.
template <class Work>
void in_stretches(int64_t all, int64_t step, const Work& work) {
  const int64_t parts = (all + step - 1) / step;
  parallel_parts(parts, [&](int64_t part) { work(part * step, std::min(step, all - part * step)); });
}

constexpr float kSmallestScale = 1e-38F;  ///< a block of zeros has codes of zero

/// The codes of blocks that begin at the number `first`, a multiple of the block's size. A last block that is not whole
/// is divided by its largest value, any other multiplied with the inverse: the reference's arithmetic, to the bit.
void take_nf4(const float* x, int64_t first, int64_t count, uint8_t* codes, float* largest) {
  static const auto middles = middles_of(kNf4Book);
  std::array<uint8_t, Nf4Blocks::kBlock> block;
  std::array<float, Nf4Blocks::kBlock> divided;
  for (int64_t start = 0; start < count; start += Nf4Blocks::kBlock) {
    const int64_t some = std::min(Nf4Blocks::kBlock, count - start);
    const float *from = x + start, most = largest_of(from, some), scale = std::max(most, kSmallestScale);
    float& kept = largest[(first + start) / Nf4Blocks::kBlock];
    if (some == Nf4Blocks::kBlock) {
      kept = most;
      elementwise_loops::best().to_nf4(block.data(), from, middles.data(), 1.0F / scale, some);
    } else {
      kept = scale;
      for (size_t i = 0; i < static_cast<size_t>(some); ++i) divided[i] = from[i] / scale;
      elementwise_loops::best().to_nf4(block.data(), divided.data(), middles.data(), 1.0F, some);
      // The half byte behind an odd number of numbers stands for a zero.
      if (some % 2 != 0) block[static_cast<size_t>(some)] = 7;
    }
    uint8_t* to = codes + (first + start) / 2;
    for (size_t i = 0; i < static_cast<size_t>(some); i += 2)
      to[i / 2] = static_cast<uint8_t>(block[i] << 4 | block[i + 1]);
  }
}

/// The code of a number of [-1, 1], which is rounded to one of 65,536 evenly spaced ones before.
uint8_t dynamic_code(float x) {
  static const auto middles = middles_of(dynamic_book());
  constexpr float kSteps = 65535;
  const auto step = static_cast<uint16_t>((std::clamp(x, -1.0F, 1.0F) + 1.0F) * 0.5F * kSteps + 0.5F);
  const float even = -1.0F + (2.0F * static_cast<float>(step)) / kSteps;
  return static_cast<uint8_t>(std::lower_bound(middles.begin(), middles.end(), even) - middles.begin());
}

/// Blocks' largest values in 8 bits each.
void take_nested(Nf4Blocks& out, const torch::Tensor& largest) {
  // One thread adds them up: how a sum is cut decides its rounding.
  parallel_parts(2, [&](int64_t part) {
    if (part == 0) out.mean = largest.mean().item<float>();
  });
  const int64_t blocks = largest.numel(), groups = (blocks + Nf4Blocks::kNested - 1) / Nf4Blocks::kNested;
  out.nested = torch::empty({blocks}, torch::kUInt8);
  out.nested_largest = torch::empty({groups}, torch::kFloat32);
  const torch::Tensor centred = largest - out.mean;
  const float* from = centred.const_data_ptr<float>();
  auto* to = out.nested.mutable_data_ptr<uint8_t>();
  for (int64_t group = 0; group < groups; ++group) {
    const int64_t first = group * Nf4Blocks::kNested, count = std::min(Nf4Blocks::kNested, blocks - first);
    const float most = largest_of(from + first, count);
    out.nested_largest[group] = most;
    const float inverse = 1.0F / most;
    for (int64_t i = first; i < first + count; ++i) to[i] = most > 0 ? dynamic_code(from[i] * inverse) : uint8_t{0};
  }
}

class Int8Lines : public StoredLines {
 public:
  explicit Int8Lines(Int8Rows rows)
      : StoredLines(rows.codes.size(0), rows.codes.size(1)),
        rows_(std::move(rows)),
        codes_(rows_.codes.const_data_ptr<int8_t>()),
        largest_(rows_.largest.const_data_ptr<float>()) {}
  void read(int64_t line, int64_t first, int64_t count, float* to) const override {
    elementwise_loops::best().from_int8(to, codes_ + line * length() + first, largest_[line], count);
  }
  int64_t bytes() const override { return static_cast<int64_t>(rows_.codes.nbytes() + rows_.largest.nbytes()); }

 private:
  Int8Rows rows_;
  const int8_t* codes_;
  const float* largest_;
};

class Nf4Lines : public StoredLines {
 public:
  Nf4Lines(Nf4Blocks blocks, int64_t lines, int64_t length)
      : StoredLines(lines, length),
        blocks_(std::move(blocks)),
        codes_(blocks_.codes.const_data_ptr<uint8_t>()),
        nested_(blocks_.nested.const_data_ptr<uint8_t>()),
        nested_largest_(blocks_.nested_largest.const_data_ptr<float>()) {}

  void read(int64_t line, int64_t first, int64_t count, float* to) const override {
    int64_t place = line * length() + first;
    while (count > 0) {
      const int64_t block = place / Nf4Blocks::kBlock;
      const int64_t some = std::min(count, (block + 1) * Nf4Blocks::kBlock - place);
      elementwise_loops::best().from_nf4(to, codes_ + place / 2, place % 2 != 0, kNf4Book.data(), largest(block), some);
      place += some;
      to += some;
      count -= some;
    }
  }
  int64_t bytes() const override {
    return static_cast<int64_t>(blocks_.codes.nbytes() + blocks_.nested.nbytes() + blocks_.nested_largest.nbytes());
  }

 private:
  /// Product and sum are rounded one by one, as the reference rounds them, whatever the compiler would make of them.
  float largest(int64_t block) const {
    const double product =
        static_cast<double>(book_[nested_[block]]) * static_cast<double>(nested_largest_[block / Nf4Blocks::kNested]);
    return static_cast<float>(product) + blocks_.mean;
  }

  Nf4Blocks blocks_;
  const uint8_t *codes_, *nested_;
  const float* nested_largest_;
  const std::array<float, 256>& book_ = dynamic_book();
};

}  // namespace

const std::vector<std::string>& quantization_names() {
  static const std::vector<std::string> names{"none", "int8", "nf4"};
  return names;
}

Quantization parse_quantization(const std::string& name) {
  const auto& names = quantization_names();
  const auto found = std::find(names.begin(), names.end(), name);
  return found == names.end() ? Quantization::none : static_cast<Quantization>(found - names.begin());
}

const std::string& to_string(Quantization kind) { return quantization_names()[static_cast<size_t>(kind)]; }

Int8Rows int8_rows(const torch::Tensor& weight) {
  const torch::NoGradGuard no_grad;
  const int64_t rows = weight.size(0), columns = weight.size(1);
  Int8Rows out{torch::empty({rows, columns}, torch::kInt8), torch::empty({rows}, torch::kFloat32)};
  auto* codes = out.codes.mutable_data_ptr<int8_t>();
  auto* largest = out.largest.mutable_data_ptr<float>();
  in_stretches(rows, std::max<int64_t>(1, 65536 / std::max<int64_t>(1, columns)), [&](int64_t first, int64_t count) {
    const torch::Tensor wide = wide_rows(weight, first, count);
    for (int64_t i = 0; i < count; ++i) {
      const float* row = wide.const_data_ptr<float>() + i * columns;
      const float most = largest[first + i] = largest_of(row, columns);
      const float steps = 1.0F / most * 127.0F;  // not finite for a row of zeros, or of numbers below 1e-38
      elementwise_loops::best().to_int8(codes + (first + i) * columns, row, std::isfinite(steps) ? steps : 0.0F,
                                        columns);
    }
  });
  return out;
}

Nf4Blocks nf4_blocks(const torch::Tensor& weight) {
  const torch::NoGradGuard no_grad;
  const int64_t rows = weight.size(0), columns = weight.size(1), all = rows * columns;
  const int64_t blocks = (all + Nf4Blocks::kBlock - 1) / Nf4Blocks::kBlock;
  Nf4Blocks out;
  out.codes = torch::empty({(all + 1) / 2}, torch::kUInt8);
  const torch::Tensor largest = torch::empty({blocks}, torch::kFloat32);
  auto* codes = out.codes.mutable_data_ptr<uint8_t>();
  auto* most = largest.mutable_data_ptr<float>();
  // A block may begin in the middle of a row, so rows at the edges of a stretch are widened twice.
  const int64_t step = std::max<int64_t>(65536, 16 * columns) / Nf4Blocks::kBlock * Nf4Blocks::kBlock;
  in_stretches(all, step, [&](int64_t first, int64_t count) {
    const int64_t row = first / columns, end = (first + count + columns - 1) / columns;
    const torch::Tensor wide = wide_rows(weight, row, end - row);
    take_nf4(wide.const_data_ptr<float>() + (first - row * columns), first, count, codes, most);
  });
  take_nested(out, largest);
  return out;
}

std::shared_ptr<const StoredLines> quantized_lines(const torch::Tensor& weight, Quantization kind) {
  if (kind == Quantization::int8) return std::make_shared<Int8Lines>(int8_rows(weight));
  return std::make_shared<Nf4Lines>(nf4_blocks(weight), weight.size(0), weight.size(1));
}

}  // namespace deeplora
