// What a part of a run's start costs, for `--verbose`.
#pragma once

#include <cstdint>
#include <string>

namespace deeplora {

/// Says, when it ends, how long a part took, how much of that is for each of `bytes` (0: said of none), and what memory
/// the process has then and had at most. Silent unless debug messages are asked for.
class Stage {
 public:
  explicit Stage(std::string name, int64_t bytes = 0);
  ~Stage();
  Stage(const Stage&) = delete;
  Stage& operator=(const Stage&) = delete;

 private:
  std::string name_;
  int64_t bytes_;
  double began_;
};

}  // namespace deeplora
