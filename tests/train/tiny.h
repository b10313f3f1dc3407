// A model and a task small enough to train a whole run in milliseconds, with hooks to break it at any moment.
#pragma once

#include <gtest/gtest.h>
#include <torch/torch.h>
#include <unistd.h>

#include <filesystem>
#include <functional>
#include <limits>
#include <string>
#include <vector>

#include "core/files.h"
#include "core/random.h"
#include "support/errors.h"
#include "support/temp_folder.h"
#include "train/checkpoint.h"
#include "train/trainer.h"

namespace deeplora::tiny {

constexpr int64_t kVocabulary = 11, kWidth = 6, kClasses = 3, kRank = 2;

/// A folder that goes away with the object; in memory where the system has such a place, because hundreds of
/// checkpoints that are flushed to a busy disk take minutes.
class TemporaryFolder : public testing::TempFolder {
 public:
  TemporaryFolder()
      : TempFolder(::access("/dev/shm", W_OK) == 0 ? std::filesystem::path("/dev/shm")
                                                   : std::filesystem::temp_directory_path()) {}
};

/// logits [B, T, C] of each token: frozen embedding, dropout, then a LoRA-like pair beside a trained head.
class Model : public LanguageModel {
 public:
  explicit Model(double dropout = 0.0, torch::Dtype dtype = torch::kFloat32) : dropout_(dropout) {
    auto generator = make_generator(5, "tiny");
    const auto draw = [&](int64_t rows, int64_t columns) { return torch::randn({rows, columns}, generator).to(dtype); };
    embedding_ = draw(kVocabulary, kWidth);
    down_ = draw(kRank, kWidth).requires_grad_();
    up_ = torch::zeros({kClasses, kRank}, dtype).requires_grad_();
    weight_ = (0.1 * draw(kClasses, kWidth)).requires_grad_();
    bias_ = torch::zeros({kClasses}, dtype).requires_grad_();
  }

  ModelOutput forward(const Batch& batch) override {
    const auto x = torch::dropout(torch::embedding(embedding_, batch.input_ids), dropout_, is_training());
    const auto update = torch::matmul(torch::matmul(x, down_.t()), up_.t());
    return {.hidden = {}, .logits = torch::matmul(x, weight_.t()) + update + bias_};
  }

  std::vector<ParamGroup> groups() const {
    return {{.params = {{"down", down_}, {"up", up_}}},
            {.params = {{"head.weight", weight_}}, .lr_scale = 3.0},
            {.params = {{"head.bias", bias_}}, .lr_scale = 3.0, .decay = false}};
  }

  std::vector<AdapterSite> sites() override { return {}; }
  std::vector<NamedTensor> base_parameters() override { return {}; }
  std::string family() const override { return "tiny"; }

  torch::Tensor embedding_, down_, up_, weight_, bias_;

 private:
  double dropout_;
};

/// Labels every token with its id modulo the number of classes; the loss counts tokens.
class TokenTask : public Task {
 public:
  std::function<void(int64_t)> on_loss;   ///< called with the number of the loss call, from 1
  std::function<double(int64_t)> factor;  ///< what the n-th loss is multiplied by
  std::function<Scores(int64_t)> scores;  ///< replaces the scores of the n-th evaluation, from 1
  mutable int64_t losses = 0, evaluations = 0;
  mutable bool evaluated_in_training_mode = false;

  std::string name() const override { return "tokens"; }
  std::vector<std::string> columns(bool) const override { return {}; }
  nlohmann::ordered_json settings() const override { return nlohmann::ordered_json::object(); }
  void fit(std::span<const Row>, std::span<const Row>) override {}
  nlohmann::ordered_json state() const override { return nlohmann::ordered_json::object(); }
  void restore(const OrderedJsonFile&) override {}
  void set_pad_id(int64_t) override {}
  Example encode(const Row&, const Tokenizer*, bool) const override { return {}; }
  int64_t outputs() const override { return kClasses; }
  std::vector<nlohmann::ordered_json> predict(LanguageModel&, std::span<const Example>,
                                              const EvaluationOptions&) const override {
    return {};
  }

  Batch collate(std::span<const Example* const> examples) const override {
    size_t longest = 0;
    for (const Example* example : examples) longest = std::max(longest, example->input_ids.size());
    const auto shape = std::vector<int64_t>{static_cast<int64_t>(examples.size()), static_cast<int64_t>(longest)};
    Batch batch;
    batch.input_ids = torch::zeros(shape, torch::kInt64);
    batch.labels = torch::full(shape, -100, torch::kInt64);
    for (size_t row = 0; row < examples.size(); ++row)
      for (size_t i = 0; i < examples[row]->input_ids.size(); ++i) {
        batch.input_ids[row][i] = examples[row]->input_ids[i];
        if (examples[row]->labelled) batch.labels[row][i] = examples[row]->input_ids[i] % kClasses;
      }
    return batch;
  }

  double loss_count(const Batch& batch) const override { return (batch.labels != -100).sum().item<int64_t>(); }

  torch::Tensor loss_sum(const ModelOutput& output, const Batch& batch) const override {
    ++losses;
    if (on_loss) on_loss(losses);
    return factor ? token_loss(output, batch) * factor(losses) : token_loss(output, batch);
  }

  Scores evaluate(LanguageModel& model, std::span<const Example> examples, const EvaluationOptions&) const override {
    evaluated_in_training_mode = evaluated_in_training_mode || model.is_training();
    ++evaluations;
    if (scores) return scores(evaluations);
    double loss = 0;
    int64_t count = 0, right = 0;
    for (const Example& example : examples) {
      const Example* one = &example;
      const Batch batch = collate({&one, 1});
      const auto output = model.forward(batch);
      loss += token_loss(output, batch).item<double>();
      count += loss_count(batch);
      right += (output.logits.argmax(-1) == batch.labels).sum().item<int64_t>();
    }
    return {.values = {{"loss", loss / static_cast<double>(count)},
                       {"accuracy", static_cast<double>(right) / static_cast<double>(count)}},
            .higher_is_better = false};
  }

 private:
  static torch::Tensor token_loss(const ModelOutput& output, const Batch& batch) {
    const auto options = torch::nn::functional::CrossEntropyFuncOptions().reduction(torch::kSum).ignore_index(-100);
    return torch::nn::functional::cross_entropy(output.logits.flatten(0, 1), batch.labels.flatten(), options);
  }
};

/// Rows of 1 to 5 tokens.
inline std::vector<Example> rows(size_t count, uint64_t seed = 1) {
  auto generator = make_generator(seed, "rows");
  std::vector<Example> out(count);
  for (size_t i = 0; i < count; ++i) {
    const auto length = torch::randint(1, 6, {1}, generator).item<int64_t>();
    const auto ids = torch::randint(0, kVocabulary, {length}, generator);
    out[i].source = cat("rows:", i + 1);
    out[i].labelled = true;
    out[i].input_ids.assign(ids.data_ptr<int64_t>(), ids.data_ptr<int64_t>() + length);
  }
  return out;
}

/// A configuration of few steps that a test changes as it likes.
inline TrainConfig small_config() {
  TrainConfig config;
  config.lr = 0.01;
  config.batch_size = 2;
  config.weight_decay = 0.01;
  config.log_every = 1;
  config.threads = 1;
  return config;
}

/// What save_adapter writes: the bits of every trained tensor.
inline void write_bits(const Model& model, const std::filesystem::path& file) {
  std::string bytes;
  for (const auto& group : model.groups())
    for (const auto& [name, value] : group.params)
      bytes.append(static_cast<const char*>(value.data_ptr()), value.nbytes());
  write_file_atomically(file, bytes);
}

inline Trainer::Setup setup_of(Model& model, const Task& task, const TrainConfig& config,
                               const StopSignal* stop = nullptr) {
  return {.model = model,
          .task = task,
          .groups = model.groups(),
          .config = config,
          .save_adapter = [&model](const std::filesystem::path& file) { write_bits(model, file); },
          .stop = stop,
          .progress = false};
}

/// Rows of metrics.jsonl, without what the clock decides.
inline std::vector<nlohmann::ordered_json> metrics_of(const RunFolder& folder, const std::string& key = "") {
  std::vector<nlohmann::ordered_json> out;
  std::istringstream lines(read_file(folder.metrics_file()));
  for (std::string line; std::getline(lines, line);) {
    auto row = nlohmann::ordered_json::parse(line);
    row.erase("seconds");
    row.erase("samples_per_second");
    if (key.empty() || row.contains(key)) out.push_back(row);
  }
  return out;
}

/// A run folder as the program makes it before training.
inline RunFolder new_folder(const std::filesystem::path& path) {
  RunFolder folder = RunFolder::create(path);
  folder.write(folder.config_file(), "train: {}\n");
  return folder;
}

using testing::error_of;

}  // namespace deeplora::tiny
