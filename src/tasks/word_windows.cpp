#include "tasks/word_windows.h"

#include <algorithm>
#include <limits>
#include <numeric>

namespace deeplora {
namespace {

/// Where the window behind that of words begin..end begins: with words of it that take at most a quarter of the room,
/// and leave room for the word behind them.
size_t next_begin(const std::vector<size_t>& pieces, size_t begin, size_t end, size_t room) {
  size_t next = end, shared = 0;
  while (next > begin + 1 && shared + pieces[next - 1] <= room / 4 && shared + pieces[next - 1] + pieces[end] <= room)
    shared += pieces[--next];
  return next;
}

}  // namespace

std::vector<WordWindow> word_windows(const std::vector<size_t>& pieces, size_t room) {
  std::vector<WordWindow> out;
  for (size_t begin = 0;;) {
    size_t end = begin, used = 0;
    while (end < pieces.size() && used + pieces[end] <= room) used += pieces[end++];
    out.push_back({begin, end, {}});
    if (end == pieces.size()) break;
    begin = next_begin(pieces, begin, end, room);
  }
  constexpr size_t kNoEnd = std::numeric_limits<size_t>::max();
  std::vector<size_t> most(pieces.size()), chosen(pieces.size(), out.size());
  for (size_t i = 0; i < out.size(); ++i) {
    const WordWindow& window = out[i];
    size_t before = 0, behind = std::accumulate(pieces.begin() + static_cast<std::ptrdiff_t>(window.begin),
                                                pieces.begin() + static_cast<std::ptrdiff_t>(window.end), size_t{0});
    for (size_t word = window.begin; word < window.end; ++word) {
      behind -= pieces[word];
      const size_t context =
          std::min(window.begin == 0 ? kNoEnd : before, window.end == pieces.size() ? kNoEnd : behind);
      if (chosen[word] == out.size() || context > most[word]) {
        most[word] = context;
        chosen[word] = i;
      }
      before += pieces[word];
    }
  }
  for (size_t word = 0; word < pieces.size(); ++word) out[chosen[word]].decided.push_back(word);
  return out;
}

}  // namespace deeplora
