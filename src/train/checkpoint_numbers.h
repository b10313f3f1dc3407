// A checkpoint's state.json: numbers, and checksums of itself and of the files beside it. Free of LibTorch.
#pragma once

#include <map>
#include <string>
#include <string_view>

#include "train/train_state.h"

namespace deeplora {

struct CheckpointNumbers {
  TrainState state;
  nlohmann::ordered_json identity;              ///< "train.lr": 0.001, ...: what must be the same when the run goes on
  std::map<std::string, std::string> movement;  ///< MovementGuard's
  std::map<std::string, std::string> files;     ///< name -> checksum

  std::string text() const;
  /// Throws Error naming `file` when the text is damaged, of another version, or lacks something.
  static CheckpointNumbers parse(const std::string& file, std::string_view text);
};

}  // namespace deeplora
