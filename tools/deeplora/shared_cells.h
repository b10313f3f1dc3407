// The cells of a comparison dealt out among processes: who runs which, who is alive, who asked to stop.
#pragma once

#include <cstddef>
#include <map>
#include <optional>
#include <string>

#include "core/rendezvous.h"

namespace deeplora {

/// Each process takes the next cell that nobody has; results travel by the comparison's folder, which all must see.
/// Every call throws PeerLost when rank 0 is gone.
class SharedCells {
 public:
  explicit SharedCells(Rendezvous& meeting) : meeting_(meeting) {}

  const Launch& launch() const { return meeting_.launch(); }
  /// True when this process is to run the cell: nobody has claimed it before, or it has itself.
  bool claim(size_t cell);
  /// Tells the others that a cell of this process ended without a result.
  void tell_failed(size_t cell, const std::string& message);
  /// Why a cell that another process claimed has no result and will get none; nothing while it may.
  std::optional<std::string> failure_of(size_t cell);

  /// True once a second. Gives a sign of life then; throws PeerLost when a process announced that it failed.
  bool due();
  void ask_to_stop() { meeting_.set("stop", "1"); }
  bool stop_asked() { return meeting_.find("stop").has_value(); }
  /// The last call. Rank 0 keeps the meeting point open until all have left or gave no sign of life for too long.
  void leave();

 private:
  /// Seconds since the last sign of life of a process that was seen here.
  double silence_of(int rank);
  double longest_silence() const { return static_cast<double>(meeting_.timeout().count()) / 1000; }

  struct Sign {
    int64_t count = -1;
    double seen = 0;
  };
  Rendezvous& meeting_;
  std::map<size_t, int> owners_;
  std::map<int, Sign> signs_;
  double last_look_ = 0;
};

}  // namespace deeplora
