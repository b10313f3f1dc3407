#include "interchange/model_card.h"

#include <sstream>

#include "model_files/own_head.h"

namespace deeplora {
namespace {

/// "BertForMaskedLM" -> "BertModel"
std::string base_class(const std::string& name) {
  for (const char* part : {"For", "LMHead"})
    if (const size_t at = name.find(part); at != std::string::npos && at > 0) return name.substr(0, at) + "Model";
  return name;
}

/// The class that the weights are of: as the export of an archive, the head on a folder or its config.json says; empty
/// where it is not known.
std::string architecture_of(const ModelFiles& files, const ModelCard& card) {
  if (files.class_head()) return files.class_head()->architecture;
  if (files.holds_code()) return files.export_info().value("architecture", std::string());
  const auto names = files.config().value("architectures", std::vector<std::string>());
  if (names.empty()) return "";
  return card.pooling.empty() ? names.front()
                              : base_class(names.front());  // under a head of ours the model's own has gone
}

/// The Auto class that opens the archive's own architecture.
std::string auto_class(const ModelFiles& archive, const ModelCard& card) {
  const std::string architecture = architecture_of(archive, card);
  if (card.kind() == "causal-lm") return "AutoModelForCausalLM";
  if (card.kind() == "seq2seq") return "AutoModelForSeq2SeqLM";
  if (architecture.ends_with("ForTokenClassification")) return "AutoModelForTokenClassification";
  const bool classifier =
      architecture.empty() ? card.pooling.empty() : architecture.ends_with("ForSequenceClassification");
  return classifier ? "AutoModelForSequenceClassification" : "AutoModel";
}

/// A text as a Python literal.
std::string quoted(const std::string& text) {
  return nlohmann::json(text).dump(-1, ' ', /*ensure_ascii=*/true, nlohmann::json::error_handler_t::replace);
}

/// num_labels and the classes' names, as arguments of from_pretrained.
std::string class_options(const ModelCard& card) {
  if (card.labels.empty()) return card.one_number ? ", num_labels=1" : "";
  std::vector<std::string> by_id, by_name;
  for (size_t i = 0; i < card.labels.size(); ++i) {
    by_id.push_back(cat(i, ": ", quoted(card.labels[i])));
    by_name.push_back(cat(quoted(card.labels[i]), ": ", i));
  }
  return cat(", num_labels=", by_id.size(), ", id2label={", join(by_id, ", ", by_id.size()), "}, label2id={",
             join(by_name, ", ", by_name.size()), "}");
}

/// Decoders tell by the padding token where a text ends, so several rows at once need one.
bool lacks_padding(const ModelFiles& files, const ModelCard& card) {
  return files.class_head() && card.pad_id && !files.config().has("pad_token_id");
}
std::string pad_option(const ModelFiles& files, const ModelCard& card) {
  return lacks_padding(files, card) ? cat(", pad_token_id=", *card.pad_id) : "";
}

/// Arguments of from_pretrained behind the path. An encoder is exported without the pooler that some families make by
/// themselves.
std::string loading_options(const ModelFiles& archive, const ModelCard& card) {
  const std::string name = auto_class(archive, card), type = archive.config().value("model_type", std::string());
  if (name.ends_with("Classification")) return class_options(card) + pad_option(archive, card);
  bool pooler = false;
  for (const char* family : {"bert", "roberta", "xlm-roberta", "camembert", "albert", "mpnet", "ernie", "data2vec-text",
                             "big_bird", "nezha", "mobilebert"})
    pooler |= type == family;
  return name == "AutoModel" && pooler ? ", add_pooling_layer=False" : "";
}

std::string scores_line(const ModelCard& card) {
  if (card.scores.empty()) return "";
  std::ostringstream out;
  out << "- scores on " << card.split << ":";
  const char* between = " ";
  for (const auto& [name, value] : card.scores) {
    out << between << name << " " << value;
    between = ", ";
  }
  out << "\n";
  return out.str();
}

std::string facts(const ModelFiles& archive, const ModelCard& card) {
  std::string out = cat("- task ", card.task, ", method ", card.method, "\n", scores_line(card));
  if (!card.base.empty()) out += cat("- base model: ", card.base, "\n");
  if (card.quantize != "none")
    out += cat("- trained on weights in ", card.quantize,
               "; what is here belongs to the weights as the base model has them\n");
  if (!card.labels.empty())
    out += cat("- labels, in the order of the logits: ", join(card.labels, ", ", card.labels.size()), "\n");
  if (card.threshold)
    out += cat("- ", card.positive.empty() ? "a label" : "label " + card.positive,
               " is predicted from a probability of ", *card.threshold, " on\n");
  out += cat("- made by deeplora ", card.version);
  const std::string transformers = archive.export_info().value("transformers", std::string()),
                    torch = archive.export_info().value("torch", std::string());
  if (!transformers.empty()) out += cat(", from an archive of transformers ", transformers, " and torch ", torch);
  return out + "\n";
}

/// Lines that put the head of head.safetensors on hidden states; `folder` is a Python expression.
std::string head_lines(const ModelCard& card) {
  if (card.pooling.empty()) return "";
  if (card.embeds)
    return cat("\nA text's vector: ", card.pooling, " pooling of the hidden states",
               card.normalized ? ", then length 1" : "",
               ". deeplora export --to sentence-transformers writes a folder that does both.\n");
  const bool every_token = card.pooling == kNoPooling;
  std::string pooled = every_token ? "hidden" : "hidden[:, 0]";
  if (card.pooling == "mean") pooled = "(hidden * keep).sum(1) / keep.sum(1).clamp(min=1)";
  if (card.pooling == "max") pooled = "hidden.masked_fill(keep == 0, float(\"-inf\")).amax(1)";
  if (card.pooling == "last") pooled = "hidden[torch.arange(len(hidden)), inputs[\"attention_mask\"].sum(1) - 1]";
  if (card.normalized) pooled = cat("torch.nn.functional.normalize(", pooled, ")");
  return cat(
      "\nThe head (", every_token ? "on every token: " : card.pooling,
      every_token       ? ""
      : card.normalized ? " pooling, normalised, then "
                        : " pooling, then ",
      "a linear layer) is none of transformers' and lies in head.safetensors:\n\n```python\n",
      "import torch\nfrom safetensors.torch import load_file\n\nhead = load_file(FOLDER + \"/head.safetensors\")\n"
      "hidden = model(**inputs)[0].float()\nkeep = inputs[\"attention_mask\"].unsqueeze(-1).float()\npooled = ",
      pooled,
      "\nlogits = torch.nn.functional.linear(pooled.to(head[\"weight\"].dtype), head[\"weight\"], "
      "head[\"bias\"])\n```\n");
}

}  // namespace

std::string transformers_config(const ModelFiles& archive, const ModelCard& card) {
  nlohmann::ordered_json config = nlohmann::ordered_json::parse(archive.extra("config.json").value());
  const std::string architecture = architecture_of(archive, card);
  if (!architecture.empty()) config["architectures"] = {architecture};
  for (const auto& parameter : archive.tensors())
    if (parameter.value.is_floating_point()) {
      std::string dtype = c10::toString(parameter.value.scalar_type());
      dtype = dtype == "Half"       ? "float16"
              : dtype == "BFloat16" ? "bfloat16"
              : dtype == "Double"   ? "float64"
                                    : "float32";
      config[config.contains("dtype") ? "dtype" : "torch_dtype"] = dtype;
      break;
    }
  if (card.labels.empty() && !card.one_number) return config.dump(2) + "\n";
  if (lacks_padding(archive, card)) config["pad_token_id"] = *card.pad_id;
  if (!card.problem_type.empty()) config["problem_type"] = card.problem_type;
  else config.erase("problem_type");
  return with_labels(config.dump(), card.one_number ? std::vector<std::string>{"LABEL_0"} : card.labels);
}

std::string with_labels(const std::string& text, const std::vector<std::string>& labels) {
  nlohmann::ordered_json config = nlohmann::ordered_json::parse(text);
  config["num_labels"] = labels.size();
  const auto [by_id, by_name] = class_name_maps(labels);
  config["id2label"] = by_id;
  config["label2id"] = by_name;
  return config.dump(2) + "\n";
}

std::string weights_readme(const ModelFiles& archive, const ModelCard& card) {
  const std::string name = auto_class(archive, card);
  const std::string options = name == "AutoModel" ? loading_options(archive, card) : "";
  return cat("---\nlibrary_name: transformers\n---\n# Merged weights of a ", card.task, " run\n\n",
             facts(archive, card), "\n```python\nfrom transformers import ", name,
             ", AutoTokenizer\n\nFOLDER = \".\"  # this one\nmodel = ", name, ".from_pretrained(FOLDER", options,
             ").eval()\ntokenizer = AutoTokenizer.from_pretrained(FOLDER)\n",
             "inputs = tokenizer([\"a text\"], return_tensors=\"pt\", padding=True)\n```\n", head_lines(card));
}

std::string sentence_transformers_readme(const ModelFiles& archive, const ModelCard& card) {
  if (card.embeds)
    return cat("---\nlibrary_name: sentence-transformers\n---\n# Merged weights of an embedding run\n\n",
               facts(archive, card), "\nencode() gives the texts' vectors (", card.pooling, " pooling",
               card.normalized ? ", length 1" : "",
               "):\n\n```python\nfrom sentence_transformers import SentenceTransformer\n\n",
               "FOLDER = \".\"  # this one\nmodel = SentenceTransformer(FOLDER)\n",
               "vectors = model.encode([\"a text\"])\n```\n");
  return cat(
      "---\nlibrary_name: sentence-transformers\n---\n# Merged weights and head of a ", card.task, " run\n\n",
      facts(archive, card), "\nencode() gives the head's outputs (", card.pooling,
      card.normalized ? " pooling, normalised," : " pooling,",
      " then a linear layer):\n\n```python\nfrom sentence_transformers import SentenceTransformer\n\n",
      "FOLDER = \".\"  # this one\nmodel = SentenceTransformer(FOLDER)\nlogits = model.encode([\"a text\"])\n```\n");
}

std::string peft_readme(const ModelFiles& archive, const ModelCard& card) {
  const std::string name = auto_class(archive, card), base = card.base.empty() ? "BASE_MODEL" : card.base;
  return cat("---\nlibrary_name: peft\n---\n# Adapter of a ", card.task, " run\n\n", facts(archive, card),
             "\n```python\nfrom peft import PeftModel\nfrom transformers import ", name,
             "\n\nFOLDER = \".\"  # this one\nbase = ", name, ".from_pretrained(", quoted(base),
             loading_options(archive, card), ")\nmodel = PeftModel.from_pretrained(base, FOLDER).eval()\n```\n",
             head_lines(card));
}

std::map<std::string, std::string> head_metadata(const ModelCard& card) {
  std::map<std::string, std::string> out{{"format", "pt"}, {"task", card.task}, {"pooling", card.pooling}};
  if (card.normalized) out["normalized"] = "true";
  return out;
}

}  // namespace deeplora
