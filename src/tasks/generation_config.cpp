#include "tasks/generation_config.h"

#include <algorithm>

namespace deeplora {
namespace {

/// A number or list of numbers under `key`.
std::vector<int64_t> ids_of(const JsonFile& settings, const std::string& key) {
  if (!settings.has(key)) return {};
  if (settings.root[key].is_array()) return settings.at<std::vector<int64_t>>(key);
  return {settings.at<int64_t>(key)};
}

}  // namespace

GenerationConfig GenerationConfig::read(const Config& generation) {
  GenerationConfig out;
  GenerationOptions& o = out.options;
  generation.read("max_new_tokens", o.max_new_tokens, "longest generated text in tokens");
  generation.require(o.max_new_tokens >= 1, "max_new_tokens", "a whole number from 1");
  generation.read("beams", o.beams, "1: one token after the other; above: beam search");
  generation.require(o.beams >= 1, "beams", "a whole number from 1");
  generation.read("length_penalty", o.length_penalty,
                  "beam search: a text of n tokens scores its log-probability / n^this");
  generation.read("early_stopping", o.early_stopping, "beam search: end with the first `beams` finished texts");
  generation.read("temperature", o.temperature,
                  "0: the most likely token; above: sample from the logits divided by it");
  generation.require(o.temperature >= 0, "temperature", "a number from 0");
  generation.require(o.temperature == 0 || o.beams == 1, "temperature", "0 with beams (beam search does not sample)");
  generation.read("top_k", o.top_k, "sample among so many most likely tokens; 0: all");
  generation.require(o.top_k >= 0, "top_k", "a whole number from 0");
  generation.read("top_p", o.top_p, "sample among the fewest most likely tokens that hold this probability");
  generation.require(o.top_p > 0 && o.top_p <= 1, "top_p", "a number above 0 up to 1");
  generation.require(o.temperature > 0 || (o.top_k == 0 && o.top_p == 1), o.top_k != 0 ? "top_k" : "top_p",
                     "nothing without a temperature above 0 (only sampling uses it)");
  generation.read("repetition_penalty", o.repetition_penalty, "above 1: makes tokens that were seen less likely");
  generation.require(o.repetition_penalty > 0, "repetition_penalty", "a number above 0");
  generation.read("seed", o.seed, "of sampling");
  generation.read("stop", out.stop, "texts that end the generated one; not part of it");
  generation.require(std::none_of(out.stop.begin(), out.stop.end(), [](const auto& text) { return text.empty(); }),
                     "stop", "texts that are not empty");
  return out;
}

nlohmann::ordered_json GenerationConfig::settings() const {
  const GenerationOptions& o = options;
  return {{"max_new_tokens", o.max_new_tokens},
          {"beams", o.beams},
          {"length_penalty", o.length_penalty},
          {"early_stopping", o.early_stopping},
          {"temperature", o.temperature},
          {"top_k", o.top_k},
          {"top_p", o.top_p},
          {"repetition_penalty", o.repetition_penalty},
          {"seed", o.seed},
          {"stop", stop}};
}

int64_t model_token(const TaskModel& model, const std::string& key) {
  for (const auto* settings : {&model.generation_config, &model.config})
    if (const auto ids = ids_of(*settings, key); !ids.empty()) return ids.front();
  return -1;
}

void GenerationConfig::use_model(const TaskModel& model) {
  options.eos.clear();
  for (const auto* settings : {&model.generation_config, &model.config}) {
    options.eos = ids_of(*settings, "eos_token_id");
    if (!options.eos.empty()) break;
  }
  if (model.tokenizer && model.tokenizer->special().eos >= 0) options.eos.push_back(model.tokenizer->special().eos);
  std::sort(options.eos.begin(), options.eos.end());
  options.eos.erase(std::unique(options.eos.begin(), options.eos.end()), options.eos.end());
  if (!model.has_decoder) return;
  if (const int64_t id = model_token(model, "forced_bos_token_id"); id >= 0) options.forced_first = id;
  if (const int64_t id = model_token(model, "forced_eos_token_id"); id >= 0) options.forced_last = id;
}

std::string before_stop(const std::string& text, const std::vector<std::string>& stop, bool* found) {
  size_t end = std::string::npos;
  for (const auto& word : stop) end = std::min(end, text.find(word));
  if (found) *found = end != std::string::npos;
  return text.substr(0, end);
}

}  // namespace deeplora
