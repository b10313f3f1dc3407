#include "text/sequence_template.h"

#include <algorithm>

#include "core/error.h"

namespace deeplora {
namespace {

using Ids = std::vector<int64_t>;

void cut(Ids& ids, int64_t keep, bool left) {
  const auto size = static_cast<int64_t>(ids.size());
  if (keep >= size) return;
  if (left)
    ids.erase(ids.begin(), ids.begin() + (size - keep));
  else
    ids.resize(static_cast<size_t>(keep));
}

/// Cuts both to `room` tokens together: the longer loses first, and what is odd stays with the longer one.
void cut_longest_first(Ids& first, Ids& second, int64_t room, bool left) {
  int64_t shorter = static_cast<int64_t>(std::min(first.size(), second.size()));
  const bool second_is_longer = second.size() >= first.size();
  int64_t longer = shorter > room ? shorter : std::max(shorter, room - shorter);
  if (shorter + longer > room) {
    shorter = room / 2;
    longer = shorter + room % 2;
  }
  cut(first, second_is_longer ? shorter : longer, left);
  cut(second, second_is_longer ? longer : shorter, left);
}

void append(Encoding& out, const Ids& ids, int64_t type_id) {
  out.ids.insert(out.ids.end(), ids.begin(), ids.end());
  out.type_ids.insert(out.type_ids.end(), ids.size(), type_id);
}

}  // namespace

int64_t SequenceTemplate::special_count(bool two) const {
  const auto& layout = two ? pair : single;
  return std::count_if(layout.begin(), layout.end(),
                       [](const LayoutPiece& piece) { return piece.kind == LayoutPiece::Kind::special; });
}

Encoding SequenceTemplate::assemble(Ids first, std::optional<Ids> second, int64_t max_length) const {
  Encoding out;
  const int64_t specials = special_count(second.has_value());
  check(max_length == 0 || max_length >= std::max<int64_t>(specials, 1), "a maximum length of ", max_length,
        " tokens has no room for the ", specials, " special tokens of ",
        second ? "a pair of texts" : "a text", "; expected 0 (no limit) or more than ", specials);
  const auto total = static_cast<int64_t>(first.size() + (second ? second->size() : 0));
  const int64_t room = max_length - specials;
  if (max_length > 0 && total > room) {
    out.truncated = true;
    if (second)
      cut_longest_first(first, *second, room, cut_left);
    else
      cut(first, room, cut_left);
  }
  for (const LayoutPiece& piece : second ? pair : single) {
    if (piece.kind == LayoutPiece::Kind::special)
      append(out, {piece.id}, piece.type_id);
    else
      append(out, piece.kind == LayoutPiece::Kind::first ? first : second.value(), piece.type_id);
  }
  return out;
}

SequenceTemplate bert_template(int64_t cls, int64_t sep) {
  using Kind = LayoutPiece::Kind;
  SequenceTemplate out;
  out.single = {{Kind::special, cls, 0}, {Kind::first, -1, 0}, {Kind::special, sep, 0}};
  out.pair = out.single;
  out.pair.push_back({Kind::second, -1, 1});
  out.pair.push_back({Kind::special, sep, 1});
  return out;
}

}  // namespace deeplora
