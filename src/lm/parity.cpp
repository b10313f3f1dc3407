#include "lm/parity.h"

#include <torch/torch.h>

#include "core/long_work.h"
#include "core/random.h"
#include "model_files/code_files.h"

namespace deeplora {
namespace {

std::string where_they_part(const ReferenceForward& reference, LanguageModel& model, const Batch& batch,
                            double tolerance) {
  const auto ours = model.checkpoints(batch);
  const auto theirs = reference.layer_norms(batch);
  for (size_t i = 0; i < ours.size() && i < theirs.size(); ++i) {
    if (ours[i].second.sizes() != theirs[i].sizes())
      return cat("they part at ", ours[i].first, ": expected shape ", theirs[i].sizes(), ", found ",
                 ours[i].second.sizes());
    const double difference = relative_difference(ours[i].second, theirs[i], batch.attention_mask);
    if (!(difference <= tolerance))
      return cat("they part at ", ours[i].first, " (relative difference ", difference, ")");
  }
  if (ours.empty()) return "the family cannot tell where they part";
  return ours.size() <= theirs.size() ? "they part after the last layer" : "they part in the output";
}

/// [rows, shape]: between least and most, which are the first two values.
torch::Tensor drawn_tensor(const TensorInput& input, int64_t rows, at::Generator generator) {
  std::vector<int64_t> shape{rows};
  shape.insert(shape.end(), input.shape.begin(), input.shape.end());
  torch::Tensor out = torch::rand(shape, generator, torch::kFloat64) * (input.most - input.least) + input.least;
  if (!torch::isFloatingType(input.dtype)) out = out.round();
  out.view(-1)[0] = input.most;
  if (out.numel() > 1) out.view(-1)[1] = input.least;
  return out.to(input.dtype);
}

/// probe_batch() of exactly so many tokens.
Batch batch_of(const ModelFiles& archive, LanguageModel& model, int64_t tokens, int64_t rows) {
  Batch batch;
  batch.tensors = probe_tensors(model.tensor_inputs(), rows);
  if (!model.takes_ids()) return batch;
  int64_t vocabulary = 0, known = 0;  // a table of positions may be longer than that of the words
  for (const auto& site : model.sites()) {
    if (site.kind != SiteKind::embedding) continue;
    vocabulary = std::max(vocabulary, site.weight.size(0));
    if (site.reads_ids) known = known == 0 ? site.weight.size(0) : std::min(known, site.weight.size(0));
  }
  if (known > 0) vocabulary = known;
  if (vocabulary == 0) vocabulary = 32;
  const int64_t pad = archive.config().value("pad_token_id", int64_t{0});
  auto generator = make_generator(0, "probe");
  const int64_t lowest = vocabulary > 16 ? 5 : 1;  // special tokens come first in most vocabularies
  batch.input_ids =
      torch::randint(std::min(lowest, vocabulary - 1), vocabulary, {rows, tokens}, generator, torch::kInt64);
  batch.input_ids = torch::where(batch.input_ids == pad,
                                 torch::full_like(batch.input_ids, std::min(vocabulary - 1, pad + 1)), batch.input_ids);
  batch.attention_mask = torch::ones({rows, tokens}, torch::kInt64);
  for (int64_t row = 1; row < rows && model.takes_padding(); ++row) {
    const int64_t length = row == 1 ? std::max<int64_t>(1, tokens * 2 / 3) : 1 + (5 * row) % tokens;
    batch.attention_mask[row].slice(0, length).zero_();
  }
  batch.input_ids.masked_fill_(batch.attention_mask == 0, pad);
  batch.token_type_ids = torch::zeros({rows, tokens}, torch::kInt64);
  const auto& inputs = archive.inputs();
  if (std::find(inputs.begin(), inputs.end(), "decoder_input_ids") != inputs.end())
    batch.decoder_input_ids = batch.input_ids.flip({0, 1}).slice(1, 0, std::max<int64_t>(1, tokens - 3)).contiguous();
  return batch;
}

/// Whether some table, parameter or buffer could be one of positions that end before `tokens`. Wrong ones (two
/// segments, two classes) cost a pass.
bool may_end_before(const ModelFiles& archive, int64_t tokens) {
  constexpr int64_t kFirst = 2;  // RoBERTa and OPT begin behind the padding's
  return std::any_of(archive.tensors().begin(), archive.tensors().end(), [&](const NamedTensor& tensor) {
    const torch::Tensor& value = tensor.value;
    return value.dim() >= 2 &&
           std::min(value.size(0) > 1 ? value.size(0) : value.size(1), value.size(1)) < tokens + kFirst;
  });
}

bool runs(LanguageModel& model, const Batch& batch) {
  const torch::NoGradGuard no_grad;
  const bool was_training = model.is_training();
  model.eval();
  bool out = true;
  try {
    model.forward(batch);
  } catch (const std::exception&) {  // what the matter is will be said when it is probed in earnest
    out = false;
  }
  model.train(was_training);
  return out;
}

}  // namespace

std::map<std::string, torch::Tensor> probe_tensors(const std::vector<TensorInput>& inputs, int64_t rows) {
  std::map<std::string, torch::Tensor> out;
  for (const auto& input : inputs)
    out[input.name] = drawn_tensor(input, rows, make_generator(0, "probe/" + input.name));
  return out;
}

double relative_difference(const torch::Tensor& a, const torch::Tensor& b, const torch::Tensor& mask) {
  torch::Tensor difference = (a.to(torch::kCPU, torch::kFloat64) - b.to(torch::kCPU, torch::kFloat64)).abs();
  torch::Tensor size = b.to(torch::kCPU, torch::kFloat64).abs();
  if (a.dim() == 3 && mask.defined()) {
    const torch::Tensor keep = mask.to(torch::kCPU, torch::kFloat64).unsqueeze(-1);
    difference = difference * keep;
    size = size * keep;
  }
  return difference.max().item<double>() / std::max(size.max().item<double>(), 1e-12);
}

double dtype_tolerance(const ModelFiles& archive, double half, double bfloat16) {
  double tolerance = 1e-4;
  for (const auto& [unused, value] : archive.tensors()) {
    if (value.scalar_type() == torch::kHalf) tolerance = std::max(tolerance, half);
    if (value.scalar_type() == torch::kBFloat16) tolerance = std::max(tolerance, bfloat16);
  }
  return tolerance;
}

Batch probe_batch(const ModelFiles& archive, LanguageModel& model, int64_t tokens, int64_t rows) {
  const SizeSpan span = sizes_taken(archive, 1);
  rows = sizes_taken(archive, 0).nearest(rows);
  if (tokens > 0) return batch_of(archive, model, span.nearest(tokens), rows);
  const int64_t most = span.nearest(12);
  Batch wanted = batch_of(archive, model, most, rows);
  if (!model.takes_ids() || !may_end_before(archive, most)) return wanted;
  const torch::Device device = archive.tensors().front().value.device();
  for (const int64_t fewer : {most, int64_t{8}, int64_t{6}, int64_t{4}, int64_t{3}, int64_t{2}, int64_t{1}}) {
    Batch batch = fewer == most ? wanted : batch_of(archive, model, fewer, rows);
    if (runs(model, batch.to(device))) return batch;
  }
  return wanted;
}

torch::Tensor output_mask(const Batch& batch) {
  if (batch.decoder_input_ids.defined()) return torch::ones_like(batch.decoder_input_ids);
  if (batch.attention_mask.defined()) return batch.attention_mask;
  return batch.input_ids.defined() ? torch::ones_like(batch.input_ids) : torch::Tensor();
}

ParityResult compare_with_reference(const ModelFiles& archive, const ReferenceForward& reference,
                                    LanguageModel& model) {
  torch::NoGradGuard no_grad;
  const LongWork work("comparing the model with its file's own code");
  const bool was_training = model.is_training();
  model.eval();
  const double tolerance = dtype_tolerance(archive, 2e-2, 1e-1);
  const Batch batch = probe_batch(archive, model);
  const torch::Tensor theirs = reference(batch);
  const torch::Tensor ours = output_of(model.forward(batch));
  ParityResult result;
  if (ours.sizes() != theirs.sizes()) {
    result.message = cat("expected output shape ", theirs.sizes(), ", found ", ours.sizes());
  } else {
    result.difference = relative_difference(ours, theirs, output_mask(batch));
    result.equal = result.difference <= tolerance;
    if (!result.equal)
      result.message = cat("relative difference ", result.difference, ", allowed ", tolerance, "; ",
                           where_they_part(reference, model, batch, tolerance));
  }
  model.train(was_training);
  return result;
}

}  // namespace deeplora
