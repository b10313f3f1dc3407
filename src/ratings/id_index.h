// Names of rows and columns and their numbers. Free of LibTorch.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// What an id is told from others by: plain decimal numbers by their value ("1", "1.0" and "1.00" are one id, as pandas
/// writes whole numbers beside blanks), everything else letter by letter. Leading zeros, a plus sign or an exponent
/// make an id no number: "007" and "1e3" stay themselves. The result lies in `id` or in `buffer`.
std::string_view id_key(std::string_view id, std::string& buffer);

/// Names numbered from 0 in the order of their first appearance, told apart by id_key().
class IdIndex {
 public:
  IdIndex();
  /// The number of `id`, a new one when it is not known yet.
  int32_t add(std::string_view id);
  /// The number of `id`, or -1.
  int32_t find(std::string_view id) const;
  const std::vector<std::string>& names() const { return names_; }  ///< as first spelled
  const std::string& name(int64_t index) const { return names_[static_cast<size_t>(index)]; }
  int64_t size() const { return static_cast<int64_t>(names_.size()); }
  /// "1.0 and 1" for the first id that add() met in two spellings; empty when there is none.
  const std::string& respelled() const { return respelled_; }

 private:
  size_t slot_of(std::string_view key, uint64_t hash) const;
  void grow();
  std::vector<std::string> names_;
  std::vector<uint64_t> hashes_;  ///< of the names' keys
  std::vector<int32_t> slots_;    ///< open addressing, a power of two; -1: free
  std::string respelled_;
};

}  // namespace deeplora
