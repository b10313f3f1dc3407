// Rows of data files: JSONL, TSV, CSV and plain lines, every row with its file:line.
#pragma once

#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace deeplora {

struct Row {
  std::string source;             ///< "file:line", for messages
  nlohmann::ordered_json fields;  ///< column -> text (TSV, CSV, text) or any JSON value (JSONL)
  bool is_line = false;           ///< a line of plain text
};

struct TableOptions {
  std::string format = "auto";  ///< auto (by extension: .jsonl .json .tsv .csv .txt), jsonl, tsv, csv or text
  std::string header = "auto";  ///< TSV and CSV: auto (the first line holds a wanted name), yes or no
  std::vector<std::string> wanted;  ///< columns that every row must have, by name or by index from 0
  std::vector<std::string> known{};   ///< further names that tell a header; rows may lack them
  /// JSONL: a row that has one of these stands in for the wanted columns.
  std::vector<std::string> stand_ins{"input_ids"};
};

/// All rows, in the order of the file. Every wanted column is a key of every row's fields (stand-ins apart).
///
/// TSV and CSV: without a header the columns are called "0", "1", ...; with one, a wanted index becomes a
/// further key. TSV knows no quotes, as the GLUE files; CSV is RFC 4180. Only \n and \r\n end a line. A byte
/// order mark is dropped, blank lines are skipped, except in plain text, where each line is a row {"text":
/// line}. Throws Error with file:line for: no rows, invalid UTF-8, NUL bytes, invalid JSON, an open quote,
/// another number of columns than in the first line, missing columns (with the columns there and the
/// nearest), an unknown format or extension.
std::vector<Row> read_table(const std::filesystem::path& file, const TableOptions& options);

}  // namespace deeplora
