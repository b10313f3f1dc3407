// Operators of other libraries that exported programs call, written out as operators of ATen.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace deeplora {

/// A function in TorchScript that computes what the operator does, and the names of its arguments in order.
struct ForeignOperator {
  std::string function;
  std::vector<std::string> arguments;
};

/// Of "transformers.grouped_mm_fallback.default"; nothing for an operator that is not known.
std::optional<ForeignOperator> foreign_operator(const std::string& path);

/// The source of all these functions.
const char* foreign_operators_code();

}  // namespace deeplora
