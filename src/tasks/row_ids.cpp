#include "tasks/row_ids.h"

#include <algorithm>

#include "core/error.h"
#include "core/number_text.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

constexpr int64_t kNotLearnt = -100;

std::vector<int64_t> list_like_ids(const Row& row, const std::string& column, size_t tokens, bool ignored) {
  if (!row.fields.contains(column)) return {};
  auto values = whole_numbers(row, column, ignored);
  check(values.size() == tokens, row.source, ": ", column, ": expected ", tokens, " values as in input_ids, found ",
        values.size());
  return values;
}

void keep(std::vector<int64_t>& values, size_t begin, size_t end) {
  if (values.empty()) return;
  values.resize(end);
  values.erase(values.begin(), values.begin() + static_cast<std::ptrdiff_t>(begin));
}

}  // namespace

std::vector<int64_t> whole_numbers(const Row& row, const std::string& column, bool ignored) {
  const auto& value = row.fields.at(column);
  check(value.is_array(), row.source, ": ", column, ": expected a list of whole numbers, found ",
        shortened(value.dump(), 80));
  std::vector<int64_t> out;
  for (const auto& item : value) {
    const bool fits =
        item.is_number_integer() && (item.get<int64_t>() >= 0 || (ignored && item.get<int64_t>() == kNotLearnt));
    check(fits, row.source, ": ", column, ": expected whole numbers from 0", ignored ? " (or -100: not predicted)" : "",
          ", found ", shortened(item.dump(), 80));
    out.push_back(item.get<int64_t>());
  }
  return out;
}

RowIds read_row_ids(const Row& row, bool with_labels) {
  RowIds out;
  out.input_ids = whole_numbers(row, "input_ids");
  const size_t tokens = out.input_ids.size();
  check(tokens > 0, row.source, ": input_ids: an empty list; expected at least one token");
  out.attention_mask = list_like_ids(row, "attention_mask", tokens, false);
  out.token_type_ids = list_like_ids(row, "token_type_ids", tokens, false);
  if (with_labels) out.labels = list_like_ids(row, "labels", tokens, true);
  auto& mask = out.attention_mask;
  if (mask.empty()) return out;
  for (const int64_t m : mask)
    check(m == 0 || m == 1, row.source, ": attention_mask: expected 1 for a token and 0 for padding, found ", m);
  const auto first = static_cast<size_t>(std::find(mask.begin(), mask.end(), 1) - mask.begin());
  check(first < tokens, row.source, ": attention_mask: all ", tokens, " tokens are hidden; expected at least one 1");
  for (size_t t = 0; t < out.labels.size(); ++t)
    check(mask[t] == 1 || out.labels[t] == kNotLearnt, row.source, ": labels: token ", t,
          " is hidden by attention_mask, but has the label ", out.labels[t], "; set it to -100");
  const size_t end = tokens - static_cast<size_t>(std::find(mask.rbegin(), mask.rend(), 1) - mask.rbegin());
  for (auto* values : {&out.input_ids, &out.attention_mask, &out.token_type_ids, &out.labels})
    keep(*values, first, end);
  if (std::find(mask.begin(), mask.end(), 0) == mask.end()) mask.clear();
  return out;
}

std::string turned_rows(const std::vector<Row>& rows) {
  size_t count = 0;
  const Row* first = nullptr;
  for (const auto& row : rows) {
    const auto found = row.fields.find("attention_mask");
    const bool turned = found != row.fields.end() && found->is_array() && !found->empty() && found->front() == 0;
    if (turned && !first) first = &row;
    count += turned;
  }
  if (!first) return "";
  return cat(with_commas(count), " of ", with_commas(rows.size()), " rows begin with padding, the first ",
             first->source, "; they are turned, so that positions count from the first token");
}

}  // namespace deeplora
