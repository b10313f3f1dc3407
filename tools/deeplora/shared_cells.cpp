#include "shared_cells.h"

#include <chrono>
#include <thread>

#include "core/system.h"

namespace deeplora {
namespace {

std::string sign_key(int rank) { return cat("sign of ", rank); }

}  // namespace

bool SharedCells::claim(size_t cell) {
  const int owner = std::stoi(meeting_.claim(cat("cell ", cell), std::to_string(launch().rank)));
  owners_[cell] = owner;
  return owner == launch().rank;
}

void SharedCells::tell_failed(size_t cell, const std::string& message) {
  meeting_.set(cat("failure of ", cell), message);
}

std::optional<std::string> SharedCells::failure_of(size_t cell) {
  if (auto message = meeting_.find(cat("failure of ", cell))) return message;
  const int owner = owners_.at(cell);
  const double silence = silence_of(owner);
  if (silence <= longest_silence()) return std::nullopt;
  return cat("process ", owner, " of ", launch().size, " gave no sign of life for ", static_cast<int64_t>(silence),
             " s");
}

double SharedCells::silence_of(int rank) {
  Sign& sign = signs_[rank];
  const int64_t count = meeting_.add(sign_key(rank), 0);
  if (count != sign.count) sign = {count, clock_seconds()};
  return clock_seconds() - sign.seen;
}

bool SharedCells::due() {
  if (clock_seconds() - last_look_ < 1) return false;
  last_look_ = clock_seconds();
  meeting_.add(sign_key(launch().rank), 1);
  meeting_.check_failure();
  return true;
}

void SharedCells::leave() {
  const auto gone = [](int rank) { return cat("process ", rank, " left"); };
  meeting_.set(gone(launch().rank), "1");
  if (!launch().leads()) return;
  for (int rank = 1; rank < launch().size; ++rank)
    while (!meeting_.find(gone(rank)) && silence_of(rank) <= longest_silence())
      std::this_thread::sleep_for(std::chrono::milliseconds(50));
}

}  // namespace deeplora
