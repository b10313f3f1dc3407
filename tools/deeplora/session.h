// Configuration -> model files, tokenizer, data, model, adapters: what every subcommand on a run begins with.
#pragma once

#include <functional>

#include "head_plan.h"
#include "lm/adapt.h"
#include "lm/parity.h"
#include "lm/pooled_model.h"
#include "drawn_rows.h"
#include "reference_values.h"
#include "run_config.h"
#include "text/table.h"
#include "train/run_folder.h"

namespace deeplora {

/// Rows of one file, tokenized.
struct LoadedData {
  std::vector<Row> rows;
  std::vector<Example> examples;
  int64_t truncated = 0;
};

/// How a finished run is used.
struct RunUse {
  bool last = false;                   ///< the last adapter instead of the best
  std::vector<std::string> overrides;  ///< assignments ("data.generation.beams=4") that change its configuration
  std::filesystem::path model;         ///< where the model lies now; empty: where the run finds it
};

class Session {
 public:
  /// A new run: reads the training file first (its labels shape the head), then builds the model and its adapters.
  /// `train` is arranged. `accept`, if given, is asked as soon as the model's files are open.
  using Accept = std::function<void(const ModelFiles& files)>;
  static Session start(const Config& config, const Registries& registries, const Accept& accept = {});
  /// A model as it is, without rows: its task restored from `state`. Throws Error for a task of classes or numbers
  /// whose head the model's files do not hold whole.
  static Session untrained(const Config& config, const Registries& registries, const OrderedJsonFile& state);
  /// A finished or interrupted run: task and adapter from its folder, files from where they lie now. Throws Error when
  /// the model is found nowhere, or its weights are not those the run was trained on.
  static Session of_run(const RunFolder& folder, const Registries& registries, const RunUse& use);

  /// Rows and examples of dev or test ("dev", "test"): of the file that is named, else those drawn from the training
  /// file; empty where there are none. Throws Error when the training file no longer gives the rows that the run drew.
  LoadedData load_split(const std::string& split);
  /// Rows and examples of a file; says how many texts were cut. Throws Error for an empty file or missing columns.
  LoadedData load(const std::filesystem::path& file, std::string_view what, bool labelled) const;

  EvaluationOptions evaluation() const;
  /// model.precision asks for bfloat16, and this machine is faster with it (or it is asked for in any case).
  bool in_bfloat16() const;
  /// Metadata of adapter.safetensors: method, base fingerprint, version.
  std::map<std::string, std::string> adapter_metadata() const;
  void save_adapter(const std::filesystem::path& file) const;
  void load_adapter(const std::filesystem::path& file);
  /// Calls use() with the model as its files have it: adapters off, weights that are trained themselves as they were
  /// before. Afterwards it is what it was.
  void as_loaded(const std::function<void()>& use) const;
  /// Gives examples of a split ("train", "dev", "test") what the task's loss compares with.
  void refer(const std::string& split, LoadedData& data, ProcessGroup* group = nullptr) {
    reference.give(*this, split, data.examples, group);
  }
  /// task.json: what restores the task and recognises the model.
  nlohmann::ordered_json task_state() const;

  RunConfig config;
  std::shared_ptr<ModelFiles> files;     ///< of the base model; the run only puts a head on it
  std::shared_ptr<Tokenizer> tokenizer;  ///< null when the model has none
  std::unique_ptr<AdaptedModel> adapted;
  torch::Device device = torch::kCPU;
  LoadedData train;         ///< rows drawn, of a new run
  std::string train_table;  ///< what the training file was read as
  ReferenceValues reference;
  DrawnRows drawn;  ///< dev and test of the training file; its train part becomes `train`
  int64_t train_rows_in_file = 0;
  std::string split_fingerprint,
      known_split;  ///< of the rows drawn here, and of those that a finished run drew; "" for none
  double parity_difference = 0;
  std::vector<double>
      weight_norms;  ///< of the adapted weights, in the order of adapted->adapters(); of a session that trains
  Task& task() const { return *config.task; }
  LanguageModel& model() const { return adapted->model(); }

 private:
  explicit Session(RunConfig read);
  void load_model_files(const ModelFamilies& families, const Accept& accept = {});
  void load_training_rows();
  /// Reads the training file and draws dev and test.
  void deal_out();
  LoadedData load_rows(std::vector<Row> rows, const std::filesystem::path& file, const std::string& summary,
                       std::string_view what, bool labelled) const;
  void build(const Registries& registries, bool with_gradients);
  void measure_weights();
  /// What the model, as it is in evaluation, says to the probing batch.
  ModelOutput run_probe(LanguageModel& model) const;
  std::shared_ptr<LanguageModel> build_base(const Registries& registries, const ModelOptions& options);
  Pooling choose_pooling() const;
  /// The weights that the configuration adapts; `starts`: of a new run, which may begin at a PEFT folder.
  std::vector<AdapterSite> sites_to_adapt(bool starts) const;
  /// How the model is built, with the family's own head put on its files where it is to have one.
  ModelOptions prepare_head(const ModelFamilies& families);
  std::shared_ptr<ModelWithHead> add_head(const std::shared_ptr<LanguageModel>& base);
  /// The base with its states pooled, for a task that embeds; a base that gives vectors itself as it is.
  std::shared_ptr<LanguageModel> add_pooling(const std::shared_ptr<LanguageModel>& base);
  /// How texts become vectors, as the model's files and the configuration say; says it.
  VectorForm form_of_vectors(int64_t width) const;
  /// Throws Error unless what a model gives is hidden states [B, T, D].
  void check_is_hidden(const ModelOutput& probed) const;
  /// Puts the files' values into the base weights that are trained, and says what was there.
  std::vector<NamedTensor> put_base_back() const;
  bool base_replaced_ = false;  ///< values of trained base weights came from an adapter's file
  HeadPlan plan_;
  OutputUnits units_;
};

/// The native model of these files, checked against their own forward pass where they hold one. Throws Error when no
/// family fits or parity fails.
std::shared_ptr<LanguageModel> build_native(const ModelFiles& files, const ArchiveInterface& interface,
                                            const ModelOptions& options, const ModelFamilies& families,
                                            double* difference);

/// The archive's own code with adapter slots, probed at two sizes and checked against the archive. Throws Error for
/// archives that it cannot adapt. For a `language_model` task, the output of an archive that does not say what it gives
/// is taken as logits.
std::shared_ptr<LanguageModel> build_graph(const ModelFiles& files, const ArchiveInterface& interface,
                                           const ModelOptions& options, double* difference,
                                           bool language_model = false);

/// Tokenizer from a path, or from the model's own files when the path is empty; null when there is none.
std::unique_ptr<Tokenizer> load_tokenizer(const std::filesystem::path& path, const ModelFiles& files,
                                          const Languages& languages = {});

/// Tokenizer files from a folder, a file, or the model's own when the path is empty; refers to the model's files.
TokenizerFiles tokenizer_files(const std::filesystem::path& path, const ModelFiles& files);

/// The id that fills cells beyond a text: the tokenizer's, or config.json's, or 0.
int64_t pad_id_of(const Tokenizer* tokenizer, const ModelFiles& files);

/// load_tokenizer, and what the task may know of it and of the model. A model's own tokenizer that cannot be used is a
/// warning: rows may carry input_ids.
std::shared_ptr<Tokenizer> load_tokenizer_for(Task& task, const std::filesystem::path& path, const ModelFiles& files,
                                              const ArchiveInterface& interface);

/// Examples of rows, before check_ids() and Task::arrange(); says how many texts were cut and what the task remarks.
/// Throws Error with every row that cannot be encoded, the same mistake once; `what` names the rows.
std::vector<Example> encode_rows(const Task& task, const Tokenizer* tokenizer, const std::vector<Row>& rows,
                                 std::string_view what, bool labelled, int64_t* truncated = nullptr);

/// The rows of a file; `what` names it in messages, also in the one that tells which rows were left out.
Table read_rows(const TableOptions& options, const std::filesystem::path& file, std::string_view what);

}  // namespace deeplora
