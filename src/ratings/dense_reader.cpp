#include "ratings/dense_reader.h"

#include <cmath>
#include <utility>
#include <vector>

#include "ratings/delimited.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr size_t kMostTableMistakes = 12;

class DenseReader {
 public:
  DenseReader(const fs::path& file, std::string_view text, const TableLook& look, const TableLayout& layout)
      : file_(file),
        lines_(text),
        cutter_(look.separator),
        layout_(layout),
        count_(look.records[0].size() + (layout.short_header ? 1 : 0)) {}

  Ratings read() {
    bool header = layout_.header;
    for (std::string_view line; errors_.size() < kMostTableMistakes && lines_.next(line);) {
      if (is_blank(line) && !is_row(line)) continue;
      if (!cutter_.cut(line, fields_)) {
        errors_.add(here(), ": a quote is opened and not closed on the line");
        continue;
      }
      std::exchange(header, false) ? take_header() : take_row();
    }
    errors_.throw_if_any();
    for (size_t j = static_cast<size_t>(out_.cols.size()); j + first_column() < count_; ++j)
      out_.cols.add(std::to_string(j));
    drop_jester_codes();
    check(out_.size() > 0, file_.string(), ": the file holds no ratings");
    return std::move(out_);
  }

 private:
  std::string here() const { return cat(file_.string(), ":", lines_.number()); }
  /// Tabs alone are a row without ratings.
  bool is_row(std::string_view line) const {
    return cutter_.separator() == "\t" && line.find('\t') != std::string_view::npos;
  }
  size_t first_column() const { return layout_.row_names ? 1 : 0; }

  void take_header() {
    for (size_t i = layout_.short_header ? 0 : first_column(); i < fields_.size(); ++i) {
      const int64_t before = out_.cols.size();
      out_.cols.add(fields_[i]);
      if (out_.cols.size() == before) errors_.add(here(), ": two columns are called '", fields_[i], "'");
      if (fields_[i].empty()) errors_.add(here(), ": column ", i, " has no name");
    }
  }

  void take_row() {
    if (fields_.size() != count_)
      return errors_.add(here(), ": ", fields_.size(), " columns, expected ", count_, " as in the first line");
    if (layout_.row_names && fields_[0].empty()) return errors_.add(here(), ": the row has no name");
    const int64_t before = out_.rows.size();
    const int32_t row = out_.rows.add(layout_.row_names ? std::string(fields_[0]) : std::to_string(before));
    if (out_.rows.size() == before)
      return errors_.add(here(), ": two rows are called '", fields_[0],
                         "' (rows of triplets? set completion.format: triplets)");
    for (size_t i = first_column(); i < fields_.size(); ++i) {
      if (is_missing(fields_[i])) continue;
      const auto value = as_number(fields_[i]);
      if (!value)
        return errors_.add(here(), ": column ", i, ": expected a number or a blank, found '", fields_[i], "'");
      if (std::isinf(*value)) return errors_.add(here(), ": column ", i, ": the value is infinite");
      out_.row.push_back(row);
      out_.col.push_back(static_cast<int32_t>(i - first_column()));
      out_.value.push_back(*value);
    }
  }

  /// Jester's coding: 99 is "not rated", and a first column may say how many jokes a row rates.
  void drop_jester_codes() {
    if (layout_.header || layout_.row_names) return;
    const size_t n = out_.value.size();
    bool counted = layout_.counted;  // by the first lines; now by all
    std::vector<int64_t> rated(static_cast<size_t>(out_.rows.size()), 0);
    std::vector<double> first(rated.size(), -1);
    int64_t coded = 0;
    for (size_t k = 0; k < n; ++k) {
      const auto row = static_cast<size_t>(out_.row[k]);
      if (out_.col[k] == 0) first[row] = out_.value[k];
      else if (out_.value[k] != 99) ++rated[row];
      coded += out_.value[k] == 99;
    }
    for (size_t row = 0; row < rated.size(); ++row) counted &= first[row] == static_cast<double>(rated[row]);
    bool jester = coded > 0 || counted;
    for (size_t k = 0; k < n; ++k)
      jester &= out_.value[k] == 99 || std::abs(out_.value[k]) <= 10 || (counted && out_.col[k] == 0);
    if (!jester) return;
    Ratings kept;
    for (const auto& name : out_.rows.names()) kept.rows.add(name);
    const int32_t shift = counted ? 1 : 0;
    for (int32_t j = shift; j < static_cast<int32_t>(count_); ++j) kept.cols.add(std::to_string(j - shift));
    for (size_t k = 0; k < n; ++k) {
      if ((coded > 0 && out_.value[k] == 99) || out_.col[k] < shift) continue;
      kept.row.push_back(out_.row[k]);
      kept.col.push_back(out_.col[k] - shift);
      kept.value.push_back(out_.value[k]);
    }
    if (counted)
      kept.remarks.push_back(
          cat(file_.string(), ": the first column counts each row's ratings and was dropped (Jester's layout)"));
    if (coded > 0)
      kept.remarks.push_back(
          cat(file_.string(), ": ", coded, " values of 99 were taken as not rated (Jester's coding)"));
    out_ = std::move(kept);
  }

  const fs::path& file_;
  Lines lines_;
  FieldCutter cutter_;
  TableLayout layout_;
  size_t count_;
  std::vector<std::string_view> fields_;
  Ratings out_;
  Errors errors_;
};

}  // namespace

Ratings read_dense_table(const fs::path& file, std::string_view text, const TableLook& look,
                         const TableLayout& layout) {
  return DenseReader(file, text, look, layout).read();
}

}  // namespace deeplora
