// A text file in memory, line by line. Lines end with \n or \r\n, or with \r in a text that holds no \n; U+0085 and
// U+2028 are ordinary characters.
#pragma once

#include <cstddef>
#include <filesystem>
#include <string>
#include <string_view>

namespace deeplora {

/// How a text file is written.
struct TextEncoding {
  std::string name = "utf-8";         ///< one of encoding_names()
  std::string key = "data.encoding";  ///< the setting that names another one, for the hint
};

/// The whole file as UTF-8, without byte order mark (which goes before `encoding`). Throws Error when it is missing
/// or a folder, holds a NUL byte (file:line), is not in its encoding (file:line, the encoding that would fit) or is
/// larger than 4 GiB; stops reading at the first NUL byte unless it is UTF-16, so a device cannot fill the memory.
std::string read_text_file(const std::filesystem::path& file, const TextEncoding& encoding = {});

/// Walks over the lines of a text that outlives it.
class Lines {
 public:
  explicit Lines(std::string_view text) : text_(text), end_(text.find('\n') == std::string_view::npos ? '\r' : '\n') {}
  /// The next line without its end; false at the end of the text.
  bool next(std::string_view& line);
  /// Number of the line that next() gave, from 1.
  size_t number() const { return number_; }

 private:
  std::string_view text_;
  char end_;
  size_t at_ = 0, number_ = 0;
};

/// No character but space, tab and carriage return.
bool is_blank(std::string_view line);

}  // namespace deeplora
