#include "core/fingerprint.h"

#include <cstring>

namespace deeplora {

void Fingerprint::add(const void* bytes, size_t count) {
  const char* at = static_cast<const char*>(bytes);
  const auto mix = [this](uint64_t word) {
    hash_ = (hash_ ^ word) * 0x100000001b3ULL;
    hash_ ^= hash_ >> 29;  // a multiplication alone never carries a high bit of a word downwards
  };
  mix(count);
  for (; count >= 8; count -= 8, at += 8) {
    uint64_t word;
    std::memcpy(&word, at, 8);
    mix(word);
  }
  if (count == 0) return;  // `at` may be null then
  uint64_t rest = 0;
  std::memcpy(&rest, at, count);
  mix(rest);
}

void Fingerprint::add(std::string_view text) { add(text.data(), text.size()); }

void Fingerprint::add(std::span<const int64_t> values) { add(values.data(), values.size_bytes()); }

std::string Fingerprint::hex() const {
  std::string out(16, '0');
  uint64_t rest = hash_;
  for (size_t i = out.size(); i-- > 0; rest >>= 4) out[i] = "0123456789abcdef"[rest & 15];
  return out;
}

std::string fingerprint(std::string_view bytes) {
  Fingerprint print;
  print.add(bytes);
  return print.hex();
}

}  // namespace deeplora
