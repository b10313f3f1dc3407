// Words in columns, a word a line and an empty line between sentences: CoNLL's files and CoNLL-U.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "text/row_errors.h"
#include "text/table.h"

namespace deeplora {

/// A row {words: [...], tags: [...]} per sentence, named by the line that it begins in. Columns are cut at tabs where
/// the first line has one, else at white space. Lines of -DOCSTART- begin a document and are no words; lines that begin
/// with # and have another number of columns than words have are comments, of which "# global.columns = ID FORM ..."
/// names the columns. CoNLL-U's ranges (1-2) and empty nodes (1.1) are no words of their own. What cannot be read goes
/// into `errors`; throws Error where a column does not exist.
std::vector<Row> read_conll_rows(const std::filesystem::path& file, std::string_view text, const ConllColumns& columns,
                                 RowErrors& errors);

/// The extension is one of such files: .conll, .conllu, .conllup, .iob, .iob2, .bio.
bool is_conll_extension(std::string_view extension);

}  // namespace deeplora
