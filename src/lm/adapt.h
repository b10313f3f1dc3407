// A model with its adapters: building them, what is trained, what a file holds, what merging changes.
#pragma once

#include <functional>
#include <map>
#include <memory>
#include <set>
#include <string>
#include <vector>

#include "lm/adapter.h"
#include "lm/head.h"
#include "lm/language_model.h"
#include "lm/quantized_model.h"

namespace deeplora {

struct AttachedAdapter {
  AdapterSite site;
  std::shared_ptr<Adapter> adapter;
};

/// Leading k pairs of the loss's gradient at a site, or of its inputs (see AdapterContext).
using LeadingPairs = std::function<SingularPairs(const AdapterSite& site, int64_t k)>;

/// An output layer that starts here learns in units of the targets' spread; files hold it in the targets' own: W scale,
/// b scale + shift.
struct OutputUnits {
  std::string weight, bias;  ///< names in the files
  double shift = 0, scale = 1;
};

/// What one run trains: adapters at sites, a head, or base weights.
///
/// Trained tensors have fixed names in files: "adapter/<weight path>/<factor>", "head/weight", "head/bias" (a new head)
/// and "base/<archive name>" (weights of the archive that are trained themselves: `full`, or the archive's own head).
class AdaptedModel {
 public:
  /// `new_head` is the same object as `model` when a head was added, else null.
  AdaptedModel(std::shared_ptr<LanguageModel> model, std::shared_ptr<ModelWithHead> new_head)
      : model_(std::move(model)), new_head_(std::move(new_head)) {}

  /// Builds an adapter for every site and attaches it. `leading_gradient` and `leading_inputs` may be empty.
  /// Throws Error with every site that the method cannot adapt.
  void add_adapters(const std::vector<AdapterSite>& sites, const AdapterFactory& factory, uint64_t seed,
                    torch::Device device, const LeadingPairs& leading_gradient,
                    const LeadingPairs& leading_inputs = {});
  /// What the model keeps in 8 or 4 bits; said before anything is trained.
  void set_quantized(QuantizedWeights weights) { quantized_ = std::move(weights); }
  /// Memory of the base model's weights as they are kept.
  int64_t model_bytes() const;
  /// Trains every weight of the base.
  void train_base();
  /// Trains the archive's own head (sites with role "head"), but for the weights at the paths `adapted`: what has an
  /// adapter stays as it is. False when the archive has no head.
  bool train_archive_head(const std::set<std::string>& adapted = {});
  /// Takes base weights whose archive names match a glob to what is trained and kept in files, but for those at the
  /// paths `adapted`. A head's are only kept where `heads` is false. Throws Error with every pattern that matches
  /// nothing, or a weight in 8 or 4 bits.
  void train_also(const std::vector<std::string>& patterns, const std::set<std::string>& adapted, bool heads);

  /// Takes weights that no file holds yet to what files of the run hold, whether they are trained or not.
  void keep_started(const std::vector<NamedTensor>& started);
  void set_output_units(OutputUnits units) { units_ = std::move(units); }
  /// A trained base weight from the units that it is trained in to those of model files, and back.
  torch::Tensor in_files(const std::string& name, const torch::Tensor& value) const;
  torch::Tensor in_training(const std::string& name, const torch::Tensor& value) const;

  LanguageModel& model() { return *model_; }
  const std::shared_ptr<ModelWithHead>& new_head() const { return new_head_; }
  const std::vector<AttachedAdapter>& adapters() const { return adapters_; }
  /// Base weights that files hold: trained ones, and those that train_also() only keeps.
  const std::vector<NamedTensor>& trained_base() const { return trained_base_; }
  /// The same in the units of model files.
  std::vector<NamedTensor> trained_base_in_files() const;
  /// Names of the base model's weights that it reads.
  std::set<std::string> base_names() const;

  /// Everything that is trained. `made_head_scale` and `own_head_scale` are the learning rates of a head that was added
  /// and of the model's own, over that of everything else.
  std::vector<ParamGroup> param_groups(double made_head_scale = 1, double own_head_scale = 1) const;
  int64_t trainable_parameters() const;

  /// Everything a file must hold, frozen factors included.
  std::vector<NamedTensor> state() const;
  /// Copies values by name. Throws Error with all missing, unexpected and misshapen names; `where` names the file.
  void load_state(const std::map<std::string, torch::Tensor>& values, const std::string& where);

  /// Merged weights by archive name: W + delta (computed in float32 or wider) for every adapted weight, and trained
  /// base weights.
  std::vector<NamedTensor> merged_weights() const;
  /// The names of these, and one of them: whoever takes them one by one needs memory for one.
  std::vector<std::string> merged_names() const;
  torch::Tensor merged_weight(const std::string& name) const;
  /// Empties every slot: the base model as it was loaded (trained base weights stay).
  void detach();
  /// Puts the adapters back after detach().
  void attach();

 private:
  void keep(const NamedTensor& parameter, bool train);
  std::shared_ptr<LanguageModel> model_;
  std::shared_ptr<ModelWithHead> new_head_;
  std::vector<AttachedAdapter> adapters_;
  std::vector<NamedTensor> trained_base_;
  OutputUnits units_;
  QuantizedWeights quantized_;
};

}  // namespace deeplora
