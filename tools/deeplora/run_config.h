// The configuration of a fine-tuning run as plain structs.
#pragma once

#include "graph/torchscript_forward.h"
#include "lm/adapter.h"
#include "model_files/torchscript_file.h"
#include "tasks/task.h"
#include "train/trainer.h"

namespace deeplora {

/// Everything that can be named in a configuration; filled once in main().
struct Registries {
  AdapterMethods methods{"adapter method"};
  ModelFamilies families{"model family"};
  Tasks tasks{"task"};
};
Registries make_registries();

/// The `model` section.
struct ModelConfig {
  std::filesystem::path path;
  std::string backend = "auto";
  std::filesystem::path tokenizer;
  ArchiveInterface interface;
  std::string pooling = "auto";
  bool normalize = false;
  std::optional<double> dropout;
  std::string device = "cpu";
  std::string precision = "float32";
  Quantization quantize = Quantization::none;
  std::string deterministic = "auto";

  static ModelConfig read(const Config& model);
};

/// The keys of `data` that are not a task's own.
struct DataConfig {
  std::string task;
  std::filesystem::path train, dev, test;
  std::string format = "auto", header = "auto", separator = "auto", quoting = "auto", encoding = "utf-8",
              bad_rows = "error";
  double bad_rows_share = 0.01;
  std::optional<int64_t> samples;
  std::optional<double> dev_share, test_share;  ///< of the training file's rows, drawn
  std::optional<int64_t> split_seed;            ///< absent: train.seed

  /// A dev part is drawn although nothing asks for one: no dev, no share.
  bool draws_unasked() const { return dev.empty() && !dev_share && !test_share; }
  /// Whether there may be rows of these splits: a file is named, or a share is drawn.
  bool has_dev() const { return !dev.empty() || dev_share.value_or(0) > 0 || draws_unasked(); }
  bool has_test() const { return !test.empty() || test_share.value_or(0) > 0; }
  static DataConfig read(const Config& data, const Tasks& tasks);
  /// How its files are read; the task adds the columns.
  TableOptions table_options() const;
};

/// The keys of `adapter` that every method has.
struct AdapterConfig {
  std::string method = "lora";
  std::vector<std::string> targets{"all-linear"};
  std::string fused_layout = "auto";
  std::filesystem::path path;           ///< factors to start from
  std::vector<std::string> own_values;  ///< patterns of weights with a rank or alpha of their own
  std::vector<std::string> train_also;  ///< globs over names of base weights that are trained themselves
  AdapterMethod::Trains trains = AdapterMethod::Trains::adapters;
  std::string uses_weights;  ///< see AdapterMethod
  AdapterFactory factory;
  double default_lr = 1e-3;

  static AdapterConfig read(const Config& adapter, const AdapterMethods& methods);
};

/// The `head` section.
struct HeadConfig {
  std::string type = "auto";
  bool train = true;
  double dropout = 0.1;
  static HeadConfig read(const Config& head);
};

/// The `report` section: nothing that changes what is computed.
struct ReportConfig {
  std::string title;
  static ReportConfig read(const Config& report);
};

struct RunConfig {
  ModelConfig model;
  DataConfig data;
  AdapterConfig adapter;
  HeadConfig head;
  TrainConfig train;
  ReportConfig report;
  std::unique_ptr<Task> task;
  std::string resolved;  ///< YAML that reruns this

  /// Reads and checks everything; throws Error with every mistake.
  static RunConfig read(const Config& config, const Registries& registries);
};

/// Throws Error when this machine lacks the device. Asked when a run starts, not when its configuration is read.
void check_device(const ModelConfig& model);

/// Peak learning rates of the head: one that the run makes, and the model's own. train.head_lr is for both; without it
/// a new head has 5e-3 and the model's own learns at train.lr, like the rest of its weights. With method none the head
/// is all there is and learns at train.lr.
struct HeadRates {
  double made, own;
};
/// Throws Error when method none is given train.lr and another train.head_lr.
HeadRates head_rates(const RunConfig& run);
/// The same at another train.lr.
HeadRates head_rates_at(const RunConfig& run, double lr);

/// The assignments themselves; throws Error for one outside the `data` section: the rest of a finished run is fixed.
std::vector<std::string> data_overrides(const std::vector<std::string>& assignments);

}  // namespace deeplora
