// deeplora as a library: open a model, adapt it, train it in a loop of your own, merge it. The one header that an
// application includes; docs/library.md shows it at work.
//
// Everything throws an error derived from std::runtime_error, in one sentence for people, and leaves what was there
// before as it was.
#pragma once

#include <torch/script.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace deeplora {

struct OpenOptions {
  torch::Device device = torch::kCPU;
  std::optional<double> dropout;  ///< replaces every dropout probability of the model
};

/// A weight that an adapter can change.
struct AdaptableWeight {
  std::string path;            ///< its name in the model's files
  std::string role;            ///< query, key, value, mlp_in, embedding, recurrent, head, other...
  std::string op;              ///< the operator that reads it
  std::vector<int64_t> shape;  ///< [out, in]; a weight of more dimensions as the matrix [first, the rest]
};

/// Which weights change, and how.
struct Adaptation {
  std::string method = "lora";                 ///< any of methods()
  std::map<std::string, std::string> options;  ///< the method's own keys as a configuration has them: {"rank", "8"}
  std::vector<std::string> targets = {"all-linear"};  ///< presets, roles, paths with * and ?, "re:REGEX"
  std::vector<std::string> train_also;  ///< weights that are trained themselves: paths with * and ?, e.g. "head.*"
  uint64_t seed = 1;                    ///< of the factors' start
};

/// The methods that Adaptation::method may name.
std::vector<std::string> methods();

/// AdamW with each factor's own share of the learning rate, as the program trains. Orthonormal factors stay so.
class Optimizer {
 public:
  void set_learning_rate(double lr);
  void step();
  void zero_grad();

  Optimizer(Optimizer&&) noexcept;
  Optimizer& operator=(Optimizer&&) noexcept;
  ~Optimizer();

 private:
  friend class Model;
  struct State;
  explicit Optimizer(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

/// A model in memory with any number of named sets of adapters, of which one, or none, is in use.
///
/// Not safe for several threads at once; a thread each may have a Model of its own. The base weights of the file are
/// held once, whatever the number of adapters.
class Model {
 public:
  /// A TorchScript file (.pt), a program of torch.export (.pt2), or a Hugging Face folder of a known family. The code
  /// of the file is what runs, so its inputs and outputs are what they are in PyTorch; a folder takes (input_ids [B, T]
  /// int64, attention_mask [B, T] int64[, token_type_ids]) and gives hidden states [B, T, D] or logits.
  static Model open(const std::filesystem::path& file, const OpenOptions& options = {});
  /// A module that is in memory. Its weights are copied: training changes nothing in `module`.
  static Model of(const torch::jit::Module& module, const OpenOptions& options = {});

  std::vector<AdaptableWeight> weights() const;
  /// Names of forward's arguments.
  std::vector<std::string> inputs() const;

  /// Puts fresh adapters on the model under that name and uses them. Before the first step nothing changes in what the
  /// model gives, but for methods that start elsewhere (deep-lora: at its init_scale).
  void adapt(const Adaptation& adaptation = {}, const std::string& name = "default");
  /// What is trained now: leaves with requires_grad, for any optimizer of torch::optim. Empty without adapters.
  std::vector<torch::Tensor> parameters() const;
  /// An optimizer of the adapters in use.
  Optimizer optimizer(double lr, double weight_decay = 0) const;

  /// The adapted forward, in the order of inputs(); arguments at the end that have defaults may be left out. Autograd
  /// reaches parameters() and every input that asks for it.
  torch::IValue forward(std::vector<torch::IValue> arguments);
  /// The first tensor of what forward gives.
  torch::Tensor operator()(std::vector<torch::IValue> arguments);
  /// Dropout of the model and of the adapters on or off; a model is opened with it off.
  void train(bool on = true);
  void eval() { train(false); }
  bool is_training() const;

  /// Uses the adapters of that name; "" is the model as it was opened.
  void use(const std::string& name);
  /// The adapters in use, "" for none.
  const std::string& in_use() const;
  std::vector<std::string> adapters() const;
  void remove(const std::string& name);

  /// Writes the adapters in use (safetensors, with what adapt() was told), whole or not at all.
  void save_adapter(const std::filesystem::path& file) const;
  /// Adapters that save_adapter wrote, or a LoRA folder of PEFT, under that name, and uses them. Throws when they
  /// belong to other base weights.
  void load_adapter(const std::filesystem::path& file, const std::string& name = "default");

  /// Writes the model with W + delta in place of W in a file (folder) of its own kind. `example`, if given, are
  /// arguments of forward on which the written file must give what the model gives now, or nothing is left behind.
  void merge(const std::filesystem::path& output, const std::vector<torch::IValue>& example = {});
  /// The same in memory, of a TorchScript model.
  torch::jit::Module merged() const;

  Model(Model&&) noexcept;
  Model& operator=(Model&&) noexcept;
  ~Model();

 private:
  struct State;
  explicit Model(std::unique_ptr<State> state);
  std::unique_ptr<State> state_;
};

}  // namespace deeplora
