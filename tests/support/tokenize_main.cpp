// deeplora_tokenize FOLDER MAX_LENGTH: a JSON line {"text", "pair"?} in, a JSON line {"ids", "type_ids",
// "truncated", "decoded"} out. Lets a test in another language compare this project's tokenizers with a
// reference.
#include <cstdlib>
#include <filesystem>
#include <iostream>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "text/tokenizer.h"

namespace {

int run(const std::filesystem::path& folder, int64_t max_length) {
  const auto tokenizer = deeplora::make_tokenizer([&](const std::string& name) -> std::optional<std::string> {
    if (!std::filesystem::exists(folder / name)) return std::nullopt;
    return deeplora::read_file(folder / name);
  });
  deeplora::check(tokenizer != nullptr, "no tokenizer files in ", folder.string());
  std::string line;
  while (std::getline(std::cin, line)) {
    const auto row = nlohmann::json::parse(line);
    const auto text = row.at("text").get<std::string>();
    std::optional<std::string> pair;
    if (row.contains("pair") && !row["pair"].is_null()) pair = row["pair"].get<std::string>();
    const auto encoding = tokenizer->encode(text, pair, max_length);
    const nlohmann::json out{{"ids", encoding.ids},
                             {"type_ids", encoding.type_ids},
                             {"truncated", encoding.truncated},
                             {"decoded", tokenizer->decode(encoding.ids, true)},
                             {"decoded_all", tokenizer->decode(encoding.ids, false)}};
    std::cout << out.dump() << "\n";
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc != 3) {
    std::cerr << "usage: deeplora_tokenize FOLDER MAX_LENGTH < rows.jsonl\n";
    return 2;
  }
  try {
    return run(argv[1], std::strtoll(argv[2], nullptr, 10));
  } catch (const std::exception& e) {
    std::cerr << "error: " << e.what() << "\n";
    return 1;
  }
}
