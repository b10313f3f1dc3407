#include "text/text_lines.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/error.h"
#include "core/files.h"
#include "text/text_encoding.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr size_t kLargest = size_t{4} << 30;

void check_utf8(const std::string& text, const fs::path& file, const std::string& key) {
  if (is_valid_utf8(text)) return;
  const std::string other = key.empty() ? "" : cat(", or name its encoding: ", key, ": latin-1 or cp1252");
  Errors errors;
  Lines lines(text);
  for (std::string_view line; errors.size() < 12 && lines.next(line);)
    if (!is_valid_utf8(line))
      errors.add(file.string(), ":", lines.number(), ": not valid UTF-8; save the file as UTF-8", other);
  errors.throw_if_any();
}

}  // namespace

std::string read_text_file(const fs::path& file, const TextEncoding& encoding) {
  std::error_code ignored;
  check(fs::exists(file, ignored), "data file ", file.string(), " does not exist");
  check(!fs::is_directory(file, ignored), "data file ", file.string(), " is a folder; expected a file");
  const UnchangedFile same(file);
  std::ifstream in(file, std::ios::binary);
  check(in.good(), "data file ", file.string(), " cannot be read: ", std::strerror(errno));
  std::string text;
  std::string chunk(size_t{1} << 20, '\0');
  while (in) {
    in.read(chunk.data(), static_cast<std::streamsize>(chunk.size()));
    const auto part = std::string_view(chunk).substr(0, static_cast<size_t>(in.gcount()));
    text += part;
    const size_t nul = part.find('\0');
    if (nul != std::string_view::npos) {
      const auto end = text.end() - static_cast<std::ptrdiff_t>(part.size() - nul);
      fail(file.string(), ":", std::count(text.begin(), end, '\n') + 1,
           ": a NUL byte; expected UTF-8 text (UTF-16 must be converted, a compressed file unpacked)");
    }
    check(text.size() <= kLargest, "data file ", file.string(), " is larger than 4 GiB; split it");
  }
  check(!in.bad(), "data file ", file.string(), " cannot be read to its end");
  if (fs::is_regular_file(file, ignored)) same.verify("data file");  // a pipe looks different once it was read
  if (text.starts_with("\xEF\xBB\xBF")) text.erase(0, 3);            // a mark that only UTF-8 has
  else text = decoded_text(std::move(text), encoding.name);
  check_utf8(text, file, encoding.key);
  return text;
}

bool Lines::next(std::string_view& line) {
  if (at_ >= text_.size()) return false;
  const size_t end = std::min(text_.find('\n', at_), text_.size());
  line = text_.substr(at_, end - at_);
  if (line.ends_with('\r')) line.remove_suffix(1);
  at_ = end + 1;
  ++number_;
  return true;
}

bool is_blank(std::string_view line) {
  return line.find_first_not_of(" \t\r") == std::string_view::npos;
}

}  // namespace deeplora
