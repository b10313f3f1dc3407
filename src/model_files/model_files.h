// The files that one model lies in: tensors by name, settings and extra files. No graph and no forward pass.
#pragma once

#include <torch/types.h>

#include <filesystem>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "core/findings.h"
#include "core/json_file.h"
#include "core/optimizer.h"
#include "model_files/class_head.h"
#include "model_files/stored_tensors.h"

namespace deeplora {

/// A head that lies beside the model's own module: no model of transformers has it.
struct OwnHead {
  std::string module;       ///< its weight and bias are "module.weight", "module.bias"
  std::string pooling;      ///< of the base's states
  bool normalized = false;  ///< what was pooled is divided by its length
};

/// Kind of Findings: how fingerprint() is computed, and that all numbers are finite.
inline constexpr const char* kFingerprintFindings = "fingerprint of megabytes, finite, 1";

/// What every kind of model file has. A kind fills the protected members when it is opened.
class ModelFiles {
 public:
  virtual ~ModelFiles() = default;

  /// What the user named: a file or a folder.
  const std::filesystem::path& file() const { return file_; }
  /// "TorchScript archive", "Hugging Face folder": for messages.
  virtual std::string kind() const = 0;
  /// Whether they hold code that computes the model: then a native family is compared with it.
  virtual bool holds_code() const { return false; }
  /// The form of `deeplora export` that makes such files again, and how their names end.
  virtual std::pair<std::string, std::string> merged_form() const { return {"safetensors", ""}; }
  /// Names of the inputs that the model takes.
  const std::vector<std::string>& inputs() const { return inputs_; }
  /// What the model gives, for people.
  virtual std::string output_type() const = 0;

  /// Parameters, then buffers, under the names of the file. Values look into the file, or are the kind's own.
  const std::vector<NamedTensor>& tensors() const { return tensors_; }
  /// How many of tensors(), from the first, are parameters.
  size_t parameters() const { return parameters_; }
  std::vector<std::string> names() const;
  bool has(const std::string& name) const { return index_.count(name) != 0; }
  /// The tensor of that name; Error with the nearest name otherwise.
  const torch::Tensor& tensor(const std::string& name) const;
  /// Overwrites the values in place (cast to the file's dtype); Error unless the shape is the same. The file itself
  /// stays as it is.
  void set_tensor(const std::string& name, const torch::Tensor& value);
  /// From here on, memory of mapped files that a check reads is given back behind it: for a model of which nothing is
  /// changed, and that will hardly be read again.
  void leave_what_is_checked() { leaves_checked_ = true; }
  /// Throws Error, naming the weight and the place in it, when a parameter holds a NaN or an infinity (buffers may:
  /// masks do).
  void check_finite() const;
  /// Throws Error unless the weights are those of `other`: an export reads its model again, and somebody may have
  /// replaced the file.
  void check_same(const ModelFiles& other) const;
  /// Throws Error when a file whose weights are read where they lie was written to since it was opened.
  void check_untouched() const;
  /// The file, for weights that are to be left in it.
  const std::shared_ptr<const StoredTensors>& stored() const { return stored_; }
  /// A head in a file of its own; see own_head_of().
  const std::optional<OwnHead>& head_beside() const { return head_beside_; }
  /// Puts the family's own head for classifying texts on the model: `started` are those of its weights that the files
  /// lack. They become parameters, in memory alone; the fingerprint stays that of the files.
  void put_head(ClassHead head, std::vector<NamedTensor> started);
  const std::optional<ClassHead>& class_head() const { return class_head_; }
  /// Weights of that head that the files lack.
  const std::vector<NamedTensor>& started() const { return started_; }
  bool is_started(const std::string& name) const;
  /// Leaves those tensors to the file of which `taken`, under their names, are copies in another dtype: a model that
  /// widened half precision does not read them again.
  void leave_widened(const std::vector<NamedTensor>& taken) const;
  /// Floating-point and other parameters together (buffers not counted, weights with several names once).
  int64_t parameter_count() const;
  /// Of all tensors.
  int64_t bytes() const;

  /// Content of the extra file ("tokenizer.json"), if it is there.
  std::optional<std::string> extra(const std::string& name) const;
  const std::map<std::string, std::string>& extras() const { return extras_; }
  /// That extra file as a JSON object; empty when it is not there. Throws Error when it is something else.
  JsonFile json(const std::string& name) const;
  /// config.json (Hugging Face), or an empty object.
  const JsonFile& config() const { return config_; }
  /// export.json of tools/export_torchscript.py, or an empty object.
  const JsonFile& export_info() const { return export_info_; }
  /// deeplora.json: what our own export wrote (task, labels), or an empty object.
  const JsonFile& deeplora_info() const { return deeplora_info_; }

  /// 16 hexadecimal digits over names, shapes, dtypes and bytes of all tensors: the identity of the weights. Of bytes
  /// the checksums of their megabytes count, which threads compute. Remembered for files that do not change
  /// (core/findings.h).
  const std::string& fingerprint() const;
  /// Whether that is the fingerprint of these weights. One that an earlier version made, of the bytes in one row,
  /// becomes the files' own: what is compared with it later was written by that version too.
  bool is(const std::string& fingerprint) const;

 protected:
  /// Reads the three JSON files that the project itself asks for out of extras_.
  void read_settings();
  void add_tensor(std::string name, torch::Tensor value);

  std::filesystem::path file_;
  std::shared_ptr<const StoredTensors> stored_;
  size_t parameters_ = 0;  ///< how many of the tensors, from the first, are parameters
  std::vector<std::string> inputs_;
  std::map<std::string, std::string> extras_;
  std::optional<OwnHead> head_beside_;
  std::optional<Findings> findings_;  ///< about the files that decide names and values of the tensors

 private:
  std::vector<NamedTensor> tensors_;
  std::map<std::string, size_t> index_;
  JsonFile config_, export_info_, deeplora_info_;
  std::optional<ClassHead> class_head_;
  std::vector<NamedTensor> started_;
  /// Reads every byte once, for the fingerprint and for numbers that are not finite; or remembers what was found.
  void look() const;
  std::string serial_fingerprint() const;
  mutable std::string fingerprint_;
  mutable bool looked_ = false;
  mutable std::optional<size_t> not_finite_;  ///< the first parameter that holds such a number
  bool changed_ = false;                      ///< the values are no longer the files'
  bool leaves_checked_ = false;
  void checked(const torch::Tensor& value) const {
    if (leaves_checked_ && stored_) stored_->let_go(value);
  }
};

}  // namespace deeplora
