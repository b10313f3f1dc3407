// What a program of torch.export demands of the sizes of its inputs, beyond the bounds of each: Python expressions.
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

/// "L['x'].size()[1] == L['mask'].size()[1]": whole numbers, sizes, + - * // % max min, comparisons, and, or, not.
class SizeGuard {
 public:
  /// By argument ("x"), or entry of a dict argument ("batch.x").
  using Sizes = std::map<std::string, std::vector<int64_t>>;
  struct Part;

  /// Throws Error, naming `where`, for an expression of another form or one that nests too deep.
  static SizeGuard parse(const std::string& where, std::string_view text);

  /// False also where it cannot be computed (a division by 0); true where it asks for an input that is not given.
  bool holds(const Sizes& sizes) const;
  /// "x.size(1) == mask.size(1)", cut where it is very long.
  const std::string& shown() const { return shown_; }

 private:
  std::shared_ptr<const Part> root_;
  std::string shown_;
};

}  // namespace deeplora
