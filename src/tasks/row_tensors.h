// Tensors that rows carry by name: "x": [0.1, 0.2], nested lists for more dimensions.
#pragma once

#include <span>
#include <string>
#include <vector>

#include "core/json_file.h"
#include "lm/language_model.h"
#include "tasks/task.h"
#include "text/table.h"

namespace deeplora {

/// "x [8] float32, y int64", for messages.
std::string tensors_shown(const std::vector<TensorInput>& inputs);

/// The fields of rows that a model takes as tensors, as the training rows have them. Without any it does nothing.
class RowTensors {
 public:
  /// The fields, of a model that takes them; `beside_text`: next to a text or input_ids.
  void use(std::vector<std::string> fields, bool beside_text);
  bool any() const { return !fields_.empty(); }
  bool instead_of_text() const { return any() && !beside_text_; }
  const std::vector<std::string>& fields() const { return fields_; }

  /// Learns shapes, kinds of numbers and their range. Throws Error with every row that has no such field, holds
  /// anything but numbers, lists of different lengths in one list, or another shape than the first row.
  void fit(std::span<const Row> rows);
  const std::vector<TensorInput>& inputs() const { return inputs_; }
  void set_inputs(std::vector<TensorInput> inputs) { inputs_ = std::move(inputs); }

  /// The values of a row in the order of inputs(). Throws Error naming row.source as fit() does, and for a number that
  /// its input's dtype cannot hold.
  std::vector<std::vector<double>> read(const Row& row) const;
  /// name -> [B, shape]
  std::map<std::string, torch::Tensor> collate(std::span<const Example* const> examples) const;
  /// What rows agree in that are the same to the model.
  std::string text_of(const Row& row) const;
  /// {"tensors": [...]} into the task's state, where there are any, and back. Throws Error for what is none, or does
  /// not fit the model's fields.
  void add_to(nlohmann::ordered_json& state) const;
  void restore(const OrderedJsonFile& state);

 private:
  std::vector<std::string> fields_;
  bool beside_text_ = false;
  std::vector<TensorInput> inputs_;
};

}  // namespace deeplora
