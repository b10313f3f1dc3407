#include "core/npy.h"

#include <bit>
#include <cstring>
#include <stdexcept>

#include "core/error.h"

namespace deeplora {

static_assert(std::endian::native == std::endian::little, "float32 is written as it lies in memory");

std::string npy_bytes(std::span<const float> values, int64_t rows, int64_t columns) {
  if (static_cast<int64_t>(values.size()) != rows * columns)
    throw std::invalid_argument("npy_bytes: values are not rows x columns");
  constexpr size_t kBefore = 10, kAligned = 64;  // magic, version and length; what the header is filled up to
  std::string header = cat("{'descr': '<f4', 'fortran_order': False, 'shape': (", rows, ", ", columns, "), }");
  header.append((kAligned - (kBefore + header.size() + 1) % kAligned) % kAligned, ' ');
  header += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(header.size() & 0xff);
  out += static_cast<char>(header.size() >> 8);
  out += header;
  const size_t data = out.size();
  out.resize(data + values.size_bytes());
  if (!values.empty()) std::memcpy(out.data() + data, values.data(), values.size_bytes());
  return out;
}

}  // namespace deeplora
