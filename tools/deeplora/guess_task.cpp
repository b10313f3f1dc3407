#include "guess_task.h"

#include <algorithm>
#include <cmath>
#include <set>

#include "core/log.h"
#include "core/yaml_value.h"
#include "session.h"
#include "tasks/label_names.h"
#include "core/number_text.h"
#include "text/row_errors.h"

namespace deeplora {
namespace {

constexpr size_t kManyValues = 20;

/// Columns by which each kind of language rows is known; the keys of `data` may rename some.
struct ColumnNames {
  std::string text = "text", label = "label", text_pair, prompt = "prompt", completion = "completion",
              messages = "messages", target = "target", chosen = "chosen", rejected = "rejected";

  explicit ColumnNames(const Config& data) {
    for (const auto& [key, name] :
         {std::pair("text", &text), std::pair("label", &label), std::pair("text_pair", &text_pair),
          std::pair("prompt", &prompt), std::pair("completion", &completion), std::pair("messages", &messages),
          std::pair("target", &target), std::pair("chosen", &chosen), std::pair("rejected", &rejected)})
      if (const auto given = data.text_at(key)) *name = *given;
  }
  std::vector<std::string> all() const {
    return {text,     label,           text_pair.empty() ? "text_pair" : text_pair,
            prompt,   completion,      messages,
            target,   "conversations", "instruction",
            "output", "input_ids",     "tokens",
            "tags",   chosen,          rejected};
  }
};

Table read_training_file(const Config& config, const ColumnNames& names, const Registries& registries) {
  const Config copy = config.copy();  // its mistakes are told by the reading that counts
  const DataConfig data = DataConfig::read(copy.section("data"), registries.tasks);
  check(!data.train.empty(), "data.train: expected a file of training rows, found nothing; name one with --train");
  TableOptions options = data.table_options();
  const Config given = copy.section("data");
  for (const char* key : {"text", "label", "text_pair"})
    if (const auto name = given.text_at(key)) options.wanted.push_back(*name);
  options.known = names.all();
  return read_rows(options, data.train, "data.train");
}

bool is_finite_number(const std::string& text) {
  double value = 0;
  return read_yaml(YamlValue::scalar(text), value) && std::isfinite(value);
}

/// Values of a column, white space at their ends aside.
std::vector<std::string> values_of(const Table& table, const std::string& column) {
  std::vector<std::string> out;
  for (const auto& row : table.rows) {
    const auto found = row.fields.find(column);
    if (found == row.fields.end() || found->is_null()) continue;
    out.emplace_back(without_blanks(found->is_string() ? found->get_ref<const std::string&>() : found->dump()));
  }
  return out;
}

/// A list, or one in JSON as a table's cell holds it.
bool is_list(const nlohmann::ordered_json& cell) {
  return cell.is_array() || (cell.is_string() && without_blanks(cell.get_ref<const std::string&>()).starts_with('['));
}

TaskGuess by_labels(const Table& table, const std::string& column) {
  const auto values = values_of(table, column);
  const std::set<std::string> different(values.begin(), values.end());
  const bool numbers = std::all_of(different.begin(), different.end(), is_finite_number);
  const bool many = different.size() > kManyValues || (different.size() > 4 && different.size() * 2 > values.size());
  TaskGuess out;
  out.task = numbers && many ? "regression" : "classification";
  out.reason =
      cat("column ", column, " holds ", with_commas(different.size()), " different ", numbers ? "numbers" : "values");
  return out;
}

}  // namespace

TaskGuess guess_task(const Config& config, const Registries& registries) {
  const ColumnNames names(config.section("data"));
  Table table = read_training_file(config, names, registries);
  const auto has = [&](const std::string& name) {
    return !table.rows.empty() && table.rows.front().fields.contains(name);
  };
  TaskGuess out;
  if (has(names.chosen) && has(names.rejected)) {
    out = {"preference", cat("columns ", names.chosen, " and ", names.rejected), {}, {}};
  } else if (has(names.messages) || has("conversations")) {
    out = {"causal-lm",
           cat("column ", has(names.messages) ? names.messages : "conversations", " holds conversations"),
           {},
           {}};
  } else if (has(names.prompt) && has(names.completion)) {
    out = {"causal-lm", cat("columns ", names.prompt, " and ", names.completion), {}, {}};
  } else if (const std::string words = names.text == "text" ? "tokens" : names.text,
             tags = names.label == "label" ? "tags" : names.label;
             has(words) && has(tags) && is_list(table.rows.front().fields[words])) {
    out = {
        "token-classification", cat("column ", words, " holds lists of words, column ", tags, " their tags"), {}, {}};
  } else if (has("instruction") && has("output")) {
    out = {"causal-lm", "columns instruction and output", {}, {}};
  } else if (has(names.label)) {
    out = by_labels(table, names.label);
    if (names.text_pair.empty() && has("text_pair")) out.text_pair = "text_pair";
  } else if (const std::string pair = names.text_pair.empty() ? "text_pair" : names.text_pair;
             has(names.text) && has(pair)) {
    out = {"embedding", cat("columns ", names.text, " and ", pair, " without a label are pairs"), {}, {}};
  } else if (table.format == "text") {
    out = {"causal-lm", "plain text", {}, {}};
  } else {
    const auto& first = table.rows.front().source;
    check(table.columns == std::vector<std::string>{names.text}, "data.label: ", first, ": no column '", names.label,
          "' tells the task; name it (--label ", table.columns.empty() ? "COLUMN" : table.columns.back(),
          "), or say --task; columns there: ", join(table.columns));
    out = {"causal-lm", cat("column ", names.text, " alone"), {}, {}};
  }
  out.table = std::move(table);
  return out;
}

void complete_task(Config& config, const Registries& registries) {
  if (config.section("data").text_at("task")) return;
  if (!config.section("data").text_at("train")) {  // any other mistake goes before that
    Config any = config.copy();
    any.set_text("data.task", "classification", "data.task");
    RunConfig::read(any, registries);
  }
  const TaskGuess guess = guess_task(config, registries);
  config.set_text("data.task", guess.task, "data.task (as the training file has it)");
  if (!guess.text_pair.empty())
    config.set_text("data.text_pair", guess.text_pair, "data.text_pair (as the training file has it)");
  log_info("task: ", guess.task, ", since ", guess.reason,
           guess.text_pair.empty() ? "" : cat("; pairs with column ", guess.text_pair),
           " (--task or data.task says otherwise)");
}

}  // namespace deeplora
