#include "completion_sweep.h"

#include <map>
#include <set>
#include <sstream>

#include "completion_identity.h"

namespace deeplora {
namespace {

/// The keys of a section with lists of values; `prefix` is "synthetic." within that section.
void read_lists(const Config& sweep, const std::string& prefix,
                std::vector<std::pair<std::string, std::vector<std::string>>>& lists) {
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

/// What a run is made of is said in one place: a later value would silently replace an earlier one.
void require_keys_once(const Config& completion, const CompletionSweep& sweep) {
  const std::set<std::string> of_the_sweep{"sweep", "variants", "trials"};
  std::set<std::string> swept;
  for (const auto& [key, unused] : sweep.lists) {
    swept.insert(key);
    if (of_the_sweep.contains(key))
      completion.mistake("sweep." + key, "expected a key of one run; it says which runs there are");
  }
  for (const std::string& variant : sweep.variants) {
    std::set<std::string> seen;
    for (const std::string& word : words(variant)) {
      const std::string key = word.substr(0, word.find('='));
      const auto mistake = [&](const auto&... parts) { completion.mistake("variants", cat(parts...)); };
      if (key.empty() || key == word) mistake("expected settings key=value, found '", word, "' in '", variant, "'");
      else if (of_the_sweep.contains(key.substr(0, key.find('.'))))
        mistake("expected keys of one run, found '", word, "' in '", variant, "'");
      else if (!seen.insert(key).second) mistake("'", variant, "' sets ", key, " twice; take one of them out");
      else if (swept.contains(key))
        mistake("'", variant, "' sets ", key, ", which completion.sweep.", key, " sets too; take one of them out");
    }
  }
}

}  // namespace

CompletionSweep CompletionSweep::read(const Config& completion) {
  CompletionSweep out;
  read_lists(completion.section("sweep"), "", out.lists);
  completion.read("variants", out.variants,
                  "runs side by side, each a text of settings: method=compressed outer_lr_ratio=0");
  completion.read("trials", out.trials, "repetitions of every run with seed, seed + 1, ...");
  completion.require(out.trials >= 1, "trials", "a whole number of at least 1");
  require_keys_once(completion, out);
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
    multiply(key, values, [&key = key](Member& m, const std::string& value) {
      m.assignments.push_back(cat("completion.", key, "=", value));
    });
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
