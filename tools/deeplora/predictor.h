// What predicts and scores rows: a run folder, or a model whose files say what it is for.
#pragma once

#include "session.h"

namespace deeplora {

struct Predictor {
  std::optional<Session> session;       ///< of a run, of a model
  std::unique_ptr<Task> exported_task;  ///< of a TorchScript file that deeplora export wrote
  std::shared_ptr<Tokenizer> tokenizer;
  std::shared_ptr<LanguageModel> exported;
  DataConfig data;
  EvaluationOptions evaluation;
  bool trained = true;  ///< false for a model as it is

  /// A run folder, a TorchScript file or a Hugging Face folder. Throws Error where `path` is none, and for a model
  /// whose task is not known. `use` is of a run; its overrides count for all.
  static Predictor open(const std::string& path, const RunUse& use);

  /// The same; a model whose task is not known is taken as a causal language model.
  static Predictor open_language_model(const std::string& path, const RunUse& use);

  /// True for a run, which names rows of its own.
  bool has_rows() const { return session && !session->config.data.train.empty(); }

  Task& task() const { return session ? session->task() : *exported_task; }
  LanguageModel& model() const { return session ? session->model() : *exported; }
  /// Gives labelled rows what the task's scores compare with; `split` where they are the run's own. Throws Error for a
  /// model, which is not what it was before it was trained.
  void refer(const std::string& split, LoadedData& data);
  /// Labelled rows of a file.
  LoadedData load(const std::filesystem::path& file, std::string_view what) const;
};

}  // namespace deeplora
