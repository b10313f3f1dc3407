// A text file in memory, line by line. Only \n and \r\n end a line: U+0085 and U+2028 are ordinary
// characters.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace deeplora {

/// How a text file is written.
struct TextEncoding {
  std::string name = "utf-8";  ///< one of known_encodings()
  std::string key = {};        ///< the setting that names another one, for the hint; empty: there is none
};

/// The whole file as UTF-8, without byte order mark. Throws Error when it is missing or a folder, holds a NUL byte
/// (file:line), is not UTF-8 where that is expected (file:line) or is larger than 4 GiB; stops reading at the first NUL
/// byte, so a device cannot fill the memory.
std::string read_text_file(const std::filesystem::path& file, const TextEncoding& encoding = {});

/// Walks over the lines of a text that outlives it.
class Lines {
 public:
  explicit Lines(std::string_view text) : text_(text) {}
  /// The next line without its end; false at the end of the text.
  bool next(std::string_view& line);
  /// Number of the line that next() gave, from 1.
  size_t number() const { return number_; }

 private:
  std::string_view text_;
  size_t at_ = 0, number_ = 0;
};

/// No character but space, tab and carriage return.
bool is_blank(std::string_view line);

}  // namespace deeplora
