#include "tasks/registration.h"

#include "tasks/language_task.h"
#include "tasks/text_task.h"

namespace deeplora {
namespace {

/// All knowledge of a GLUE task in one row. Columns as in the data sets' published form; rename them under `data`.
struct GlueTask {
  const char *name, *text, *text_pair, *headline;
  bool regression;
};

constexpr GlueTask kGlue[] = {
    {"cola", "sentence", "", "matthews", false},
    {"sst2", "sentence", "", "accuracy", false},
    {"mrpc", "sentence1", "sentence2", "f1", false},
    {"qqp", "question1", "question2", "f1", false},
    {"stsb", "sentence1", "sentence2", "pearson", true},
    {"mnli", "premise", "hypothesis", "accuracy", false},
    {"qnli", "question", "sentence", "accuracy", false},
    {"rte", "sentence1", "sentence2", "accuracy", false},
    {"wnli", "sentence1", "sentence2", "accuracy", false},
};

}  // namespace

void register_tasks(Tasks& tasks) {
  tasks.add("classification", [](const Config& data) { return make_classification("classification", data, {}, "accuracy"); });
  tasks.add("regression", [](const Config& data) { return make_regression("regression", data, {}, "pearson"); });
  tasks.add("causal-lm", make_causal_lm);
  tasks.add("seq2seq", make_seq2seq);
  for (const GlueTask& row : kGlue)
    tasks.add(row.name, [row](const Config& data) {
      const TextColumns columns{row.text, row.text_pair, "label"};
      return row.regression ? make_regression(row.name, data, columns, row.headline)
                            : make_classification(row.name, data, columns, row.headline);
    });
}

}  // namespace deeplora
