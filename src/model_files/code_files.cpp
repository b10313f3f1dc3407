#include "model_files/code_files.h"

#include "core/error.h"

namespace deeplora {

std::string shown(const SizeLimit& size) {
  if (size.fixed) return cat(*size.fixed);
  if (size.times == 0) return "an expression";
  if (size.free()) return "any";
  const std::string product = size.times == 1 ? "n" : cat(size.times, "*n");
  return size.plus == 0 ? product : cat(product, size.plus < 0 ? " - " : " + ", std::abs(size.plus));
}

std::string shown(const InputLimit& limit) {
  std::vector<std::string> sizes;
  for (const auto& size : limit.sizes) sizes.push_back(shown(size));
  return cat("[", join(sizes), "]");
}

SizeSpan sizes_taken(const ModelFiles& files, size_t dimension) {
  SizeSpan out;
  const auto* code = dynamic_cast<const CodeFiles*>(&files);
  if (code == nullptr) return out;
  for (const auto& [unused, limit] : code->limits()) {
    if (limit.sizes.size() != 2 || !limit.sizes.at(dimension).free()) continue;
    out.least = std::max(out.least, limit.sizes.at(dimension).least.value_or(1));
    out.most = std::min(out.most, limit.sizes.at(dimension).most.value_or(out.most));
  }
  return out;
}

}  // namespace deeplora
