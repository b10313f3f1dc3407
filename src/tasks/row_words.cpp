#include "tasks/row_words.h"

#include "core/error.h"
#include "core/json_text.h"
#include "tasks/label_names.h"
#include "text/plain_words.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

using Json = nlohmann::ordered_json;

constexpr size_t kShownCell = 60;

const Json& cell_of(const Row& row, const std::string& column) {
  const auto found = row.fields.find(column);
  if (found != row.fields.end()) return *found;
  std::vector<std::string> there;
  for (const auto& item : row.fields.items()) there.push_back(item.key());
  fail(row.source, ": no column '", column, "'", did_you_mean(column, there), "; columns: ", join(there));
}

/// A list that a table's cell holds as text; null for any other cell.
Json list_in_text(const Json& cell) {
  if (!cell.is_string()) return nullptr;
  const std::string_view text = without_blanks(cell.get_ref<const std::string&>());
  if (!text.starts_with('[') || nests_too_deep(text)) return nullptr;
  Json list = Json::parse(text, nullptr, /*allow_exceptions=*/false);
  return list.is_array() ? list : Json(nullptr);
}

}  // namespace

std::vector<std::string> text_list(const Row& row, const std::string& column, const char* what) {
  const Json& cell = cell_of(row, column);
  const Json in_text = list_in_text(cell);
  const Json& list = in_text.is_array() ? in_text : cell;
  check(list.is_array(), row.source, ": ", column, ": expected ", what, ", found ", cell.is_string() ? "a text, " : "",
        shortened(cell.dump(), kShownCell));
  std::vector<std::string> out;
  for (const auto& item : list) {
    check(!item.is_null() && !item.is_structured(), row.source, ": ", column, ": expected ", what, ", found ",
          shortened(item.dump(), kShownCell), " in it");
    out.push_back(item.is_string() ? item.get<std::string>() : item.dump());
  }
  return out;
}

RowWords read_row_words(const Row& row, const std::string& column, bool list) {
  RowWords out{.source = row.source, .text = {}, .words = {}, .offsets = {}, .tags = {}};
  const Json& cell = cell_of(row, column);
  out.from_text = !list && cell.is_string() && !list_in_text(cell).is_array();
  if (out.from_text) {
    out.text = cell.get<std::string>();
    try {
      PlainWords found = plain_words(out.text);
      out.words = std::move(found.words);
      out.offsets = std::move(found.offsets);
    } catch (const Error& e) {
      fail(row.source, ": ", column, ": ", e.what());
    }
    check(!out.words.empty(), row.source, ": ", column, ": a text without a word; leave the row out");
    return out;
  }
  out.words = text_list(row, column, "a list of words");
  check(!out.words.empty(), row.source, ": ", column,
        ": an empty list; expected at least one word (leave the row out)");
  out.offsets = joined_offsets(out.words);
  for (const auto& word : out.words) out.text += (&word == &out.words.front() ? "" : " ") + word;
  return out;
}

std::vector<std::string> read_row_tags(const Row& row, const std::string& column, size_t words,
                                       const std::string& words_column) {
  std::vector<std::string> out = text_list(row, column, "a list of tags");
  check(out.size() == words, row.source, ": ", column, ": ", out.size(), out.size() == 1 ? " tag" : " tags", " for ",
        words, words == 1 ? " word" : " words", " in ", words_column, "; expected a tag for every word");
  for (auto& tag : out) {
    tag = std::string(without_blanks(tag));
    check(!tag.empty(), row.source, ": ", column, ": tag ", &tag - out.data() + 1, " is empty");
  }
  return out;
}

}  // namespace deeplora
