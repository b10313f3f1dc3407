// What an exported folder says of itself: README.md, and config.json as transformers reads it.
#pragma once

#include <map>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "model_files/model_files.h"

namespace deeplora {

/// What a run knows of the model that it exports.
struct ModelCard {
  std::string task{};                 ///< data.task
  std::string method{};               ///< adapter.method
  std::string version{};              ///< of this program
  std::string quantize = "none";      ///< model.quantize of the run
  std::string base{};                 ///< folder or name of the base model; empty: not known
  std::vector<std::string> labels{};  ///< of a classification, in the order of the logits
  bool one_number = false;            ///< the head gives one, which has no label
  std::string problem_type{};         ///< as Task::problem_type() has it
  std::optional<int64_t> pad_id{};    ///< the tokenizer's
  std::optional<double>
      threshold{};  ///< probability from which `positive` of two labels, or any of several, is predicted; absent: 0.5
  std::string positive{};   ///< empty: any label
  std::string pooling{};    ///< of a head that is none of transformers', or of vectors; empty: there is none
  bool normalized = false;  ///< what that head reads, or the vector itself, has length 1
  bool embeds = false;      ///< the model gives vectors of texts, pooled and without a head
  std::string split{};      ///< what `scores` are of: "test" or "dev"
  std::map<std::string, double> scores{};
  std::string model_kind{};  ///< as Task::model_kind() has it; empty: `task`

  const std::string& kind() const { return model_kind.empty() ? task : model_kind; }
};

/// config.json of the archive for the model as it is now: architectures, labels, problem_type, dtype.
std::string transformers_config(const ModelFiles& archive, const ModelCard& card);

/// The same config.json with these classes.
std::string with_labels(const std::string& config, const std::vector<std::string>& labels);

/// README.md of a folder with merged weights, the same for sentence-transformers, and of a PEFT folder: the lines that
/// load it, method, scores, versions.
std::string weights_readme(const ModelFiles& archive, const ModelCard& card);
std::string sentence_transformers_readme(const ModelFiles& archive, const ModelCard& card);
std::string peft_readme(const ModelFiles& archive, const ModelCard& card);

/// Metadata of head.safetensors.
std::map<std::string, std::string> head_metadata(const ModelCard& card);

}  // namespace deeplora
