// What predicts and scores rows: a run folder, or a model that deeplora export wrote.
#pragma once

#include "session.h"

namespace deeplora {

struct Predictor {
  std::optional<Session> session;  ///< of a run
  std::unique_ptr<Task> exported_task;
  std::shared_ptr<Tokenizer> tokenizer;
  std::shared_ptr<LanguageModel> exported;
  DataConfig data;
  EvaluationOptions evaluation;
  bool trained = true;  ///< false for a model as it is

  /// Throws Error where `path` is neither. `use` is of a run; its overrides count for both.
  static Predictor open(const std::string& path, const RunUse& use);

  /// The same, or a causal language model as it is: a TorchScript file that deeplora did not export, a Hugging Face
  /// folder.
  static Predictor open_language_model(const std::string& path, const RunUse& use);

  Task& task() const { return session ? session->task() : *exported_task; }
  LanguageModel& model() const { return session ? session->model() : *exported; }
  /// Labelled rows of a file.
  LoadedData load(const std::filesystem::path& file, std::string_view what) const;
};

}  // namespace deeplora
