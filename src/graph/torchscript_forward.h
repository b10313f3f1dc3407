// The archive's own forward on a batch: what runs where no native family does, and what native families are compared
// with.
#pragma once

#include <map>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "lm/parity.h"
#include "model_files/code_files.h"

namespace deeplora {

/// How a model wants an input.
struct InputForm {
  std::optional<torch::ScalarType> dtype;  ///< int64 where nothing is said
  bool time_first = false;                 ///< [T, B] in place of [B, T]

  bool operator==(const InputForm&) const = default;
};
/// The dtypes of model.inputs.X.dtype by their names: int32, int64, bool, float.
const std::map<std::string, torch::ScalarType>& input_dtypes();

/// Which argument of forward takes which input of a batch, and which part of the result is the output.
struct ArchiveInterface {
  /// input ("input_ids") -> argument name where they differ (model.inputs); "batch.ids" is the entry "ids" of the dict
  /// argument "batch"
  std::map<std::string, std::string> inputs;
  std::map<std::string, InputForm> forms = {};  ///< of inputs that are not as the batch has them
  std::string output;                           ///< "" the first tensor; "1", "logits", "0.logits" (model.output)
  std::vector<TensorInput> tensors = {};        ///< what rows carry by name, as training rows had it; empty until then
  bool complete = true;  ///< false: arguments that are no known input are let pass; the model is only looked at
};

/// The inputs that a batch has or that follow from it: input_ids, attention_mask, lengths, ...
const std::vector<std::string>& known_inputs();

/// The forms as a JSON object of objects, and back. Throws Error, naming `where`, for a dtype that is none.
nlohmann::ordered_json describe_forms(const std::map<std::string, InputForm>& forms);
std::map<std::string, InputForm> parse_forms(const nlohmann::json& described, const std::string& where);

/// The archive's own forward on a batch. Where ids are [T, B] its states [T, B, D] are turned round.
///
/// A tensor argument without default that is no known input is one that rows carry by name (Batch::tensors). A model
/// without input_ids takes nothing but such ones, whatever they are called.
class ArchiveForward : public ReferenceForward {
 public:
  /// Throws Error when an argument without default is neither, or the model takes no tensor at all.
  ArchiveForward(const CodeFiles& archive, const ArchiveInterface& interface);

  /// Runs the module's forward in eval mode; the caller guards gradients. Throws Error when the archive's code fails on
  /// the batch (sizes baked in by tracing, ids beyond the vocabulary), with the reason in one line.
  torch::Tensor operator()(const Batch& batch) const override;
  std::vector<torch::Tensor> layer_norms(const Batch& batch) const override;
  /// Arguments of the batch in the order of forward.
  std::vector<torch::jit::IValue> arguments(const Batch& batch) const;
  /// True when some argument takes that input of a batch ("attention_mask").
  bool takes(const std::string& input) const;
  /// What it takes from rows by name, in the order of forward.
  const std::vector<std::string>& row_tensors() const { return row_tensors_; }
  /// The chosen tensor of forward's result on that batch; `turned`: whether it came as [T, B, D].
  torch::Tensor select(const torch::jit::IValue& result, const Batch& batch, bool* turned = nullptr) const;
  /// What to say of a forward that fails on a batch: the archive's own line and reason, and a cause where a change was
  /// tried and helped.
  std::string failure(const std::exception& error, const Batch& batch) const;

  /// The inputs with dtypes that the forward takes: those of kInt64 stay so where it runs with them, else they become
  /// `weights`.
  std::vector<TensorInput> tried_dtypes(std::vector<TensorInput> inputs, torch::ScalarType weights,
                                        torch::Device device) const;

 private:
  /// Whether the archive's own forward runs on the batch.
  bool runs(const Batch& batch) const;
  /// What helps; empty where nothing was found.
  std::string remedy(const Batch& batch) const;
  struct Argument {
    std::string name;
    std::string role;                          ///< input of the batch, "" for its default
    std::map<std::string, std::string> parts;  ///< of a dict: key -> input
    c10::IValue standard;
    bool has_default = false;
  };
  /// What is known of one batch while its arguments are gathered.
  struct GivenSizes {
    /// The number behind each symbol of the code's sizes, and the input that gave it.
    std::map<std::string, std::pair<int64_t, std::string>> symbols;
    SizeGuard::Sizes sizes;
  };
  static Argument argument_of(const c10::Argument& argument, const std::map<std::string, std::string>& role_of,
                              Errors& errors);
  void find_row_tensors();
  bool turns_states(const torch::Tensor& states, const Batch& batch) const;
  bool is_row_tensor(const std::string& role) const;
  /// Takes the dtypes that the code was made for, and says which sizes it cannot take.
  void take_limits(const CodeFiles& archive, Errors& errors);
  void take_limit(const std::string& argument, const std::string& role, const CodeFiles& archive, Errors& errors);
  /// Throws Error for sizes that the code was not made for.
  void check_sizes(const std::string& role, const torch::Tensor& value, GivenSizes& given) const;
  std::string how_to_give_less(const std::string& role, size_t dimension, int64_t most) const;
  torch::Tensor input(const std::string& role, const Batch& batch) const;
  c10::IValue value_of(const Argument& argument, const Batch& batch, GivenSizes& given) const;
  mutable torch::jit::Module module_;
  std::vector<Argument> arguments_;
  std::vector<std::string> row_tensors_;
  std::map<std::string, InputForm> forms_;
  std::map<std::string, InputLimit> limits_;  ///< by input
  std::vector<SizeGuard> guards_;
  std::string output_;
  mutable std::optional<bool> states_time_first_;  ///< known from the first batch whose sizes tell
};

/// compare_with_reference() with the archive's own forward.
ParityResult compare_with_archive(const CodeFiles& archive, const ArchiveInterface& interface, LanguageModel& model);

/// The forward pass that these files hold; null where they hold none.
std::unique_ptr<ReferenceForward> reference_forward(const ModelFiles& files, const ArchiveInterface& interface);

/// What rows must carry for a model.
struct RowInputs {
  bool ids = true;                   ///< texts or input_ids
  std::vector<std::string> tensors;  ///< by name
};
/// Throws Error as ArchiveForward does.
RowInputs row_inputs(const ModelFiles& files, const ArchiveInterface& interface);

/// The tensors of interface.tensors in the dtypes that the archive takes: what model.inputs says; else numbers with a
/// fraction as its weights are, whole ones as int64 where its forward runs with them and as its weights where not.
std::vector<TensorInput> with_dtypes(const CodeFiles& archive, const ArchiveInterface& interface);

/// True when the model takes that input of a batch ("decoder_input_ids"). Throws Error as ArchiveForward does.
bool takes_input(const ModelFiles& files, const ArchiveInterface& interface, const std::string& input);

/// These files with the code that they hold. Throws Error, saying what needs it, where they hold none.
const CodeFiles& archive_of(const ModelFiles& files, const std::string& needed_by);

}  // namespace deeplora
