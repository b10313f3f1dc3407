#include "train/fingerprint.h"

namespace deeplora {

std::string fingerprint(const torch::Tensor& tensor) {
  const torch::Tensor whole = tensor.detach().to(torch::kCPU).contiguous();
  Fingerprint print;
  print.add(whole.data_ptr(), whole.nbytes());
  return print.hex();
}

namespace {

void add(Fingerprint& print, std::span<const Example> examples) {
  for (const Example& example : examples) {
    for (const auto* ids : {&example.input_ids, &example.token_type_ids, &example.attention_mask, &example.label_ids,
                            &example.prompt_ids, &example.labels})
      print.add(std::span<const int64_t>(*ids));
    print.add(static_cast<int64_t>(example.references.size()));
    for (const std::string& reference : example.references) print.add(std::string_view(reference));
    print.add(example.label);
    print.add(example.targets.empty() ? 0.0 : example.targets.front());
    for (size_t i = 1; i < example.targets.size(); ++i) print.add(example.targets[i]);
    for (const auto& values : example.tensors)
      for (const double value : values) print.add(value);
    print.add(static_cast<int64_t>(example.labelled));
    print.add(std::string_view(example.query));
    if (example.second > 0) print.add(static_cast<int64_t>(example.second));
    add(print, example.others);
  }
}

}  // namespace

std::string fingerprint(std::span<const Example> examples) {
  Fingerprint print;
  add(print, examples);
  return print.hex();
}

}  // namespace deeplora
