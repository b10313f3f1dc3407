#include "tasks/text_rows.h"

#include <torch/torch.h>

#include <charconv>
#include <cmath>

#include "tasks/label_names.h"
#include "tasks/row_ids.h"
#include "core/number_text.h"
#include "text/row_errors.h"

namespace deeplora {

std::string text_cell(const Row& row, const std::string& column) {
  const auto found = row.fields.find(column);
  if (found == row.fields.end()) {
    std::vector<std::string> there;
    for (const auto& item : row.fields.items()) there.push_back(item.key());
    fail(row.source, ": no column '", column, "'", did_you_mean(column, there), "; columns: ", join(there));
  }
  if (found->is_string()) return found->get<std::string>();
  check(!found->is_null() && !found->is_structured(), row.source, ": ", column, ": expected a text, found ",
        found->dump());
  return found->dump();
}

double number_cell(const Row& row, const std::string& column, std::string_view hint) {
  const std::string whole = text_cell(row, column);
  std::string_view text = without_blanks(whole);
  if (text.starts_with('+')) text.remove_prefix(1);
  double value = 0;
  const auto [end, failed] = std::from_chars(text.data(), text.data() + text.size(), value);
  check(failed == std::errc() && end == text.data() + text.size() && std::isfinite(value), row.source, ": ", column,
        ": expected a number, found '", whole, "'", hint);
  return value;
}

Example encode_ids(const Row& row, int64_t max_length) {
  RowIds ids = read_row_ids(row, false);
  Example example;
  example.input_ids = std::move(ids.input_ids);
  example.attention_mask = std::move(ids.attention_mask);
  example.token_type_ids = std::move(ids.token_type_ids);
  if (max_length > 0 && static_cast<int64_t>(example.input_ids.size()) > max_length) {
    example.truncated = true;
    for (auto* values : {&example.input_ids, &example.attention_mask, &example.token_type_ids})
      if (!values->empty()) values->resize(static_cast<size_t>(max_length));
  }
  return example;
}

Example encode_text(const Row& row, const std::string& column, const std::string& text,
                    const std::optional<std::string>& pair, const Tokenizer* tokenizer, int64_t max_length) {
  check(tokenizer != nullptr, row.source, ": the model has no tokenizer, so rows must carry input_ids");
  Example example;
  const std::optional<std::string_view> second = pair ? std::optional<std::string_view>(*pair) : std::nullopt;
  try {
    Encoding encoding = tokenizer->encode(text, second, max_length);
    example.input_ids = std::move(encoding.ids);
    example.token_type_ids = std::move(encoding.type_ids);
    example.truncated = encoding.truncated;
    if (encoding.truncated) {
      const auto whole = tokenizer->encode(text, second, 0).ids.size();
      example.tokens_cut = static_cast<int64_t>(whole - example.input_ids.size());
    }
  } catch (const Error& e) {
    fail(row.source, ": ", e.what());
  }
  check(!example.input_ids.empty(), row.source, ": ", column,
        ": an empty text, and the tokenizer adds no token of its own; the model needs at least one token (leave the "
        "row out)");
  return example;
}

Batch pad_texts(std::span<const Example* const> examples, int64_t pad_id) {
  size_t tokens = 1;
  for (const Example* example : examples) tokens = std::max(tokens, example->input_ids.size());
  const auto rows = static_cast<int64_t>(examples.size()), width = static_cast<int64_t>(tokens);
  Batch batch;
  batch.input_ids = torch::full({rows, width}, pad_id, torch::kInt64);
  batch.attention_mask = torch::zeros({rows, width}, torch::kInt64);
  batch.token_type_ids = torch::zeros({rows, width}, torch::kInt64);
  auto ids = batch.input_ids.accessor<int64_t, 2>();
  auto mask = batch.attention_mask.accessor<int64_t, 2>();
  auto types = batch.token_type_ids.accessor<int64_t, 2>();
  for (int64_t i = 0; i < rows; ++i) {
    const Example& example = *examples[static_cast<size_t>(i)];
    for (size_t t = 0; t < example.input_ids.size(); ++t) {
      const auto at = static_cast<int64_t>(t);
      ids[i][at] = example.input_ids[t];
      mask[i][at] = example.attention_mask.empty() ? 1 : example.attention_mask[t];
      types[i][at] = example.token_type_ids.empty() ? 0 : example.token_type_ids[t];
    }
  }
  return batch;
}

std::string Remark::said(size_t rows, std::string_view what) const {
  return count == 0 ? "" : cat(with_commas(count), " of ", with_commas(rows), what, ", the first at ", first);
}

const std::string* text_in(const Row& row, const std::string& column) {
  const auto found = row.fields.find(column);
  return found != row.fields.end() && found->is_string() ? &found->get_ref<const std::string&>() : nullptr;
}

Remark empty_texts(const std::vector<Row>& rows, const std::vector<std::string>& columns) {
  Remark out;
  for (const auto& row : rows) {
    if (row.fields.contains("input_ids")) continue;
    for (const auto& column : columns)
      if (const std::string* text = column.empty() ? nullptr : text_in(row, column);
          text && without_blanks(*text).empty()) {
        out.add(row);
        break;
      }
  }
  return out;
}

}  // namespace deeplora
