// Sizes as programs of torch.export say them: an expression in sympy's own notation.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>

namespace deeplora {

/// times * symbol + plus; without a symbol, plus alone.
struct LinearSize {
  std::string symbol;
  int64_t times = 0, plus = 0;

  bool operator==(const LinearSize&) const = default;
};

/// Of "Add(Mul(Integer(2), Symbol('s7', integer=True)), Integer(1))", or of a symbol alone ("s7"). Nothing for texts of
/// another form, of several symbols, with numbers beyond 32 bits, or nested deeper than sizes of inputs are.
std::optional<LinearSize> linear_size(std::string_view text);

}  // namespace deeplora
