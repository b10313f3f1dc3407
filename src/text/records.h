// Records of delimited text: CSV, TSV and their relatives, as csv.writer, pandas and spreadsheets write them.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// How records and fields are told apart.
struct Dialect {
  char separator = ',';
  bool quoted = true;  ///< RFC 4180: a field that begins with " ends at the next single "; it may hold separators, line
                       ///< ends and ""
};

/// One record, by the line that it begins in.
struct Record {
  size_t line = 0;
  std::vector<std::string> values;
  std::string mistake;       ///< what is wrong with it; its values are not to be used then
  bool quoted = false;       ///< some field was in quotes
  bool stray_quote = false;  ///< some field that was not in quotes holds one: no writer of quoted text leaves it so
};

/// Walks over the records of a text that outlives it. Lines end with \n or \r\n, or with \r where no \n
/// stands outside of quotes. Blank lines are skipped; a line of tabs alone is a record of empty fields where tabs
/// separate.
class RecordReader {
 public:
  RecordReader(std::string_view text, Dialect dialect, size_t first_line = 1);
  /// False at the end of the text. After a mistake it goes on with the next line; a quote that is never closed ends the
  /// text.
  bool next(Record& record);

 private:
  char peek() const { return at_ < text_.size() ? text_[at_] : end_; }
  bool at_line_end() const;
  void skip_blank_lines();
  void end_line();
  std::string plain(Record& record);
  std::string quoted(Record& record);

  std::string_view text_;
  Dialect dialect_;
  char end_;
  size_t at_ = 0, line_;
};

/// Most columns of a record; further fields are dropped, so that the record is one too long.
inline constexpr size_t kMostColumns = 10000;

}  // namespace deeplora
