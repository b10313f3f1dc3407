// What a file's content tells of its form: format, separator, quoting, header.
#pragma once

#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

#include "text/records.h"
#include "text/table.h"

namespace deeplora {

/// "file:line"
std::string at_line(const std::filesystem::path& file, size_t line);

/// Index from 0, or nothing for a name.
std::optional<size_t> as_index(const std::string& name);

/// jsonl, json, tsv, csv, conll or text. Throws Error for an unknown format and where neither extension nor content
/// tells it.
std::string choose_format(const std::filesystem::path& file, std::string_view text, const TableOptions& options);

/// Where the records of a delimited text begin, and how they are read.
struct DelimitedForm {
  Dialect dialect;
  size_t begin = 0;       ///< behind a line "sep=;"
  size_t first_line = 1;  ///< number of the line there
};

/// Separator and quoting. Throws Error where several separators fit.
DelimitedForm choose_dialect(const std::filesystem::path& file, std::string_view text, const std::string& format,
                             const TableOptions& options);

/// Is the first record one of names? Throws Error where it may be either.
bool choose_header(const std::filesystem::path& file, std::string_view text, const DelimitedForm& form,
                   const TableOptions& options);

/// "a | b", long values cut.
std::string shown_record(const std::vector<std::string>& values);

/// As messages show it: tab, or the character.
std::string shown_separator(char separator);

}  // namespace deeplora
