// JSON that archives and runs bring along: a family's configuration, a run's task, a checkpoint's numbers, a
// comparison's cells.
#include <stdexcept>

#include "compare/cell_files.h"
#include "core/fingerprint.h"
#include "models/settings.h"
#include "tasks/chat_template.h"
#include "tasks/task_state.h"
#include "tests/fuzz/targets.h"
#include "train/checkpoint_numbers.h"

namespace deeplora::fuzz {
namespace {

/// Only Error passes.
template <class Read>
void attempt(const Read& read) {
  try {
    read();
  } catch (const Error&) {
  }
}

void expect(bool condition, const char* what) {
  if (!condition) throw std::logic_error(what);
}

/// What the computation relies on.
void check_shares(std::initializer_list<double> values) {
  for (const double value : values) expect(value >= 0 && value <= 1, "a dropout is no share");
}

}  // namespace

void model_config(std::string_view input) {
  const auto parts = parts_of(input, 2);
  attempt([&] {
    const auto json = JsonFile::parse("config.json", parts[0]);
    for (const char* family : {"bert", "roberta", "distilbert"})
      attempt([&] {
        const auto s = EncoderSettings::read(json, family);
        expect(s.heads >= 0 && s.first_position >= 0, "sizes below 0");
        check_shares({s.hidden_dropout, s.attention_dropout, s.classifier_dropout});
      });
    attempt([&] {
      const auto s = Gpt2Settings::read(json);
      check_shares({s.embedding_dropout, s.residual_dropout, s.attention_dropout});
    });
    attempt([&] {
      const auto s = LlamaSettings::read(json, 5);
      expect(s.heads > 0 && s.kv_heads > 0 && s.head_width >= 0 && s.windows.size() == 5,
             "heads or windows are missing");
      expect(s.rotary.theta > 0 && s.rotary.factor > 0 && s.rotary.trained_length > 0 && s.rotary.high > s.rotary.low,
             "rotary positions without a scale");
    });
    attempt([&] {
      const auto s = ModernBertSettings::read(json, 5);
      expect(s.heads > 0 && s.window > 0 && s.slides.size() == 5, "heads or windows are missing");
      check_shares({s.embedding_dropout, s.attention_dropout, s.mlp_dropout});
    });
    attempt([&] {
      const auto s = DebertaSettings::read(json);
      expect(s.heads > 0 && s.span() > 0 && s.farthest - 1 > s.buckets / 2, "relative positions without a place");
      check_shares({s.hidden_dropout, s.attention_dropout});
    });
    attempt([&] {
      const auto s = T5Settings::read(json);
      expect(s.buckets >= 4 && s.max_distance > s.buckets / 2, "no bucket for far positions");
    });
  });
  attempt([&] { chat_templates_of(JsonFile::parse("tokenizer_config.json", parts[1])); });
}

void task_json(std::string_view input) {
  attempt([&] {
    const SavedTask task = SavedTask::parse("task.json", input);
    attempt([&] {
      for (const auto& [mean, spread] : read_target_scales(task.state)) expect(spread > 0, "a spread of 0");
    });
    attempt([&] { expect(read_labels(task.state).size() >= 2, "too few labels"); });
    attempt([&] { read_chat(task.state); });
  });
}

void checkpoint_numbers(std::string_view input) {
  attempt([&] { CheckpointNumbers::parse("state.json", input); });
  attempt([&] {
    // A mistake behind a checksum that is right.
    const auto content = parse_json<nlohmann::ordered_json>("state.json", input);
    const nlohmann::ordered_json whole = {{"content", content}, {"checksum", fingerprint(content.dump())}};
    const std::string again = CheckpointNumbers::parse("state.json", whole.dump()).text();
    expect(CheckpointNumbers::parse("written", again).text() == again, "a checkpoint's numbers read back as others");
  });
}

void cell_files(std::string_view input) {
  const auto parts = parts_of(input, 3);
  attempt([&] { read_cell_result("result.json", parts[0], "score"); });
  attempt([&] { read_cell_message("diverged.json", parts[1]); });
  attempt([&] { read_cell_updates("updates.json", parts[2], 1); });
}

}  // namespace deeplora::fuzz
