// Text of tokens as they come: whole characters only, nothing that a later token could change. Free of LibTorch.
#pragma once

#include <functional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"

namespace deeplora {

class TextStream {
 public:
  /// The tokenizer outlives the stream. `stop` texts and what follows them are held back.
  TextStream(const Tokenizer& tokenizer, std::vector<std::string> stop, std::function<void(std::string_view)> write)
      : tokenizer_(tokenizer), stop_(std::move(stop)), write_(std::move(write)) {}

  /// All tokens so far. Writes what is new and certain: not a character whose bytes are still coming, not the beginning
  /// of a stop text, not white space at the end.
  void update(std::span<const int64_t> ids);
  /// All tokens: writes the rest.
  void finish(std::span<const int64_t> ids);

 private:
  void write_up_to(const std::string& text, size_t end);
  const Tokenizer& tokenizer_;
  std::vector<std::string> stop_;
  std::function<void(std::string_view)> write_;
  size_t written_ = 0;
};

}  // namespace deeplora
