// What the trainer knows of a model: batch in, hidden states or logits out, and the weights that can be adapted.
#pragma once

#include <torch/nn/module.h>
#include <torch/types.h>

#include <functional>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "factorization/quantized_lines.h"
#include "lm/adapter.h"
#include "lm/decoding_state.h"
#include "model_files/class_head.h"

namespace deeplora {

/// Label of a token that is not predicted.
constexpr int64_t kIgnored = -100;

/// A tensor that rows carry by name, for an input of the model that is neither token ids nor anything beside them.
struct TensorInput {
  std::string name;            ///< field of the rows
  std::vector<int64_t> shape;  ///< of one row; {} for a single number
  torch::ScalarType dtype = torch::kFloat32;
  double least = 0, most = 0;  ///< among the rows that were trained on

  bool operator==(const TensorInput&) const = default;
};

/// Right-padded token ids and what goes with them, and tensors that rows carry. Undefined tensors are absent inputs.
struct Batch {
  torch::Tensor input_ids;          ///< [B, T] int64
  torch::Tensor attention_mask;     ///< [B, T] int64, 1 for a token, 0 for padding
  torch::Tensor token_type_ids;     ///< [B, T] int64
  torch::Tensor position_ids;       ///< [B, T] int64
  torch::Tensor decoder_input_ids;  ///< [B, T'] int64; logits are [B, T', V] then
  torch::Tensor labels;  ///< [B] int64 classes, [B] or [B, C] float targets, or [B, T] int64 tokens with kIgnored
                         ///< among them
  std::map<std::string, torch::Tensor> tensors;   ///< by TensorInput::name: [B, TensorInput::shape]
  std::map<std::string, torch::Tensor> beside{};  ///< what a task's loss reads beside labels, by names of its own
  /// Task::loss_count() over Task::second_count() of the whole step that the batch is part of; 0: of the batch alone.
  double balance = 0;

  int64_t size() const { return input_ids.defined() ? input_ids.size(0) : tensors.begin()->second.size(0); }
  /// "[2, 12]", "x [2, 3] and y [2]", for messages.
  std::string sizes() const;
  Batch to(torch::Device device) const;
};

/// Exactly one is defined.
struct ModelOutput {
  torch::Tensor hidden;  ///< [B, T, D] last hidden state
  torch::Tensor logits;  ///< [B, C] or [B, T, V]
};

/// Rows of a fused weight that are one projection: in each of `groups` equal runs of rows, `size` rows from `offset`.
struct RowBlock {
  std::string role;  ///< query, key or value
  int64_t groups = 1, offset = 0, size = 0;

  /// [out, ...] -> [groups x size, ...]; a view for one group.
  torch::Tensor of(const torch::Tensor& whole) const;
  /// Adds `part` [groups x size, in] to the block's rows of the contiguous `whole` [out, in], in place.
  void add_to(const torch::Tensor& whole, const torch::Tensor& part) const;
};

/// A weight with an adapter slot.
struct AdapterSite {
  std::string path;  ///< name in the archive, e.g. "model.encoder.layer.0.attention.self.query.weight"
  /// query, key, value, attention_output, query_key_value, mlp_in, mlp_out, mlp_gate, embedding, recurrent,
  /// convolution, lm_head, head, other
  std::string role;
  SiteKind kind = SiteKind::linear;
  std::string op;           ///< operator that reads it: "linear", "embedding", "addmm"...
  torch::Tensor weight;     ///< frozen, [out, in]
  bool transposed = false;  ///< the archive stores the weight as [in, out]
  std::vector<int64_t>
      stored_shape;  ///< in the archive where it is no matrix there ([out, in, 1] of a convolution), else empty
  std::string bias;  ///< archive name of what is added behind it, where that is known and not a neighbour of `path`
  int64_t uses = 1;  ///< how many operators read it
  bool reads_ids = false;  ///< an embedding that the model's own input_ids are looked up in, as far as that is known
  std::vector<RowBlock> blocks;  ///< query, key and value of a fused weight, where the layout of its rows is known
  std::string layout_unknown;    ///< why it is not known (fused weights only)
  /// Of a site that is one block of a fused weight: that weight's path and [out, in] matrix, and the rows. Else empty.
  std::string fused_path;
  torch::Tensor fused_weight;
  RowBlock block;
  std::function<void(std::shared_ptr<Adapter>)> attach;  ///< puts the adapter into the slot (nullptr empties it)
  /// Lets its products read it in fewer bits and says how many bytes that takes; empty where they cannot.
  std::function<int64_t(Quantization)> quantize;

  /// The name in the archive of the weight that merging changes.
  const std::string& archive_path() const { return fused_path.empty() ? path : fused_path; }
  /// `weight`, or the rows `weight` is part of.
  const torch::Tensor& archive_weight() const { return fused_path.empty() ? weight : fused_weight; }
  /// A matrix [out, in] in the archive's layout.
  torch::Tensor as_stored(const torch::Tensor& matrix) const {
    const torch::Tensor turned = transposed ? matrix.t() : matrix;
    return stored_shape.empty() ? turned : turned.reshape(stored_shape);
  }
};

/// A module (train()/eval() switch dropout) whose weights live in a model's files.
class LanguageModel : public torch::nn::Module {
 public:
  virtual ModelOutput forward(const Batch& batch) = 0;
  /// -log p(label) of the batch's labels [B, T] that are not kIgnored, in the order of their cells: [n] float32, for a
  /// language model that need not hold all its logits for it. Undefined where it does: then they are to be taken from
  /// forward()'s.
  virtual torch::Tensor token_losses(const Batch& /*batch*/) { return {}; }
  /// Last hidden state of every row's first cell [B, D], for an encoder that need not compute the last layer of the
  /// others for it. Undefined where it does: then it is to be taken from forward()'s.
  virtual torch::Tensor first_states(const Batch& /*batch*/) { return {}; }
  /// Stable order; embeddings included.
  virtual std::vector<AdapterSite> sites() = 0;
  /// Every floating-point weight of the base model under its archive name; `full` trains these.
  virtual std::vector<NamedTensor> base_parameters() = 0;
  /// Keeps only each layer's input for the backward pass and computes the rest again. Throws Error where the model
  /// cannot.
  virtual void set_gradient_checkpointing(bool on);
  /// False for a model without attention_mask that would read padding as text.
  virtual bool takes_padding() const { return true; }
  /// False for a model that has no tokens: its rows carry all that it takes.
  virtual bool takes_ids() const { return true; }
  /// What it takes from rows by name.
  virtual std::vector<TensorInput> tensor_inputs() const { return {}; }
  /// "bert", "roberta", ..., "graph".
  virtual std::string family() const = 0;
  /// Named inner states [B, T, D] of a forward pass, in the order in which the archive's own layer_norm operators
  /// produce them: where parity fails they tell which layer parts first. Empty where the model cannot tell.
  virtual std::vector<std::pair<std::string, torch::Tensor>> checkpoints(const Batch&) { return {}; }
  /// Reads a prompt and keeps its keys and values. Causal models take a LEFT-padded batch (positions count tokens, not
  /// cells), sequence-to-sequence models a right-padded source with decoder_input_ids [B, 1], the decoder's start. Null
  /// when the family keeps no cache: callers then decode with forward() on whole prefixes (lm/decoding.h).
  virtual std::unique_ptr<DecodingState> begin_decoding(const Batch& /*prompt*/) { return nullptr; }
};

/// A model family: says whether files hold a model of its own, and builds it on their tensors.
class ModelFiles;
/// What stands on a model.
enum class HeadKind {
  as_files,  ///< what the files hold
  none,      ///< nothing: the model gives its hidden states
  classes,   ///< the family's own head for classifying texts, logits [B, C]
  tokens     ///< its own head for classifying tokens, logits [B, T, C]
};
struct ModelOptions {
  std::optional<double> dropout;  ///< replaces every dropout probability of the archive's configuration
  HeadKind head = HeadKind::as_files;
  double shift = 0,
         scale = 1;  ///< of HeadKind::classes: logits = scale * (W x + b) + shift, in float64 unless these are 0 and 1
};
struct ModelFamily {
  std::function<bool(const ModelFiles&)> recognises;
  std::function<std::shared_ptr<LanguageModel>(const ModelFiles&, const ModelOptions&)> build;
  /// The head of so many outputs that transformers puts on these files' model; empty for families that have none.
  std::function<ClassHead(const ModelFiles&, int64_t outputs)> class_head;
  /// The same for tokens; one without a name for models that have none.
  std::function<ClassHead(const ModelFiles&, int64_t outputs)> token_head{};
};
using ModelFamilies = Registry<ModelFamily>;

}  // namespace deeplora
