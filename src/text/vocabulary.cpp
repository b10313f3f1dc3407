#include "text/vocabulary.h"

#include "core/error.h"

namespace deeplora {

void Vocabulary::set(std::string piece, int64_t id) {
  constexpr int64_t kMost = int64_t{1} << 22;
  check(id >= 0 && id < kMost, "token '", piece, "' has the id ", id, "; expected 0 to ", kMost - 1);
  const auto at = static_cast<size_t>(id);
  if (at >= pieces_.size()) {
    pieces_.resize(at + 1);
    known_.resize(at + 1, false);
  }
  pieces_[at] = piece;
  known_[at] = true;
  ids_.insert_or_assign(std::move(piece), id);
}

}  // namespace deeplora
