#include "tasks/row_tensors.h"

#include <torch/torch.h>

#include <algorithm>
#include <cmath>

#include "text/row_errors.h"

namespace deeplora {
namespace {

using Json = nlohmann::ordered_json;

/// What the numbers of a field are. A higher kind holds the lower ones.
enum class NumberKind { truth, whole, real };

struct FieldNumbers {
  std::vector<int64_t> shape;
  std::vector<double> values;
  NumberKind kind = NumberKind::truth;
};

constexpr double kLargestWhole = 9007199254740992.0;  // 2^53: below it a double counts without gaps

std::string number_place(const std::string& field, const std::vector<size_t>& path) {
  std::string out = field;
  for (const size_t i : path) out += cat("[", i, "]");
  return out;
}

void add_number(const Json& value, const std::string& field, const std::vector<size_t>& path, FieldNumbers& out) {
  check(value.is_boolean() || value.is_number(), number_place(field, path), ": expected a number, found ",
        shown(value));
  const double number = value.is_boolean() ? (value.get<bool>() ? 1.0 : 0.0) : value.get<double>();
  const NumberKind kind = value.is_boolean()          ? NumberKind::truth
                          : value.is_number_integer() ? NumberKind::whole
                                                      : NumberKind::real;
  check(kind != NumberKind::whole || std::abs(number) < kLargestWhole, number_place(field, path), ": ", value.dump(),
        " is no whole number below 2^53, up to which they are read exactly");
  out.kind = std::max(out.kind, kind);
  out.values.push_back(number);
}

/// Walks down a nested list; the first element at each depth decides how long the lists there are.
void add_values(const Json& value, const std::string& field, std::vector<size_t>& path, FieldNumbers& out) {
  const size_t depth = path.size();
  if (!value.is_array()) {
    check(depth == out.shape.size(), number_place(field, path), ": expected a list, as before it, found ",
          shown(value));
    return add_number(value, field, path, out);
  }
  check(!value.empty(), number_place(field, path), ": an empty list");
  const auto length = static_cast<int64_t>(value.size());
  if (depth == out.shape.size()) {
    check(out.values.empty(), number_place(field, path), ": expected a number as before it, found a list");
    out.shape.push_back(length);
  }
  check(out.shape[depth] == length, number_place(field, path), ": a list of ", length, " beside lists of ",
        out.shape[depth], "; a tensor's lists are of equal length");
  for (size_t i = 0; i < value.size(); ++i) {
    path.push_back(i);
    add_values(value[i], field, path, out);
    path.pop_back();
  }
}

/// The numbers of a field. Tables have them as text: 0.5, [1, 2].
FieldNumbers numbers_of(const Row& row, const std::string& field) {
  const auto found = row.fields.find(field);
  if (found == row.fields.end()) {
    std::vector<std::string> there;
    for (const auto& item : row.fields.items()) there.push_back(item.key());
    fail("no field '", field, "', which the model takes as a tensor", did_you_mean(field, there),
         "; fields there: ", join(there),
         "; where that input is token ids or a mask, say so: model.inputs.input_ids: ", field,
         "; where rows call it otherwise, name their field: model.inputs.FIELD: ", field);
  }
  Json value = *found;
  if (value.is_string()) {
    check(!nests_too_deep(value.get_ref<const std::string&>()), field, ": nests deeper than ", kDeepestJson, " levels");
    value = Json::parse(value.get_ref<const std::string&>(), nullptr, /*allow_exceptions=*/false);
    check(value.is_array() || value.is_number() || value.is_boolean(), field,
          ": expected numbers (0.5, [0.5, 1.5], ...), found '", shortened(found->get<std::string>(), 80), "'");
  }
  FieldNumbers out;
  std::vector<size_t> path;
  add_values(value, field, path, out);
  return out;
}

std::string row_shape(const std::vector<int64_t>& shape) {
  return shape.empty() ? "a single number" : cat("[", join(shape, ", ", shape.size()), "]");
}

void check_shape(const FieldNumbers& numbers, const TensorInput& input) {
  check(numbers.shape == input.shape, input.name, ": expected ", row_shape(input.shape),
        " as in the first training row, found ", row_shape(numbers.shape));
}

void check_fits(const FieldNumbers& numbers, const TensorInput& input) {
  if (torch::isFloatingType(input.dtype)) return;
  for (const double value : numbers.values) {
    const bool fits = input.dtype == torch::kBool    ? value == 0 || value == 1
                      : input.dtype == torch::kInt32 ? value == std::trunc(value) && std::abs(value) < 2147483648.0
                                                     : value == std::trunc(value);
    check(fits, input.name, ": expected ",
          input.dtype == torch::kBool ? "true, false, 0 or 1" : "whole numbers as in the training rows", ", found ",
          value, " (model.inputs.", input.name, ".dtype says what the model takes)");
  }
}

/// Names of dtypes as task.json has them.
const std::map<std::string, torch::ScalarType>& stored_dtypes() {
  static const std::map<std::string, torch::ScalarType> names{
      {"bool", torch::kBool},       {"int32", torch::kInt32},       {"int64", torch::kInt64},
      {"float16", torch::kFloat16}, {"bfloat16", torch::kBFloat16}, {"float32", torch::kFloat32},
      {"float64", torch::kFloat64}};
  return names;
}

std::string dtype_name(torch::ScalarType dtype) {
  for (const auto& [name, value] : stored_dtypes())
    if (value == dtype) return name;
  return "float32";
}

}  // namespace

std::string tensors_shown(const std::vector<TensorInput>& inputs) {
  std::vector<std::string> out;
  for (const auto& input : inputs)
    out.push_back(
        cat(input.name, " ", input.shape.empty() ? "" : row_shape(input.shape) + " ", dtype_name(input.dtype)));
  return join(out, ", ", 8);
}

void RowTensors::use(std::vector<std::string> fields, bool beside_text) {
  fields_ = std::move(fields);
  beside_text_ = beside_text;
}

void RowTensors::fit(std::span<const Row> rows) {
  inputs_.clear();
  RowErrors errors;
  for (const auto& field : fields_) {
    TensorInput input{.name = field};
    NumberKind kind = NumberKind::truth;
    bool first = true;
    for (const auto& row : rows) {
      try {
        const FieldNumbers numbers = numbers_of(row, field);
        const auto [least, most] = std::minmax_element(numbers.values.begin(), numbers.values.end());
        if (first) {
          input.shape = numbers.shape;
          input.least = *least;
          input.most = *most;
        }
        first = false;
        check_shape(numbers, input);
        input.least = std::min(input.least, *least);
        input.most = std::max(input.most, *most);
        kind = std::max(kind, numbers.kind);
      } catch (const Error& e) {
        errors.add(row.source, e.what());
      }
    }
    input.dtype = kind == NumberKind::truth   ? torch::kBool
                  : kind == NumberKind::whole ? torch::kInt64
                                              : torch::kFloat32;
    inputs_.push_back(std::move(input));
  }
  errors.throw_if_any("data.train");
}

std::vector<std::vector<double>> RowTensors::read(const Row& row) const {
  std::vector<std::vector<double>> out;
  for (const auto& input : inputs_) {
    try {
      FieldNumbers numbers = numbers_of(row, input.name);
      check_shape(numbers, input);
      check_fits(numbers, input);
      out.push_back(std::move(numbers.values));
    } catch (const Error& e) {
      fail(row.source, ": ", e.what());
    }
  }
  return out;
}

std::map<std::string, torch::Tensor> RowTensors::collate(std::span<const Example* const> examples) const {
  std::map<std::string, torch::Tensor> out;
  for (size_t i = 0; i < inputs_.size(); ++i) {
    std::vector<int64_t> shape{static_cast<int64_t>(examples.size())};
    shape.insert(shape.end(), inputs_[i].shape.begin(), inputs_[i].shape.end());
    torch::Tensor all = torch::empty(shape, torch::kFloat64);
    double* to = all.data_ptr<double>();
    for (const Example* example : examples) to = std::copy(example->tensors[i].begin(), example->tensors[i].end(), to);
    out[inputs_[i].name] = all.to(inputs_[i].dtype);
  }
  return out;
}

std::string RowTensors::text_of(const Row& row) const {
  std::string out;
  for (const auto& field : fields_)
    if (const auto found = row.fields.find(field); found != row.fields.end()) out += cat(found->dump(), '\0');
  return out;
}

void RowTensors::add_to(Json& state) const {
  for (const auto& input : inputs_)
    state["tensors"].push_back({{"name", input.name},
                                {"shape", input.shape},
                                {"dtype", dtype_name(input.dtype)},
                                {"least", input.least},
                                {"most", input.most}});
}

void RowTensors::restore(const OrderedJsonFile& state) {
  inputs_.clear();
  std::vector<std::string> names;
  if (state.has("tensors")) {
    const Json& all = state.root["tensors"];
    check(all.is_array(), state.name, ": tensors: expected a list, found ", shown(all));
    for (size_t i = 0; i < all.size(); ++i) {
      const OrderedJsonFile one{cat(state.name, ": tensors[", i, "]"), all[i]};
      const auto dtype = stored_dtypes().find(one.at<std::string>("dtype"));
      check(dtype != stored_dtypes().end(), one.name, ": dtype: '", one.at<std::string>("dtype"), "' is none");
      inputs_.push_back({one.at<std::string>("name"), one.at<std::vector<int64_t>>("shape"), dtype->second,
                         one.at<double>("least"), one.at<double>("most")});
      for (const int64_t size : inputs_.back().shape)
        check(size > 0, one.name, ": shape: expected sizes from 1, found ", size);
      names.push_back(inputs_.back().name);
    }
  }
  check(names == fields_, state.name, ": tensors: it was trained on rows with ", names.empty() ? "none" : join(names),
        ", but the model takes ", fields_.empty() ? "none" : join(fields_));
}

}  // namespace deeplora
