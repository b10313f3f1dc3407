#include "completion_sweep.h"

#include <map>
#include <sstream>

#include "completion_identity.h"

namespace deeplora {
namespace {

/// The keys of a section with lists of values; `prefix` is "synthetic." within that section.
void read_lists(const Config& sweep, const std::string& prefix, std::vector<std::pair<std::string, std::vector<std::string>>>& lists) {
  for (const std::string& key : sweep.keys()) {
    if (prefix.empty() && (key == "synthetic" || key == "sensing")) {
      read_lists(sweep.section(key), key + ".", lists);
      continue;
    }
    std::vector<std::string> values;
    sweep.read(key, values, "values that completion's key of this name takes in turn");
    sweep.require(!values.empty(), key, "a list of values");
    lists.emplace_back(prefix + key, std::move(values));
  }
}

std::vector<std::string> words(const std::string& text) {
  std::istringstream in(text);
  std::vector<std::string> out;
  for (std::string word; in >> word;) out.push_back(word);
  return out;
}

}  // namespace

CompletionSweep CompletionSweep::read(const Config& completion) {
  CompletionSweep out;
  read_lists(completion.section("sweep"), "", out.lists);
  completion.read("variants", out.variants, "runs side by side, each a text of settings: method=compressed outer_lr_ratio=0");
  completion.read("trials", out.trials, "repetitions of every run with seed, seed + 1, ...");
  completion.require(out.trials >= 1, "trials", "a whole number of at least 1");
  for (const std::string& variant : out.variants)
    for (const std::string& word : words(variant))
      if (word.find('=') == std::string::npos || word.starts_with("="))
        completion.mistake("variants", cat("expected settings key=value, found '", word, "' in '", variant, "'"));
  return out;
}

std::vector<CompletionSweep::Member> CompletionSweep::members() const {
  std::vector<Member> out{Member{}};
  const auto multiply = [&](const std::string& key, const std::vector<std::string>& values, const auto& assign) {
    std::vector<Member> product;
    for (const Member& member : out)
      for (const std::string& value : values) {
        Member next = member;
        next.values.emplace_back(key, value);
        assign(next, value);
        product.push_back(std::move(next));
      }
    out = std::move(product);
  };
  if (!variants.empty())
    multiply("variant", variants, [](Member& m, const std::string& value) {
      for (const auto& word : words(value)) m.assignments.push_back("completion." + word);
    });
  for (const auto& [key, values] : lists)
    multiply(key, values, [&key = key](Member& m, const std::string& value) { m.assignments.push_back(cat("completion.", key, "=", value)); });
  if (trials > 1) {
    std::vector<std::string> numbers;
    for (int64_t t = 1; t <= trials; ++t) numbers.push_back(std::to_string(t));
    multiply("trial", numbers, [](Member& m, const std::string& value) { m.further_seeds = std::stoll(value) - 1; });
  }
  for (Member& member : out)
    for (const auto& [key, value] : member.values)
      member.name += cat(member.name.empty() ? "" : ", ", key == "variant" ? "" : key + "=", value);
  std::map<std::string, std::string> folders;
  for (const Member& member : out) {
    const auto [other, fresh] = folders.emplace(file_name_of(member.name), member.name);
    check(fresh, "completion: two runs would share one folder, '", other->second, "' and '", member.name,
          "'; take a repeated one out of variants or sweep (completion.trials repeats runs)");
  }
  return out;
}

}  // namespace deeplora
