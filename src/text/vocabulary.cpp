#include "text/vocabulary.h"

#include <cstring>

#include "core/error.h"

namespace deeplora {

uint64_t hash_of(std::string_view bytes) {
  constexpr uint64_t kMix = 0x9E3779B97F4A7C15ULL;
  uint64_t hash = bytes.size() * kMix;
  size_t at = 0;
  const auto take = [&](size_t count) {
    uint64_t word = 0;
    std::memcpy(&word, bytes.data() + at, count);
    hash = (hash ^ word) * kMix;
    hash ^= hash >> 32;
  };
  for (; at + 8 <= bytes.size(); at += 8) take(8);
  if (at < bytes.size()) take(bytes.size() - at);
  return hash;
}

size_t Vocabulary::place(std::string_view piece, uint32_t hash) const {
  const size_t mask = slots_.size() - 1;
  for (size_t at = hash & mask;; at = (at + 1) & mask) {
    const Slot& slot = slots_[at];
    if (slot.id < 0) return at;
    if (slot.hash == hash && slot.length == piece.size() &&
        std::memcmp(pool_.data() + slot.begin, piece.data(), piece.size()) == 0)
      return at;
  }
}

void Vocabulary::grow() {
  std::vector<Slot> old(slots_.empty() ? 64 : 2 * slots_.size());
  old.swap(slots_);
  for (const Slot& slot : old)
    if (slot.id >= 0) slots_[place(std::string_view(pool_).substr(slot.begin, slot.length), slot.hash)] = slot;
}

void Vocabulary::set(std::string_view piece, int64_t id) {
  constexpr int64_t kMost = int64_t{1} << 22;
  check(id >= 0 && id < kMost, "token '", piece, "' has the id ", id, "; expected 0 to ", kMost - 1);
  check(pool_.size() + piece.size() < UINT32_MAX, "the vocabulary's pieces take more than 4 GiB");
  if (2 * (used_ + 1) > slots_.size()) grow();
  const auto hash = static_cast<uint32_t>(hash_of(piece));
  Slot& slot = slots_[place(piece, hash)];
  if (slot.id < 0) {
    slot = {hash, static_cast<uint32_t>(pool_.size()), static_cast<uint32_t>(piece.size()), 0};
    pool_ += piece;
    ++used_;
    longest_ = std::max(longest_, piece.size());
  }
  slot.id = static_cast<int32_t>(id);
  const auto at = static_cast<size_t>(id);
  if (at >= pieces_.size()) {
    pieces_.resize(at + 1);
    known_.resize(at + 1, false);
  }
  pieces_[at] = piece;
  known_[at] = true;
}

std::optional<int64_t> Vocabulary::find(std::string_view piece) const {
  if (slots_.empty() || piece.size() > longest_) return std::nullopt;
  const Slot& slot = slots_[place(piece, static_cast<uint32_t>(hash_of(piece)))];
  return slot.id < 0 ? std::nullopt : std::optional<int64_t>(slot.id);
}

}  // namespace deeplora
