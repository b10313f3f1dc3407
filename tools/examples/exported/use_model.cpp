// Labels texts with a classifier that `deeplora export --to torchscript` wrote. LibTorch runs the file; the tokenizer
// is deeplora's (target deeplora::base), which reads texts exactly as the run did.
//
//   use_model merged.pt "i love it" "it broke after a week"
#include <text/tokenizer.h>
#include <torch/script.h>

#include <algorithm>
#include <iomanip>
#include <iostream>
#include <nlohmann/json.hpp>

using nlohmann::json;

namespace {

/// Texts as the model's arguments, int64 [B, T] each: ids, 1 for a token and 0 for padding, 0 or 1 for the segment.
struct Rows {
  torch::Tensor ids, mask, types;
};

Rows encode(const deeplora::Tokenizer& tokenizer, const std::vector<std::string>& texts, int64_t max_length) {
  std::vector<deeplora::Encoding> all;
  size_t longest = 0;
  for (const auto& text : texts) {
    all.push_back(tokenizer.encode(text, std::nullopt, max_length));
    longest = std::max(longest, all.back().ids.size());
  }
  const auto rows = static_cast<int64_t>(all.size()), width = static_cast<int64_t>(longest);
  Rows out{torch::full({rows, width}, std::max<int64_t>(tokenizer.special().pad, 0), torch::kInt64),
           torch::zeros({rows, width}, torch::kInt64), torch::zeros({rows, width}, torch::kInt64)};
  for (int64_t i = 0; i < rows; ++i) {
    auto& row = all[static_cast<size_t>(i)];
    const auto length = static_cast<int64_t>(row.ids.size());
    out.ids[i].slice(0, 0, length).copy_(torch::tensor(row.ids, torch::kInt64));
    out.types[i].slice(0, 0, length).copy_(torch::tensor(row.type_ids, torch::kInt64));
    out.mask[i].slice(0, 0, length).fill_(1);
  }
  return out;
}

/// The arguments in the order in which the file's forward declares them.
std::vector<torch::IValue> arguments_of(const torch::jit::Module& module, const Rows& rows) {
  std::vector<torch::IValue> out;
  for (const auto& argument : module.get_method("forward").function().getSchema().arguments()) {
    if (argument.name() == "input_ids") out.emplace_back(rows.ids);
    if (argument.name() == "attention_mask") out.emplace_back(rows.mask);
    if (argument.name() == "token_type_ids") out.emplace_back(rows.types);
  }
  return out;
}

int use(const std::string& file, const std::vector<std::string>& texts) {
  torch::jit::ExtraFilesMap extra{{"deeplora.json", ""}};
  for (const auto& name : deeplora::tokenizer_file_names()) extra[name] = "";
  torch::jit::Module module = torch::jit::load(file, torch::kCPU, extra);
  module.eval();
  const json about = json::parse(extra.at("deeplora.json"));
  const auto labels = about.at("task_state").at("labels").get<std::vector<std::string>>();
  const auto tokenizer = deeplora::make_tokenizer([&](const std::string& name) -> std::optional<std::string> {
    const auto found = extra.find(name);
    return found == extra.end() || found->second.empty() ? std::nullopt : std::optional(found->second);
  });
  if (!tokenizer) throw std::runtime_error(file + " holds no tokenizer");

  const torch::NoGradGuard no_grad;
  const Rows rows = encode(*tokenizer, texts, about.at("data").at("max_length").get<int64_t>());
  const torch::Tensor logits = module.forward(arguments_of(module, rows)).toTensor();  // [B, C]
  const torch::Tensor probabilities = torch::softmax(logits.to(torch::kFloat64), 1);
  std::cout << std::fixed << std::setprecision(4);
  for (int64_t i = 0; i < logits.size(0); ++i) {
    std::cout << labels.at(static_cast<size_t>(logits[i].argmax().item<int64_t>()));
    for (size_t c = 0; c < labels.size(); ++c)
      std::cout << "\t" << labels[c] << " " << probabilities[i][static_cast<int64_t>(c)].item<double>();
    std::cout << "\n";
  }
  return 0;
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 3) {
    std::cerr << "usage: use_model merged.pt TEXT...\n";
    return 2;
  }
  try {
    return use(argv[1], std::vector<std::string>(argv + 2, argv + argc));
  } catch (const std::exception& e) {
    std::cerr << "error: " << e.what() << "\n";
    return 1;
  }
}
