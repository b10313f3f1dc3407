// Rows of data files: JSONL, JSON lists, TSV, CSV and plain lines, every row with its file:line.
#pragma once

#include <filesystem>
#include <functional>
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace deeplora {

struct Row {
  std::string source;             ///< "file:line", for messages
  nlohmann::ordered_json fields;  ///< column -> text (TSV, CSV, text) or any JSON value (JSONL)
  bool is_line = false;           ///< a line of plain text
};

/// Files of words in columns (text/conll_rows.h), and the fields that their rows get.
struct ConllColumns {
  std::string words = "tokens", tags = "tags";
  std::string word_column, tag_column;  ///< by number from 0, or by the name that the file gives; empty: first and last
  bool needs_tags = false;              ///< a file of words alone is a mistake
  bool usual = false;                   ///< files that neither extension nor content tells are such
};

struct TableOptions {
  std::string format = "auto";       ///< auto (by extension, else by content), jsonl, json, tsv, csv, conll or text
  std::string header = "auto";       ///< TSV and CSV: auto (the first line holds a wanted name), yes or no
  std::vector<std::string> wanted;   ///< columns that every row must have, by name or by index from 0
  std::vector<std::string> known{};  ///< further names that tell a header; rows may lack them
  /// JSON: a row that has one of these stands in for the wanted columns.
  std::vector<std::string> stand_ins{"input_ids"};
  /// Other names that a wanted column may have in a file; an index holds for files without a header.
  std::map<std::string, std::vector<std::string>> aliases{};
  std::map<std::string, std::string> keys{};  ///< wanted column -> the key that names it (data.text), for messages
  std::string separator = "auto";  ///< TSV and CSV: auto (by content), comma, semicolon, tab, pipe or a character
  std::string quoting = "auto";    ///< TSV and CSV: auto, none or double (RFC 4180)
  std::string encoding = "utf-8";  ///< one of encoding_names(); a byte order mark goes before it
  /// error, or skip: rows that cannot be read are left out, as long as they are at most this share of all.
  std::string bad_rows = "error";
  double bad_rows_share = 0.01;
  /// skip: throws Error for a row that can be read, but that its task cannot use: it is left out as well. May be empty.
  std::function<void(const Row&)> check_row{};
  ConllColumns conll{};
  bool any_format = false;  ///< header, separator and quoting are for the files that have them; others are no mistake
};

struct Table {
  std::vector<Row> rows;  ///< in the order of the file
  std::string format;     ///< jsonl, json, tsv, csv, conll or text
  std::vector<std::string>
      columns;  ///< names in the order of the file, of JSON in that of their first use; "0", "1", ... without a header
  bool header = false;       ///< TSV and CSV: the first line gave the names
  char separator = 0;        ///< TSV and CSV
  bool quoted = false;       ///< TSV and CSV: fields in quotes were read as such
  size_t skipped = 0;        ///< rows left out
  std::string skipped_rows;  ///< which, and why

  /// "1,204 rows, columns text, label; separator ;, quoted"
  std::string summary() const;
};

/// All rows of a file. Every wanted column is a key of every row's fields (stand-ins apart).
///
/// TSV and CSV: without a header the columns are called "0", "1", ...; with one, a wanted index becomes a further key.
/// Where all wanted columns are indices, a first line that is plainly one of names is a header, and one that may be is
/// an error. Quotes of a TSV count where they balance in every row that has them, as csv.writer and pandas write them;
/// a CSV is RFC 4180; text in GLUE's files is as it stands. Blank lines are skipped, except in plain text, where each
/// line is a row {"text": line}. Throws Error with file:line for: no rows, bytes of another encoding, NUL bytes,
/// invalid JSON, an open quote, another number of columns than in the first line, missing columns (with the columns
/// there and the nearest), what cannot be told from the content (with the key that tells it).
Table read_table(const std::filesystem::path& file, const TableOptions& options);

}  // namespace deeplora
