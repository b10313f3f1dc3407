#include "model_files/wrapper_names.h"

#include <algorithm>
#include <map>

#include "core/error.h"

namespace deeplora {
namespace {

/// Modules that wrappers put between others, and that no model has.
constexpr const char* kWrappers[] = {"_orig_mod.", "_fsdp_wrapped_module.", "_checkpoint_wrapped_module."};

/// How a class of transformers names its base model, and the table of words below it.
struct BaseNames {
  const char *base, *table;
};
const std::map<std::string, BaseNames>& base_names() {
  constexpr const char *kWords = "embeddings.word_embeddings.weight", *kTokens = "embed_tokens.weight",
                       *kShared = "shared.weight";
  static const std::map<std::string, BaseNames> names{
      {"bert", {"bert.", kWords}},
      {"roberta", {"roberta.", kWords}},
      {"xlm-roberta", {"roberta.", kWords}},
      {"camembert", {"roberta.", kWords}},
      {"distilbert", {"distilbert.", kWords}},
      {"electra", {"electra.", kWords}},
      {"albert", {"albert.", kWords}},
      {"mpnet", {"mpnet.", kWords}},
      {"deberta-v2", {"deberta.", kWords}},
      {"modernbert", {"model.", "embeddings.tok_embeddings.weight"}},
      {"gpt2", {"transformer.", "wte.weight"}},
      {"llama", {"model.", kTokens}},
      {"mistral", {"model.", kTokens}},
      {"qwen2", {"model.", kTokens}},
      {"qwen3", {"model.", kTokens}},
      {"phi3", {"model.", kTokens}},
      {"gemma", {"model.", kTokens}},
      {"gemma2", {"model.", kTokens}},
      {"gemma3_text", {"model.", kTokens}},
      {"t5", {"transformer.", kShared}},
      {"mt5", {"transformer.", kShared}},
      {"bart", {"model.", kShared}},
      {"mbart", {"model.", kShared}},
      {"marian", {"model.", kShared}},
      {"pegasus", {"model.", kShared}},
  };
  return names;
}

bool all_begin_with(const std::vector<std::string>& names, const std::string& prefix) {
  return !names.empty() &&
         std::all_of(names.begin(), names.end(), [&](const std::string& name) { return name.starts_with(prefix); });
}

bool remove_all(std::string& name, const std::string& part) {
  bool any = false;
  for (size_t at = name.find(part); at != std::string::npos; at = name.find(part, at)) {
    if (at > 0 && name[at - 1] != '.') {
      at += part.size();
      continue;
    }
    name.erase(at, part.size());
    any = true;
  }
  return any;
}

/// What stands before the base model's own prefix; empty where nothing does, or where the table is not found.
std::string before_base(const std::vector<std::string>& names, const BaseNames& known) {
  const std::string table = known.table, base = known.base;
  for (const std::string& name : names) {
    if (name != table && !name.ends_with("." + table)) continue;
    const std::string prefix = name.substr(0, name.size() - table.size());
    return prefix.ends_with("." + base) || prefix == base ? prefix.substr(0, prefix.size() - base.size()) : prefix;
  }
  return "";
}

}  // namespace

std::string take_off_wrappers(std::vector<std::string>& names, const std::string& model_type) {
  std::vector<std::string> taken;
  for (const char* wrapper : kWrappers) {
    bool any = false;
    for (std::string& name : names) any |= remove_all(name, wrapper);
    if (any) taken.emplace_back(wrapper);
  }
  const auto take = [&](const std::string& prefix) {
    for (std::string& name : names)
      if (name.starts_with(prefix)) name.erase(0, prefix.size());
    taken.push_back(prefix);
  };
  while (all_begin_with(names, "module.")) take("module.");
  const auto known = base_names().find(model_type);
  if (const std::string prefix = known == base_names().end() ? "" : before_base(names, known->second); !prefix.empty())
    take(prefix);
  return join(taken, ", ", taken.size());
}

}  // namespace deeplora
