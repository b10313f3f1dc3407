// Lets a test in another language compare this project's tokenizers with a reference.
//
//   deeplora_tokenize          JSON lines in, JSON lines out: {"files": {name: content} or "folder": path, "languages":
//   [source, target]?} makes
//                              the tokenizer of the lines that follow ({} or {"error"} out); {"text", "pair"?,
//                              "max_length"?, "offsets"?} is encoded
//                              ({"ids", "type_ids", "offsets"?, "truncated", "decoded", "decoded_all"} out), {"target"}
//                              and {"raw"} give {"ids"}; {"words": [...]} is encoded word by word ({"ids", "words":
//                              the word of each, null for special tokens} out)
//   deeplora_tokenize FOLDER THREADS
//                              encodes every {"text"} line without a limit; {"seconds", "tokens"} out
#include <atomic>
#include <chrono>
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>
#include <thread>

#include "core/error.h"
#include "tests/support/tokenizer_folder.h"

namespace {

using deeplora::Tokenizer;
using nlohmann::json;

std::unique_ptr<Tokenizer> make(const json& row) {
  deeplora::Languages languages;
  if (row.contains("languages"))
    languages = {row["languages"][0].get<std::string>(), row["languages"][1].get<std::string>()};
  auto made =
      row.contains("folder")
          ? make_tokenizer(deeplora::files_in(row["folder"].get<std::string>()), languages)
          : make_tokenizer(deeplora::files_of(row["files"].get<std::map<std::string, std::string>>()), languages);
  deeplora::check(made != nullptr, "no tokenizer files");
  return made;
}

/// Words cut apart, with the special tokens around them.
json answer_words(const Tokenizer& tokenizer, const std::vector<std::string>& words) {
  std::vector<int64_t> ids;
  json of_word = json::array();
  for (size_t i = 0; i < words.size(); ++i)
    for (const int64_t id : tokenizer.tokenize_word(words[i])) {
      ids.push_back(id);
      of_word.push_back(i);
    }
  size_t begin = 0;
  const auto encoding = tokenizer.surround(std::move(ids), begin);
  of_word.insert(of_word.begin(), begin, json());
  while (of_word.size() < encoding.ids.size()) of_word.push_back(nullptr);
  return {{"ids", encoding.ids}, {"words", of_word}};
}

json answer(const Tokenizer& tokenizer, const json& row) {
  if (row.contains("target")) return {{"ids", tokenizer.encode_target(row["target"].get<std::string>()).ids}};
  if (row.contains("raw")) return {{"ids", tokenizer.tokenize(row["raw"].get<std::string>())}};
  if (row.contains("words")) return answer_words(tokenizer, row["words"].get<std::vector<std::string>>());
  std::optional<std::string> pair;
  if (row.contains("pair") && !row["pair"].is_null()) pair = row["pair"].get<std::string>();
  const bool offsets = row.value("offsets", false);
  const auto encoding =
      tokenizer.encode(row.at("text").get<std::string>(), pair, row.value("max_length", int64_t{0}), offsets);
  json out{{"ids", encoding.ids},
           {"type_ids", encoding.type_ids},
           {"truncated", encoding.truncated},
           {"decoded", tokenizer.decode(encoding.ids, true)},
           {"decoded_all", tokenizer.decode(encoding.ids, false)}};
  if (offsets) {
    out["offsets"] = json::array();
    for (const auto& one : encoding.offsets) out["offsets"].push_back({one.begin, one.end});
  }
  return out;
}

void converse() {
  std::unique_ptr<Tokenizer> tokenizer;
  for (std::string line; std::getline(std::cin, line);) {
    const json row = json::parse(line);
    json out = json::object();
    try {
      if (row.contains("files") || row.contains("folder")) tokenizer = make(row);
      else out = answer(*tokenizer, row);
    } catch (const deeplora::Error& e) {
      out = {{"error", e.what()}};
    }
    std::cout << out.dump() << "\n";
  }
}

void measure(const std::string& folder, int threads) {
  const auto tokenizer = make({{"folder", folder}});
  std::vector<std::string> texts;
  for (std::string line; std::getline(std::cin, line);)
    texts.push_back(json::parse(line).at("text").get<std::string>());
  const auto start = std::chrono::steady_clock::now();
  std::atomic<size_t> next = 0, tokens = 0;
  std::vector<std::thread> workers;
  for (int i = 0; i < threads; ++i)
    workers.emplace_back([&] {
      constexpr size_t kTogether = 64;
      for (size_t begin; (begin = next.fetch_add(kTogether)) < texts.size();)
        for (size_t at = begin; at < std::min(begin + kTogether, texts.size()); ++at)
          tokens += tokenizer->encode(texts[at], std::nullopt, 0).ids.size();
    });
  for (auto& worker : workers) worker.join();
  const std::chrono::duration<double> seconds = std::chrono::steady_clock::now() - start;
  std::cout << json{{"seconds", seconds.count()}, {"tokens", tokens.load()}}.dump() << "\n";
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 1 && argc != 3) {
    std::cerr << "usage: deeplora_tokenize < rows.jsonl, or deeplora_tokenize FOLDER THREADS < texts.jsonl\n";
    return 2;
  }
  try {
    if (argc == 1) converse();
    else measure(argv[1], std::atoi(argv[2]));
  } catch (const std::exception& e) {
    std::cerr << "error: " << e.what() << "\n";
    return 1;
  }
  return 0;
}
