// The change that a method makes to one frozen weight.
#pragma once

#include <ATen/core/Generator.h>
#include <torch/nn/module.h>
#include <torch/types.h>

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/optimizer.h"
#include "core/registry.h"
#include "factorization/chain_linear.h"
#include "factorization/spectral.h"

namespace deeplora {

enum class SiteKind {
  linear,     ///< a matrix that multiplies an input
  embedding,  ///< a table of rows
  weight      ///< any other weight, as a matrix [first dimension, the rest]: W + delta() is formed where it is read
};

/// An ordinary LoRA pair: delta = scale * b a, b [out, r], a [r, in]. What PEFT can load.
struct LowRankPair {
  torch::Tensor b, a;
  double scale;
};

/// What PEFT's LoRA layer holds: a pair, and with DoRA the magnitudes ([out], of an embedding [in]), else undefined.
struct PeftUpdate {
  LowRankPair pair;
  torch::Tensor magnitude;
};

/// Owned by the slot of one projection. delta() is always W' - W, so that merging is W + delta().
class Adapter : public torch::nn::Module {
 public:
  /// The update alone: [..., in] -> [..., out]. Applies dropout to x in training mode.
  virtual torch::Tensor forward(const torch::Tensor& x) = 0;
  /// Embedding sites: rows of delta(), ids [...] -> [..., in].
  virtual torch::Tensor rows(const torch::Tensor& ids) = 0;
  /// The adapted layer. Overridden by methods whose output is not base + update, or that fuse the two.
  virtual torch::Tensor linear(const torch::Tensor& x, const torch::Tensor& weight, const torch::Tensor& bias);
  /// What it adds to the frozen layer in this pass, where that is a factor chain of the input and nothing else: layers
  /// that read one input are then computed together. Nothing while dropout acts, and for methods that change more than
  /// they add.
  virtual std::optional<ChainUpdate> chain_update() const { return std::nullopt; }
  virtual torch::Tensor embedding(const torch::Tensor& ids, const torch::Tensor& weight);
  /// [out, in] in float32 or the factors' precision, without gradient.
  virtual torch::Tensor delta() const = 0;
  /// Trained tensors; names are unique within the adapter.
  virtual std::vector<ParamGroup> param_groups() const = 0;
  /// Everything a file must hold to restore the adapter: trained tensors and frozen factors.
  virtual std::vector<NamedTensor> tensors() const = 0;
  /// The same update as one LoRA pair, where the method has one.
  virtual std::optional<LowRankPair> low_rank_pair() const { return std::nullopt; }
  /// What a PEFT folder holds of it; by default the LoRA pair.
  virtual std::optional<PeftUpdate> peft_update() const;
  /// Singular values of delta(), falling.
  virtual torch::Tensor singular_values() const;
};

/// What a method may ask about the weight it adapts.
struct AdapterContext {
  std::string path;  ///< archive name of the weight
  SiteKind kind;
  torch::Tensor weight;  ///< frozen, [out, in]; an embedding is [V, D]
  at::Generator generator;
  /// Leading k singular pairs (cut to the smaller side) of the loss's gradient in `weight` [out, in] on a few starting
  /// batches, computed for all sites on first use. May be empty (loading an adapter from a file): methods then start
  /// from any values of the right shape.
  std::function<SingularPairs(int64_t k)> leading_gradient;
  torch::TensorOptions factor_options = torch::kFloat32;  ///< dtype and device of the factors
  /// Linear sites: the leading k principal directions v [in, k'] of the inputs x [N, in] that the layer reads on the
  /// starting batches, with s [k'] their sums of squares about the mean; k' = min(k, in). May be empty, as above.
  std::function<SingularPairs(int64_t k)> leading_inputs;

  int64_t out() const { return weight.size(0); }
  int64_t in() const { return weight.size(1); }
};

using AdapterFactory = std::function<std::shared_ptr<Adapter>(const AdapterContext&)>;

/// A fine-tuning method: reads its own keys of the `adapter` section once, then builds an adapter per site.
struct AdapterMethod {
  enum class Trains { head_only, adapters, base };
  Trains trains = Trains::adapters;
  /// Reads keys and records mistakes on the configuration; the factory throws Error for a site it cannot adapt
  /// (rank above the matrix), naming path, shape and a hint.
  std::function<AdapterFactory(const Config& adapter)> configure;
  /// What it does with the weights themselves ("trains the weights themselves"), which must be whole then; empty for
  /// methods that only add to a layer.
  std::string uses_weights;
  std::string summary;       ///< one line for --help and the docs
  double default_lr = 1e-3;  ///< used when train.lr is absent; from a grid on the shipped sentiment data
};

using AdapterMethods = Registry<AdapterMethod>;

}  // namespace deeplora
