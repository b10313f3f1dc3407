// Texts that are longer than a model reads at once, cut into overlapping windows of whole words.
#pragma once

#include <cstddef>
#include <vector>

namespace deeplora {

/// Words begin..end of a text as one input of a model. Each word of the text is decided in one window, where it has the
/// most context: the pieces between it and the nearer end of the window; an end of the text itself is none.
struct WordWindow {
  size_t begin = 0, end = 0;
  std::vector<size_t> decided;  ///< words, ascending
};

/// `pieces`: of every word, at most `room` each. All windows hold at most `room` (at least 1) pieces and neighbours
/// share a quarter of that, as far as whole words do. One window for a text that fits, and for one without words.
std::vector<WordWindow> word_windows(const std::vector<size_t>& pieces, size_t room);

}  // namespace deeplora
