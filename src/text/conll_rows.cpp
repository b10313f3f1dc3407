#include "text/conll_rows.h"

#include <algorithm>
#include <utility>

#include "core/error.h"
#include "text/table_form.h"
#include "text/text_lines.h"

namespace deeplora {
namespace {

using Fields = std::vector<std::string>;

Fields cut_at_tabs(std::string_view line) {
  Fields out;
  for (size_t begin = 0; begin <= line.size();) {
    const size_t end = std::min(line.find('\t', begin), line.size());
    out.emplace_back(line.substr(begin, end - begin));
    begin = end + 1;
  }
  return out;
}

Fields cut_at_blanks(std::string_view line) {
  Fields out;
  for (size_t at = 0; (at = line.find_first_not_of(" \t", at)) != std::string_view::npos;) {
    const size_t end = std::min(line.find_first_of(" \t", at), line.size());
    out.emplace_back(line.substr(at, end - at));
    at = end;
  }
  return out;
}

constexpr std::string_view kDocument = "-DOCSTART-";

/// A range of words ("1-2") or a node without one ("1.1") among CoNLL-U's numbers.
bool is_no_word_of_its_own(const std::string& id) {
  const size_t between = id.find_first_not_of("0123456789");
  return between != std::string::npos && between > 0 && (id[between] == '-' || id[between] == '.') &&
         between + 1 < id.size() && id.find_first_not_of("0123456789", between + 1) == std::string::npos;
}

class ConllReader {
 public:
  ConllReader(const std::filesystem::path& file, std::string_view text, const ConllColumns& columns, RowErrors& errors)
      : file_(file), columns_(columns), errors_(errors) {
    look_ahead(text);
  }

  std::vector<Row> read(std::string_view text) {
    Lines lines(text);
    for (std::string_view line; lines.next(line);) {
      if (is_blank(line) || line.starts_with(kDocument)) {
        end_sentence();
        continue;
      }
      Fields fields = fields_of(line);
      if (line.starts_with('#') && fields.size() != width_) continue;
      add_word(std::move(fields), lines.number());
    }
    end_sentence();
    return std::move(rows_);
  }

 private:
  Fields fields_of(std::string_view line) const { return tabs_ ? cut_at_tabs(line) : cut_at_blanks(line); }

  /// Separator, number of columns and their names, from the first word and the comments before it.
  void look_ahead(std::string_view text) {
    constexpr std::string_view kNames = "# global.columns =";
    Fields names;
    Lines lines(text);
    for (std::string_view line; width_ == 0 && lines.next(line);) {
      if (line.starts_with(kNames)) names = cut_at_blanks(line.substr(kNames.size()));
      if (is_blank(line) || line.starts_with("# ") || line.starts_with(kDocument)) continue;
      tabs_ = line.find('\t') != std::string_view::npos;
      width_ = fields_of(line).size();
      first_line_ = lines.number();
    }
    if (width_ == 0) return;
    word_ = place_of("data.word_column", columns_.word_column, 0, names);
    if (width_ == 1 && !columns_.needs_tags) return;
    check(width_ > 1, at_line(file_, first_line_),
          ": one column; expected a word and its tag, with a tab or blanks between");
    tag_ = place_of("data.label_column", columns_.tag_column, width_ - 1, names);
    has_tags_ = true;
  }

  size_t place_of(const char* key, const std::string& column, size_t usual, const Fields& names) const {
    if (column.empty()) return usual;
    const auto named = std::find(names.begin(), names.end(), column);
    if (named != names.end()) return static_cast<size_t>(named - names.begin());
    const auto index = as_index(column);
    check(index.has_value(), key, ": ", file_.string(), " names no column '", column, "'",
          names.empty() ? "; give its number, from 0" : cat("; columns there: ", join(names, ", ", names.size())));
    check(*index < width_, key, ": ", column, " is beyond the ", width_, " columns of ", at_line(file_, first_line_),
          "; they count from 0");
    return *index;
  }

  void add_word(Fields fields, size_t line) {
    if (line_ == 0) line_ = line;
    if (fields.size() != width_) {
      if (mistake_.empty())
        mistake_ =
            cat("line ", line, " has ", fields.size(), fields.size() == 1 ? " column" : " columns", ", expected ",
                width_, " as in line ", first_line_, tabs_ ? " (tabs between them)" : " (blanks between them)");
      return;
    }
    if (word_ > 0 && is_no_word_of_its_own(fields.front())) return;
    words_.push_back(std::move(fields[word_]));
    if (has_tags_) tags_.push_back(std::move(fields[tag_]));
  }

  void end_sentence() {
    if (!mistake_.empty()) {
      errors_.add(at_line(file_, line_), mistake_);
    } else if (!words_.empty()) {
      Row row{at_line(file_, line_), nlohmann::ordered_json::object()};
      row.fields[columns_.words] = std::move(words_);
      if (has_tags_) row.fields[columns_.tags] = std::move(tags_);
      rows_.push_back(std::move(row));
    }
    words_.clear();
    tags_.clear();
    mistake_.clear();
    line_ = 0;
  }

  const std::filesystem::path& file_;
  const ConllColumns& columns_;
  RowErrors& errors_;
  bool tabs_ = false, has_tags_ = false;
  size_t width_ = 0, first_line_ = 0, word_ = 0, tag_ = 0, line_ = 0;
  Fields words_, tags_;
  std::string mistake_;
  std::vector<Row> rows_;
};

}  // namespace

std::vector<Row> read_conll_rows(const std::filesystem::path& file, std::string_view text, const ConllColumns& columns,
                                 RowErrors& errors) {
  return ConllReader(file, text, columns, errors).read(text);
}

bool is_conll_extension(std::string_view extension) {
  for (const char* one : {".conll", ".conllu", ".conllup", ".iob", ".iob2", ".bio"})
    if (extension == one) return true;
  return false;
}

}  // namespace deeplora
