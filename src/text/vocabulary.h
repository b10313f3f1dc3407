// Pieces and their ids, both ways.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// A two-way map; ids may leave gaps, and an id keeps the last piece that was given it.
class Vocabulary {
 public:
  /// Adds a piece, or gives it another id. Throws Error when the id is negative or beyond 2^22 (a broken file).
  void set(std::string_view piece, int64_t id);
  std::optional<int64_t> find(std::string_view piece) const;
  /// The piece of an id, or nullptr when the id is negative, beyond the end or in a gap.
  const std::string* piece(int64_t id) const {
    if (id < 0 || id >= size() || !known_[static_cast<size_t>(id)]) return nullptr;
    return &pieces_[static_cast<size_t>(id)];
  }
  /// One more than the largest id.
  int64_t size() const { return static_cast<int64_t>(pieces_.size()); }
  /// How many different pieces there are.
  int64_t count() const { return static_cast<int64_t>(used_); }
  /// Bytes of the longest piece.
  size_t longest() const { return longest_; }

 private:
  /// A place of the hash table; the piece's bytes stand in pool_.
  struct Slot {
    uint32_t hash = 0, begin = 0, length = 0;
    int32_t id = -1;
  };
  size_t place(std::string_view piece, uint32_t hash) const;
  void grow();

  std::vector<Slot> slots_;
  std::string pool_;
  size_t used_ = 0, longest_ = 0;
  std::vector<std::string> pieces_;
  std::vector<bool> known_;
};

/// A fast hash of bytes, the same in every run.
uint64_t hash_of(std::string_view bytes);

}  // namespace deeplora
