// Pieces and their ids, both ways.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace deeplora {

/// A two-way map; ids may leave gaps.
class Vocabulary {
 public:
  /// Adds or renames id `id`. Throws Error when the id is negative or beyond 2^22 (a broken file).
  void set(std::string piece, int64_t id);
  std::optional<int64_t> find(std::string_view piece) const {
    const auto found = ids_.find(piece);
    return found == ids_.end() ? std::nullopt : std::optional(found->second);
  }
  /// The piece of an id, or nullptr when the id is negative, beyond the end or in a gap.
  const std::string* piece(int64_t id) const {
    if (id < 0 || id >= size() || !known_[static_cast<size_t>(id)]) return nullptr;
    return &pieces_[static_cast<size_t>(id)];
  }
  /// One more than the largest id.
  int64_t size() const { return static_cast<int64_t>(pieces_.size()); }

 private:
  struct Hash {
    using is_transparent = void;
    size_t operator()(std::string_view text) const { return std::hash<std::string_view>{}(text); }
  };
  std::unordered_map<std::string, int64_t, Hash, std::equal_to<>> ids_;
  std::vector<std::string> pieces_;
  std::vector<bool> known_;
};

}  // namespace deeplora
