#include "text/text_lines.h"

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <fstream>

#include "core/error.h"
#include "core/files.h"
#include "text/encoding.h"
#include "text/row_errors.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr size_t kLargest = size_t{4} << 30;

void check_utf8(const std::string& text, const fs::path& file, const std::string& key) {
  if (is_valid_utf8(text)) return;
  RowErrors errors;
  Lines lines(text);
  for (std::string_view line; lines.next(line);)
    if (!is_valid_utf8(line)) errors.add(cat(file.string(), ":", lines.number()), "not valid UTF-8");
  const std::string likely = likely_encoding(text);
  fail(errors.text(), "; as ", likely, " it could be read (", key, ": ", likely, "), or save the file as UTF-8");
}

[[noreturn]] void refuse_nul(const std::string& text, size_t at, const fs::path& file, const std::string& key) {
  const auto end = text.begin() + static_cast<std::ptrdiff_t>(at);
  const bool wide =
      likely_encoding(std::string_view(text).substr(0, std::min(text.size(), size_t{1} << 16))) == "utf-16";
  fail(file.string(), ":", std::count(text.begin(), end, '\n') + 1, ": a NUL byte; expected text ",
       wide ? cat("(as UTF-16 it could be read: ", key, ": utf-16)")
            : std::string("(a compressed or binary file must be unpacked or converted)"));
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
    const std::string mark = byte_order_mark(text).first;
    const bool wide = (mark.empty() ? encoding.name : mark).starts_with("utf-16");
    const size_t nul = wide ? std::string_view::npos : part.find('\0');
    if (nul != std::string_view::npos) refuse_nul(text, text.size() - part.size() + nul, file, encoding.key);
    check(text.size() <= kLargest, "data file ", file.string(), " is larger than 4 GiB; split it");
  }
  check(!in.bad(), "data file ", file.string(), " cannot be read to its end");
  if (fs::is_regular_file(file, ignored)) same.verify("data file");  // a pipe looks different once it was read
  text = to_utf8(std::move(text), encoding.name, file.string());
  check_utf8(text, file, encoding.key);
  return text;
}

bool Lines::next(std::string_view& line) {
  if (at_ >= text_.size()) return false;
  const size_t end = std::min(text_.find(end_, at_), text_.size());
  line = text_.substr(at_, end - at_);
  if (line.ends_with('\r')) line.remove_suffix(1);
  at_ = end + 1;
  ++number_;
  return true;
}

bool is_blank(std::string_view line) { return line.find_first_not_of(" \t\r") == std::string_view::npos; }

}  // namespace deeplora
