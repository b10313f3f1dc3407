// A folder that SentenceTransformer(...) opens: Transformer, Pooling, and the linear head as Dense, so that encode()
// gives the run's logits; of a run that embeds Transformer, Pooling and Normalize, and encode() gives its vectors.
#include <torch/torch.h>

#include "core/files.h"
#include "interchange/export_form.h"
#include "interchange/merge.h"
#include "model_files/own_head.h"
#include "model_files/tensor_file.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

using nlohmann::ordered_json;

/// Throws Error with why the run has no place in such a folder.
void check_is_for_sentence_transformers(const ExportSource& s) {
  const char* instead = "; export safetensors";
  check(!s.card.pooling.empty(), "export --to sentence-transformers: ",
        s.files.class_head() ? cat("the run's head is transformers' own (", s.files.class_head()->architecture,
                                   "), none of sentence-transformers' modules")
                             : cat("a run of task ", s.card.task, " has no pooling and linear head"),
        instead);
  check(s.card.pooling != kNoPooling, "export --to sentence-transformers: a run of task ", s.card.task,
        " has a head on every token, none on pooled states", instead);
  check(s.card.embeds || !s.info["data"].contains("text_pair") || s.info["data"]["text_pair"] == "",
        "export --to sentence-transformers: the task reads pairs of texts, encode() single ones", instead);
  check(s.files.extra("config.json").has_value(),
        "export --to sentence-transformers: the model has no config.json, so transformers cannot open it", instead);
  check(s.files.extra("tokenizer.json") || s.files.extra("tokenizer_config.json"),
        "export --to sentence-transformers: the model brings no tokenizer files along", instead);
  check(s.card.pad_id.has_value(),
        "export --to sentence-transformers: the tokenizer's files name no padding token, without which encode() takes "
        "no batch; name one in ",
        "tokenizer_config.json (pad_token)", instead);
}

ordered_json module_entry(int64_t index, const std::string& type, const std::string& path) {
  return {{"idx", index}, {"name", cat(index)}, {"path", path}, {"type", "sentence_transformers.models." + type}};
}

/// 1_Pooling/config.json in the spelling that every version reads.
ordered_json pooling_config(const std::string& pooling, int64_t width) {
  ordered_json out{{"word_embedding_dimension", width}};
  for (const auto& [name, key] :
       {std::pair{"cls", "cls_token"}, {"mean", "mean_tokens"}, {"max", "max_tokens"}, {"last", "lasttoken"}})
    out[cat("pooling_mode_", key)] = pooling == name;
  for (const char* key : {"mean_sqrt_len_tokens", "weightedmean_tokens"}) out[cat("pooling_mode_", key)] = false;
  out["include_prompt"] = true;
  return out;
}

void write_json(const fs::path& file, const ordered_json& content) {
  write_file_atomically(file, content.dump(2) + "\n");
}

/// A module behind those that are there; its folder.
fs::path add_module(const fs::path& folder, ordered_json& modules, const std::string& type) {
  const auto index = static_cast<int64_t>(modules.size());
  const std::string path = cat(index, "_", type);
  fs::create_directory(folder / path);
  modules.push_back(module_entry(index, type, path));
  return folder / path;
}

/// The head as the last module; returns the width that it takes.
int64_t add_dense(const fs::path& folder, ordered_json& modules) {
  const auto head = load_tensors(folder / kHeadFile).tensors;
  const torch::Tensor weight = head.at("weight").to(torch::kFloat32), bias = head.at("bias").to(torch::kFloat32);
  const fs::path dense = add_module(folder, modules, "Dense");
  write_json(dense / "config.json", {{"in_features", weight.size(1)},
                                     {"out_features", weight.size(0)},
                                     {"bias", true},
                                     {"activation_function", "torch.nn.modules.linear.Identity"}});
  save_tensors(dense / "model.safetensors", {{"linear.weight", weight}, {"linear.bias", bias}}, {{"format", "pt"}});
  return weight.size(1);
}

/// What encode_query() and encode_document() put before a text.
ordered_json prompts_of(const ExportSource& s) {
  ordered_json out = ordered_json::object();
  if (!s.card.embeds) return out;
  const auto& prefix = s.info["data"]["prefix"];
  for (const auto& [name, key] : {std::pair("query", "query"), {"document", "passage"}})
    if (!prefix[key].get<std::string>().empty()) out[name] = prefix[key];
  return out;
}

}  // namespace

void add_sentence_modules(const fs::path& folder, const ExportSource& s) {
  ordered_json modules = ordered_json::array({module_entry(0, "Transformer", "")});
  const fs::path pooling = add_module(folder, modules, "Pooling");
  if (s.card.normalized) add_module(folder, modules, "Normalize");
  const int64_t width = s.card.embeds ? s.info["task_state"]["width"].get<int64_t>() : add_dense(folder, modules);
  write_json(folder / "modules.json", modules);
  write_json(folder / "config_sentence_transformers.json",
             {{"prompts", prompts_of(s)}, {"default_prompt_name", nullptr}});
  write_json(folder / "sentence_bert_config.json",
             {{"max_seq_length", s.info["data"]["max_length"]}, {"do_lower_case", false}});
  write_json(pooling / "config.json", pooling_config(s.card.pooling, width));
  write_file_atomically(folder / "README.md", sentence_transformers_readme(s.files, s.card));
}

ExportForm sentence_transformers_form() {
  return {"merged weights, pooling, and linear head or normalisation as a folder that SentenceTransformer opens",
          [](const ExportSource& s, const fs::path& output) {
            check_is_for_sentence_transformers(s);
            MergeReport report;
            write_folder_atomically(output, [&](const fs::path& folder) {
              report = write_merged_folder(folder, s.files, s.adapted, s.card, s.info);
              add_sentence_modules(folder, s);
            });
            return said_of_merge(report);
          }};
}

}  // namespace deeplora
