// Takes weights out of an archive by their Hugging Face names, and says all that is missing or misshapen at once.
#pragma once

#include <map>
#include <set>

#include "model_files/model_files.h"
#include "models/projection.h"

namespace deeplora {

/// Whether a layer has a bias, and the key of config.json that says so, if any does.
struct DeclaredBias {
  bool there;
  const char* key = nullptr;
};

class WeightMap {
 public:
  /// `prefix` stands before every name ("model.bert."). Weights keep the archive's storage when they are float32
  /// already. In half precision matrices and tables stay as they are, since their products and lookups widen what they
  /// read; the small rest is widened.
  WeightMap(const ModelFiles& archive, std::string prefix) : archive_(archive), prefix_(std::move(prefix)) {}

  bool has(const std::string& name) const { return archive_.has(prefix_ + name); }
  const std::string& prefix() const { return prefix_; }
  /// True for a weight of a head that the files lack.
  bool is_started(const std::string& name) const { return archive_.is_started(prefix_ + name); }
  /// The weight, detached. A missing or misshapen one is recorded and replaced by an empty tensor; -1 fits any size.
  torch::Tensor take(const std::string& name, std::vector<int64_t> shape) { return take(name, std::move(shape), true); }
  /// `bias`: whether the layer has one; files without code that say otherwise are a mistake. Nothing: as the files have
  /// it.
  Projection projection(const std::string& name, int64_t out, int64_t in,
                        std::optional<DeclaredBias> bias = std::nullopt);
  /// The same where the archive stores the weight as [in, out].
  Projection transposed_projection(const std::string& name, int64_t out, int64_t in);
  /// Projections that read one input, their weights moved into one tensor, the archive's with them.
  JoinedProjections joined(std::vector<Projection> projections) const;
  /// Looked up as the archive's own forward does; in files without code, row `padding` gets no gradient (-1: none), as
  /// transformers makes its tables.
  EmbeddingTable embedding(const std::string& name, int64_t rows, int64_t width, int64_t padding = -1);
  /// Records a mistake when config.json declares another size than `found`. Only where no forward pass of the files
  /// proves the sizes: an archive may carry any config.json that computes the same.
  void expect_size(const std::string& key, int64_t found);
  /// Records a mistake when `name` is there and holds other values than `table`, which the model reads in its place.
  void expect_copy(const std::string& name, const std::string& table);
  /// True when the name is not there, or is another name of `table`: a language model whose output layer is its
  /// embedding. Files that cannot run themselves must say so in config.json when the name is not there; a mistake is
  /// recorded else.
  bool tied(const std::string& name, const std::string& table);
  /// Every weight taken so far under its archive name.
  const std::vector<NamedTensor>& taken() const { return taken_; }
  /// Throws Error with all that was missing or misshapen, and with floating-point weights below the prefix that nobody
  /// took. `may_stay`: what a name may begin with, or a glob over whole names; both below the prefix.
  void finish(const std::string& family, const std::vector<std::string>& may_stay) const;
  /// The prefix before `name` in the archive ("model.bert." for "embeddings.word_embeddings.weight"), or nothing.
  static std::optional<std::string> prefix_of(const ModelFiles& archive, const std::string& name);

 private:
  torch::Tensor take(const std::string& name, std::vector<int64_t> shape, bool widen);
  void check_bias(const std::string& name, const DeclaredBias& bias);
  Projection stored(Projection projection) const;
  const ModelFiles& archive_;
  std::string prefix_;
  std::vector<NamedTensor> taken_;
  std::set<std::string> used_;
  std::optional<std::map<const void*, LookupOptions>>
      lookups_;  ///< by the address of the table; once they are asked for
  Errors errors_;
};

}  // namespace deeplora
