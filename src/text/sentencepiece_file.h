// A sentencepiece model's file: its pieces and what it says of clean-up.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// One piece of a ModelProto.
struct SentencePiece {
  enum Type { normal = 1, unknown = 2, control = 3, user_defined = 4, unused = 5, byte = 6 };
  std::string text;
  float score = 0;
  int type = normal;
};

/// What is used of a ModelProto.
struct SentencePieceFile {
  std::vector<SentencePiece> pieces;
  int64_t unknown_id = 0, bos_id = 1, eos_id = 2;  ///< -1: none
  bool unigram = true;                             ///< else byte-pair encoding
  bool byte_fallback = false;
  std::string unknown_piece = "<unk>", bos_piece = "<s>", eos_piece = "</s>";
  std::string charsmap;  ///< table of character replacements; empty: none
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;

  /// Throws Error, naming `file`, when the bytes are no such model, or one of words or characters.
  static SentencePieceFile parse(const std::string& file, std::string_view bytes);
};

}  // namespace deeplora
