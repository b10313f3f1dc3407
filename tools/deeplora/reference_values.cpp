#include "reference_values.h"

#include <torch/torch.h>

#include "core/log.h"
#include "model_files/tensor_file.h"
#include "session.h"
#include "text/row_errors.h"
#include "core/number_text.h"
#include "train/fingerprint.h"

namespace deeplora {
namespace {
namespace fs = std::filesystem;

fs::path file_of(const fs::path& run) { return run / "reference.safetensors"; }

torch::Tensor values_of(std::span<const Example> examples) {
  std::vector<double> all;
  for (const Example& example : examples) all.insert(all.end(), example.reference.begin(), example.reference.end());
  return torch::tensor(all, torch::kFloat64).view({static_cast<int64_t>(examples.size()), -1});
}

void put_values(const torch::Tensor& values, std::span<Example> examples) {
  const torch::Tensor rows = values.contiguous();
  const auto width = static_cast<size_t>(rows.size(1));
  const double* at = rows.const_data_ptr<double>();
  for (Example& example : examples) {
    example.reference.assign(at, at + width);
    at += width;
  }
}

}  // namespace

ReferenceValues ReferenceValues::read(const fs::path& run, const std::string& model_fingerprint) {
  ReferenceValues out;
  const fs::path file = file_of(run);
  std::error_code ignored;
  if (!fs::exists(file, ignored)) return out;
  const TensorFile found = load_tensors(file);
  const auto model = found.metadata.find("base_fingerprint");
  check(model != found.metadata.end() && model->second == model_fingerprint, file.string(),
        " belongs to another model than this run's; remove it, and it is made anew");
  for (const auto& [split, values] : found.tensors) {
    const auto rows = found.metadata.find("rows of " + split);
    check(rows != found.metadata.end() && values.dim() == 2 && values.scalar_type() == torch::kFloat64, file.string(),
          ": ", split,
          ": expected [rows, values] in float64 with the rows' checksum; remove the file, and it is made anew");
    out.kept_[split] = {rows->second, values};
  }
  return out;
}

void ReferenceValues::give(const Session& session, const std::string& split, std::span<Example> examples,
                           ProcessGroup* group) {
  if (!session.task().needs_reference() || examples.empty()) return;
  const std::string rows = fingerprint(std::span<const Example>(examples));
  const auto found = kept_.find(split);
  const auto count = static_cast<int64_t>(examples.size());
  std::string width;  // of what is kept; empty: nothing is
  if (found != kept_.end() && found->second.rows == rows && found->second.values.size(0) == count)
    width = std::to_string(found->second.values.size(1));
  if (group) width = group->broadcast(width);
  if (!width.empty()) {
    torch::Tensor values =
        !group || group->leads() ? found->second.values : torch::empty({count, std::stoll(width)}, torch::kFloat64);
    if (group) group->broadcast({values});
    return put_values(values, examples);
  }
  log_info("reference: ", with_commas(examples.size()), split.empty() ? "" : " " + split,
           " rows under the model as it was loaded");
  EvaluationOptions options = session.evaluation();
  options.group = group;
  session.as_loaded([&] { session.task().refer(session.model(), examples, options); });
  kept_[split] = {rows, values_of(examples)};
}

void ReferenceValues::write(const fs::path& run, const std::string& model_fingerprint) const {
  if (kept_.empty()) return;
  std::vector<NamedTensor> tensors;
  std::map<std::string, std::string> metadata{{"base_fingerprint", model_fingerprint}};
  for (const auto& [split, kept] : kept_) {
    tensors.push_back({split, kept.values});
    metadata["rows of " + split] = kept.rows;
  }
  save_tensors(file_of(run), tensors, metadata);
}

}  // namespace deeplora
