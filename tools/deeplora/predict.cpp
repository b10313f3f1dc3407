#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <fstream>
#include <iostream>
#include <sstream>

#include "commands.h"
#include "core/json_text.h"
#include "core/npy.h"
#include "generation_flags.h"
#include "prediction_lines.h"
#include "predictor.h"
#include "tasks/id_limits.h"
#include "text/text_lines.h"

namespace deeplora {
namespace {

struct PredictOptions {
  std::string run, source, input, output, keep, model;
  std::vector<std::string> texts, overrides;
  bool last = false;
  int64_t batch_size = 0;
};

/// {column, text or text_pair}: what rows may call a task's columns besides, unless another column has that name.
std::vector<std::pair<std::string, std::string>> plain_names(const std::vector<std::string>& columns) {
  std::vector<std::pair<std::string, std::string>> out;
  const std::string plain[] = {"text", "text_pair"};
  for (size_t i = 0; i < columns.size() && i < 2; ++i)
    if (std::find(columns.begin(), columns.end(), plain[i]) == columns.end()) out.emplace_back(columns[i], plain[i]);
  return out;
}

std::vector<Row> input_rows(const PredictOptions& o, const Predictor& p) {
  const auto columns = p.task().columns(false);
  std::vector<Row> rows;
  if (!o.texts.empty()) {
    check(o.texts.size() % columns.size() == 0, "--text: this task takes ", columns.size(), " texts a row, found ",
          o.texts.size());
    for (size_t i = 0; i < o.texts.size(); i += columns.size()) {
      Row row;
      row.source = cat("--text ", i + 1);
      for (size_t k = 0; k < columns.size(); ++k) row.fields[columns[k]] = o.texts[i + k];
      rows.push_back(std::move(row));
    }
    return rows;
  }
  const std::filesystem::path file = o.input == "-" ? "/dev/stdin" : o.input;
  TableOptions options = p.data.table_options();
  const auto is_format = [](const std::string& assignment) { return assignment.starts_with("data.format="); };
  if (std::none_of(o.overrides.begin(), o.overrides.end(), is_format))
    options.format = "auto";  // the run's is that of its own files
  options.any_format = true;
  p.task().table_options(options, false);
  // Rows may name their texts as the task does, or simply text and text_pair; a text file is one text a line.
  for (const auto& [column, plain] : plain_names(columns)) options.aliases[column].push_back(plain);
  return read_rows(options, file, "--input").rows;
}

/// One generated text on a terminal is shown as it grows, not as JSON.
bool streams(const PredictOptions& o, const Predictor& p, size_t rows) {
  return o.output.empty() && !o.texts.empty() && rows == 1 && p.task().outputs() == 0 && ::isatty(STDOUT_FILENO) == 1;
}

/// "id,text" -> id, text.
std::vector<std::string> names_in(const std::string& list) {
  std::vector<std::string> out;
  std::istringstream names(list);
  for (std::string name; std::getline(names, name, ',');) out.push_back(name);
  return out;
}

bool is_pipe(int descriptor) {
  struct stat status{};
  return ::fstat(descriptor, &status) == 0 && S_ISFIFO(status.st_mode);
}

/// A line of standard input as a row: a JSON object, or a text.
Row row_of_line(const std::string& line, size_t number, const std::vector<std::string>& columns) {
  Row row{cat("standard input:", number), nlohmann::ordered_json::object()};
  check(is_valid_utf8(line), row.source, ": not valid UTF-8");
  if (line.find_first_not_of(" \t") == line.find('{')) {
    check(!nests_too_deep(line), row.source, ": nests deeper than ", kDeepestJson, " levels");
    row.fields = nlohmann::ordered_json::parse(line, nullptr, false);
    check(row.fields.is_object(), row.source,
          ": expected a JSON object, as the line begins with {; a text that does is {\"text\": \"{...\"}");
    for (const auto& [column, plain] : plain_names(columns))
      if (!row.fields.contains(column) && row.fields.contains(plain))
        row.fields[column] = nlohmann::ordered_json(row.fields[plain]);
    return row;
  }
  check(columns.size() == 1, row.source, ": this task takes ", columns.size(), " texts a row; give a JSON object with ",
        join(columns));
  row.fields[columns.front()] = line;
  return row;
}

/// Answers every line as it comes; blank ones are passed over. Without --output each answer is out before the next line
/// is read.
void answer_lines(const PredictOptions& o, const Predictor& p, PredictionLines& lines) {
  const auto columns = p.task().columns(false);
  std::string line, written;
  for (size_t number = 1; std::getline(std::cin, line); ++number) {
    if (line.ends_with('\r')) line.pop_back();
    if (is_blank(line)) continue;
    const std::vector<Row> rows{row_of_line(line, number, columns)};
    const auto examples = encode_rows(p.task(), p.tokenizer.get(), rows, "-", false);
    check_ids(p.task(), p.model(), examples, p.evaluation.device, "-");
    const std::string answer = lines.line(rows.front(), p.task().predict(p.model(), examples, p.evaluation).front());
    if (o.output.empty()) std::cout << answer << std::flush;
    else written += answer;
  }
  if (!o.output.empty()) write_file_atomically(o.output, written);
}

std::vector<Example> encode_input(const Predictor& p, const std::vector<Row>& rows, const char* what) {
  auto examples = encode_rows(p.task(), p.tokenizer.get(), rows, what, false);
  check_ids(p.task(), p.model(), examples, p.evaluation.device, what);
  return examples;
}

/// The rows' vectors as a NumPy matrix, some thousands at a time: as JSON they take ten times the memory.
void write_vectors(const PredictOptions& o, const Predictor& p) {
  constexpr size_t kAtOnce = 4096;
  check(p.task().embeds(), "--output ", o.output, ": a .npy file holds vectors of texts, which a run of task ",
        p.task().name(), " does not give; write .jsonl or .csv");
  check(o.keep.empty(), "--keep: a .npy file has no columns; write .jsonl or .csv");
  check(o.source != "-", "--output ", o.output, ": lines of a pipe are answered one by one; name a file with --input");
  const auto examples = encode_input(p, input_rows(o, p), o.texts.empty() ? "--input" : "--text");
  std::vector<float> values;
  for (size_t start = 0; start < examples.size(); start += kAtOnce) {
    const std::span<const Example> some(&examples[start], std::min(kAtOnce, examples.size() - start));
    for (const auto& one : p.task().predict(p.model(), some, p.evaluation))
      for (const auto& value : one["embedding"]) values.push_back(value.get<float>());
  }
  const auto rows = static_cast<int64_t>(examples.size());
  write_file_atomically(o.output, npy_bytes(values, rows, static_cast<int64_t>(values.size()) / rows));
}

void predict(PredictOptions o) {
  if (o.input.empty() && o.source != "-") std::swap(o.input, o.source);
  const bool piped = o.source.empty() && o.input.empty() && o.texts.empty() && is_pipe(STDIN_FILENO);
  if (piped) o.source = "-";
  check((o.source.empty() ? 0 : 1) + (o.input.empty() ? 0 : 1) + (o.texts.empty() ? 0 : 1) == 1,
        "name the rows with a FILE, - for standard input, or --text TEXT (one of these)");
  Predictor p = Predictor::open(o.run, {.last = o.last, .overrides = o.overrides, .model = o.model});
  if (o.batch_size > 0) p.evaluation.batch_size = o.batch_size;
  check(!p.task().embeds() || !o.output.ends_with(".csv"), "--output ", o.output,
        ": a table has no column for vectors; write .npy or .jsonl");
  if (o.output.ends_with(".npy")) return write_vectors(o, p);
  PredictionLines lines(o.output.ends_with(".csv"), names_in(o.keep));
  if (o.source == "-") return answer_lines(o, p, lines);
  const auto rows = input_rows(o, p);
  const char* what = o.texts.empty() ? "--input" : "--text";
  const auto examples = encode_input(p, rows, what);
  if (streams(o, p, examples.size())) {
    p.evaluation.on_text = [](std::string_view text) { std::cout << text << std::flush; };
    p.task().predict(p.model(), examples, p.evaluation);
    std::cout << std::endl;
    return;
  }
  std::string written;
  const auto predictions = p.task().predict(p.model(), examples, p.evaluation);
  for (size_t i = 0; i < predictions.size(); ++i) written += lines.line(rows[i], predictions[i]);
  if (o.output.empty()) std::cout << written;
  else write_file_atomically(o.output, written);
}

}  // namespace

void setup_predict(CLI::App& app, Action& action) {
  auto o = std::make_shared<PredictOptions>();
  CLI::App* command = app.add_subcommand("predict", "Predicts rows with a run or a model, one JSON object a line");
  command->add_option("RUN", o->run, "Run folder, or a model: an exported .pt or folder, a Hugging Face folder")
      ->required();
  command->add_option(
      "INPUT", o->source,
      "Rows, as --input; - : standard input, a text or JSON object a line, each answered as it comes (as a pipe is)");
  command->add_option(
      "--input", o->input,
      "Rows: JSON, TSV, CSV, or text with one text a line; - : the whole of standard input as one such file");
  command->add_option("--keep", o->keep, "Columns of the rows that go along: id,text");
  command->add_option("--text,--prompt", o->texts, "A text (twice for a pair) or prompt instead of a file")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  command
      ->add_option("--set", o->overrides,
                   "Override a key of the run's data section: --set data.generation.temperature=0.7 (may be repeated)")
      ->take_all()
      ->expected(1)
      ->allow_extra_args(false);
  add_generation_flags(*command, o->overrides);
  command->add_option(
      "--output", o->output,
      "Write here instead of standard output: JSON lines, a table where it ends in .csv, or vectors of texts where it "
      "ends in .npy");
  command->add_option("--batch-size", o->batch_size, "Rows at a time (default: the run's train.eval_batch_size)");
  add_model_option(*command, o->model);
  command->add_flag("--last", o->last, "The last adapter instead of the best");
  command->footer(
      "Example:\n  deeplora predict runs/lora --text \"I love this player.\"\n"
      "  deeplora predict runs/lora reviews.csv --keep id,text --output predictions.csv\n"
      "  tail -f log.txt | deeplora predict runs/lora -\n"
      "  deeplora predict runs/chat --prompt \"Name three fruits.\" --temperature 0.7 --top-p 0.9 --seed 1");
  command->callback([o, &action] { action = [o] { predict(*o); }; });
}

}  // namespace deeplora
