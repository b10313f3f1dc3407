#include "tasks/registration.h"

#include "tasks/decoder_task.h"
#include "tasks/embedding.h"
#include "tasks/language_task.h"
#include "tasks/text_task.h"

namespace deeplora {
namespace {

/// All knowledge of a GLUE task in one row: its columns, and what its published files call them (by number where a file
/// has no header).
struct GlueTask {
  const char *name, *text, *text_pair, *headline;
  bool regression;
  std::map<std::string, std::vector<std::string>> also;
};

const std::vector<GlueTask>& glue_tasks() {
  static const std::vector<GlueTask> tasks{
      {"cola", "sentence", "", "matthews", false, {{"sentence", {"3"}}, {"label", {"1"}}}},
      {"sst2", "sentence", "", "accuracy", false, {}},
      {"mrpc",
       "sentence1",
       "sentence2",
       "f1",
       false,
       {{"sentence1", {"#1 String"}}, {"sentence2", {"#2 String"}}, {"label", {"Quality"}}}},
      {"qqp", "question1", "question2", "f1", false, {{"label", {"is_duplicate"}}}},
      {"stsb", "sentence1", "sentence2", "pearson", true, {{"label", {"score"}}}},
      {"mnli",
       "premise",
       "hypothesis",
       "accuracy",
       false,
       {{"premise", {"sentence1"}}, {"hypothesis", {"sentence2"}}, {"label", {"gold_label"}}}},
      {"qnli", "question", "sentence", "accuracy", false, {}},
      {"rte", "sentence1", "sentence2", "accuracy", false, {}},
      {"wnli", "sentence1", "sentence2", "accuracy", false, {}},
  };
  return tasks;
}

}  // namespace

void register_tasks(Tasks& tasks) {
  tasks.add("classification",
            [](const Config& data) { return make_classification("classification", data, {}, "accuracy"); });
  tasks.add("regression", [](const Config& data) { return make_regression("regression", data, {}, "pearson"); });
  tasks.add("multi-label", make_multi_label);
  tasks.add("ranking", make_ranking);
  tasks.add("token-classification", make_token_classification);
  tasks.add("causal-lm", make_causal_lm);
  tasks.add("preference", make_preference);
  tasks.add("seq2seq", make_seq2seq);
  tasks.add("embedding", make_embedding);
  for (const GlueTask& row : glue_tasks())
    tasks.add(row.name, [row](const Config& data) {
      const TextColumns columns{row.text, row.text_pair, "label", row.also};
      return row.regression ? make_regression(row.name, data, columns, row.headline)
                            : make_classification(row.name, data, columns, row.headline);
    });
}

}  // namespace deeplora
