// The head that transformers' ...ForSequenceClassification and ...ForTokenClassification classes put on a model: its
// weights' names, shapes and start.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/json_file.h"

namespace deeplora {

/// The head of one model's class. Names are those of the model's files, or those that the files would have.
struct ClassHead {
  struct Weight {
    std::string name;
    std::vector<int64_t> shape;
    double spread = 0;     ///< starts as normal(center, spread); 0: the center everywhere
    bool in_base = false;  ///< part of the base model (BERT's pooler)
    double center = 0;
    double cut = 0;  ///< so many spreads from the center nothing is drawn any more; 0: no limit
  };
  std::string architecture;  ///< the class: "BertForSequenceClassification"
  std::string base;          ///< what stands before the base model's names in it: "bert."
  std::string prefix;  ///< what stands before them in the files: "bert.", or nothing in a file of the base model alone
  std::string above;   ///< what stands before the head's names in the files: mostly nothing
  std::string output;  ///< the last layer in the files, without ".weight": "classifier"
  std::vector<Weight> weights{};

  /// The name of one of the files' weights or modules in the class: "embeddings.LayerNorm.weight" ->
  /// "bert.embeddings.LayerNorm.weight".
  std::string name_in_class(const std::string& name) const;
};

/// True for classifiers of tokens and of choices (ModernBERT's spans too): their weights have the names of a text's
/// classifier, and are none.
bool has_head_of_another_task(const JsonFile& config);

/// True for classifiers of tokens, as config.json names its class.
bool has_token_head(const JsonFile& config);

/// id2label of config.json in the order of its numbers; nothing where there is none. Throws Error unless it names 0, 1,
/// 2, ... once each.
std::optional<std::vector<std::string>> class_names(const JsonFile& config);

/// {id2label, label2id} of these names.
std::pair<nlohmann::ordered_json, nlohmann::ordered_json> class_name_maps(const std::vector<std::string>& names);

}  // namespace deeplora
