#include "ratings/id_index.h"

#include <limits>

#include "core/error.h"

namespace deeplora {
namespace {

uint64_t hash_of(std::string_view id) {
  uint64_t hash = 0xcbf29ce484222325ULL;  // FNV-1a, then mixed: the low bits choose the slot
  for (const char c : id) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001b3ULL;
  hash ^= hash >> 32;
  hash *= 0x9e3779b97f4a7c15ULL;
  return hash ^ (hash >> 29);
}

/// Digits from the front, taken off `rest`.
std::string_view take_digits(std::string_view& rest) {
  const size_t end = std::min(rest.find_first_not_of("0123456789"), rest.size());
  const std::string_view digits = rest.substr(0, end);
  rest.remove_prefix(end);
  return digits;
}

}  // namespace

std::string_view id_key(std::string_view id, std::string& buffer) {
  const bool negative = id.starts_with('-');
  if (!negative && id.find('.') == std::string_view::npos) return id;
  std::string_view rest = id;
  if (negative) rest.remove_prefix(1);
  const std::string_view whole = take_digits(rest);
  std::string_view part;
  if (rest.starts_with('.')) {
    rest.remove_prefix(1);
    part = take_digits(rest);
  }
  const bool leading_zero = whole.size() > 1 && whole[0] == '0';
  if (!rest.empty() || leading_zero || (whole.empty() && part.empty())) return id;
  while (part.ends_with('0')) part.remove_suffix(1);
  const bool zero = part.empty() && (whole.empty() || whole == "0");
  buffer = negative && !zero ? "-" : "";
  buffer += whole.empty() ? "0" : whole;
  if (!part.empty()) buffer.append(".").append(part);
  return buffer;
}

IdIndex::IdIndex() : slots_(64, -1) {}

size_t IdIndex::slot_of(std::string_view key, uint64_t hash) const {
  const size_t mask = slots_.size() - 1;
  size_t slot = hash & mask;
  std::string buffer;
  while (slots_[slot] >= 0) {
    const auto known = static_cast<size_t>(slots_[slot]);
    if (hashes_[known] == hash && (names_[known] == key || id_key(names_[known], buffer) == key)) break;
    slot = (slot + 1) & mask;
  }
  return slot;
}

void IdIndex::grow() {
  slots_.assign(slots_.size() * 2, -1);
  const size_t mask = slots_.size() - 1;
  for (size_t i = 0; i < names_.size(); ++i) {
    size_t slot = hashes_[i] & mask;
    while (slots_[slot] >= 0) slot = (slot + 1) & mask;
    slots_[slot] = static_cast<int32_t>(i);
  }
}

int32_t IdIndex::add(std::string_view id) {
  std::string buffer;
  const std::string_view key = id_key(id, buffer);
  const uint64_t hash = hash_of(key);
  size_t slot = slot_of(key, hash);
  if (slots_[slot] >= 0) {
    const std::string& name = names_[static_cast<size_t>(slots_[slot])];
    if (respelled_.empty() && name != id) respelled_ = cat(name, " and ", id);
    return slots_[slot];
  }
  check(names_.size() < static_cast<size_t>(std::numeric_limits<int32_t>::max()) - 1, "more than 2^31 different ids");
  if ((names_.size() + 1) * 2 > slots_.size()) {
    grow();
    slot = slot_of(key, hash);
  }
  slots_[slot] = static_cast<int32_t>(names_.size());
  names_.emplace_back(id);
  hashes_.push_back(hash);
  return slots_[slot];
}

int32_t IdIndex::find(std::string_view id) const {
  std::string buffer;
  const std::string_view key = id_key(id, buffer);
  return slots_[slot_of(key, hash_of(key))];
}

}  // namespace deeplora
