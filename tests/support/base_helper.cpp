// Lets the Python tests drive the library: one command, its arguments, exit code 1 with "error: ..." on a
// mistake.
#include <algorithm>
#include <chrono>
#include <cstdio>
#include <exception>
#include <iostream>
#include <map>
#include <optional>
#include <string>
#include <thread>
#include <vector>

#include "core/files.h"
#include "core/log.h"
#include "core/long_work.h"
#include "core/progress.h"
#include "core/safetensors.h"
#include "tests/support/config_cases.h"
#include "tasks/label_report.h"
#include "tests/support/sample_reports.h"
#include "text/splitting.h"
#include "text/table.h"
#include "text/text_lines.h"
#include "train/event_writer.h"

namespace deeplora {
namespace {

/// Reads a safetensors file and writes its tensors anew.
void copy_safetensors(const std::string& from, const std::string& to) {
  const SafeTensorsFile file = SafeTensorsFile::read(from);
  std::vector<SafeTensorView> views;
  for (const auto& [name, info] : file.tensors()) views.push_back({name, info.dtype, info.shape, file.data(name)});
  write_safetensors(to, views, file.metadata());
}

/// Writes a session of events: FOLDER, the first step or "-", a text, then TAG=STEP=VALUE for each point.
void write_events(const std::vector<std::string>& words) {
  std::optional<int64_t> first_step;
  if (words[2] != "-") first_step = std::stoll(words[2]);
  EventWriter writer(words[1], first_step);
  writer.text("configuration", words[3], 0);
  for (size_t i = 4; i < words.size(); ++i) {
    const size_t step = words[i].find('='), value = words[i].rfind('=');
    writer.scalar(words[i].substr(0, step), std::stod(words[i].substr(value + 1)),
                  std::stoll(words[i].substr(step + 1)));
  }
  writer.flush();
}

/// Work of three seconds inside other work, with a line of the log in between, then a bar of its own.
void work_long() {
  const auto wait = [](int64_t milliseconds) { std::this_thread::sleep_for(std::chrono::milliseconds(milliseconds)); };
  const LongWork outer("reading the model");
  {
    LongWork inner("tokenizing rows", 100);
    inner.advance(40);
    wait(2600);
    log_info("a line of the log");
    inner.advance(50);
    wait(500);
  }
  wait(300);
  Progress bar({.label = "train", .total = 10});
  bar.update({.step = 10});
  wait(500);
}

/// Prints a table as JSON: FILE, then KEY=VALUE for each option (wanted may be repeated).
void print_table(const std::vector<std::string>& words) {
  TableOptions options;
  const std::map<std::string, std::string*> texts{{"format", &options.format},       {"header", &options.header},
                                                  {"separator", &options.separator}, {"quoting", &options.quoting},
                                                  {"encoding", &options.encoding},   {"bad_rows", &options.bad_rows}};
  for (size_t i = 2; i < words.size(); ++i) {
    const size_t equals = words[i].find('=');
    const std::string key = words[i].substr(0, equals), value = words[i].substr(equals + 1);
    if (key == "wanted") options.wanted.push_back(value);
    else *texts.at(key) = value;
  }
  const Table table = read_table(words[1], options);
  nlohmann::ordered_json out{{"format", table.format},
                             {"columns", table.columns},
                             {"header", table.header},
                             {"quoted", table.quoted},
                             {"skipped", table.skipped}};
  out["separator"] = std::string(table.separator == 0 ? 0 : 1, table.separator);
  out["rows"] = nlohmann::ordered_json::array();
  for (const auto& row : table.rows) out["rows"].push_back(row.fields);
  std::printf("%s\n", out.dump().c_str());
}

/// Tables whose arguments stand in a file, a line for each with tabs between: one process for many.
void print_tables(const std::string& list) {
  Lines lines(list);
  for (std::string_view line; lines.next(line);) {
    std::vector<std::string> words{"table"};
    for (size_t begin = 0; begin <= line.size();) {
      const size_t end = std::min(line.find('\t', begin), line.size());
      words.emplace_back(line.substr(begin, end - begin));
      begin = end + 1;
    }
    try {
      print_table(words);
    } catch (const Error& e) {
      std::printf(
          "%s\n",
          nlohmann::json{{"error", e.what()}}.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace).c_str());
    }
  }
}

/// JSON lines {"names", "predicted", "expected", "confidence"} in, what label_report() makes of them out.
void print_label_reports() {
  for (std::string line; std::getline(std::cin, line);) {
    const auto row = nlohmann::json::parse(line);
    const auto predicted = row["predicted"].get<std::vector<int64_t>>(),
               expected = row["expected"].get<std::vector<int64_t>>();
    const auto confidence = row["confidence"].get<std::vector<double>>();
    std::cout << label_report(row["names"].get<std::vector<std::string>>(), predicted, expected, confidence).dump()
              << "\n";
  }
}

/// Writes a sample page and, where a folder is named, its figures.
void write_sample(const std::string& name, const std::string& file, const std::string& folder) {
  const Page page = name == "sample-report" ? sample_report() : hard_charts();
  write_file_atomically(file, page.html());
  if (folder.empty()) return;
  for (const auto& [figure, svg] : page.figures()) write_file_atomically(folder + "/" + figure + ".svg", svg);
}

/// Standard input is a list of {"strata", "dev", "test", "seed"}; a line of row numbers for each.
void print_splits() {
  for (const auto& one : nlohmann::json::parse(std::cin)) {
    std::vector<SplitRow> rows;
    for (const auto& stratum : one.at("strata"))
      rows.push_back({std::to_string(rows.size()), stratum.get<std::string>()});
    const SplitRows parts =
        split_rows(rows, one.at("dev").get<double>(), one.at("test").get<double>(), one.at("seed").get<uint64_t>());
    std::printf("%s\n",
                nlohmann::json{{"train", parts.train}, {"dev", parts.dev}, {"test", parts.test}}.dump().c_str());
  }
}

int run(const std::vector<std::string>& words) {
  if (words.size() == 1 && words[0] == "splits") {
    print_splits();
    return 0;
  }
  if (words.size() == 2 && words[0] == "tables") {
    print_tables(read_text_file(words[1]));
    return 0;
  }
  if (words.size() == 3 && words[0] == "copy-safetensors") {
    copy_safetensors(words[1], words[2]);
    return 0;
  }
  if (words.size() >= 4 && words[0] == "events") {
    write_events(words);
    return 0;
  }
  if ((words.size() == 2 || words.size() == 3) && (words[0] == "sample-report" || words[0] == "hard-charts")) {
    write_sample(words[0], words[1], words.size() == 3 ? words[2] : "");
    return 0;
  }
  if (words.size() == 1 && words[0] == "label-report") {
    print_label_reports();
    return 0;
  }
  if (words.size() == 1 && words[0] == "long-work") {
    work_long();
    return 0;
  }
  if (words.size() == 1 && words[0] == "config") {
    read_config_cases(std::cin, std::cout);
    return 0;
  }
  if (words.size() == 2 && words[0] == "write") {
    write_file_atomically(words[1], std::string(std::istreambuf_iterator<char>(std::cin), {}));
    return 0;
  }
  std::fprintf(stderr,
               "usage: copy-safetensors IN OUT | events FOLDER FIRST_STEP TEXT [TAG=STEP=VALUE...] | "
               "sample-report OUT [FIGURES] | hard-charts OUT [FIGURES] | label-report < LINES | tables LIST | splits "
               "< LIST | long-work | config < CASES | write OUT < CONTENT\n");
  return 2;
}

}  // namespace
}  // namespace deeplora

int main(int argc, char** argv) {
  try {
    return deeplora::run(std::vector<std::string>(argv + 1, argv + argc));
  } catch (const std::exception& e) {
    std::fprintf(stderr, "error: %s\n", e.what());
    return 1;
  }
}
