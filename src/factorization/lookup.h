// Lookups of rows of a table, with what nn.Embedding says of their gradients.
#pragma once

#include <torch/types.h>

namespace deeplora {

struct LookupOptions {
  int64_t padding = -1;       ///< the row that gets no gradient (padding_idx); -1: none
  bool by_frequency = false;  ///< a row's gradient is divided by how often a batch asks for it (scale_grad_by_freq)
};

/// While it lives, look_up() on this thread has these options: whoever calls an adapter knows the layer, the adapter's
/// factors do not.
class LookupScope {
 public:
  explicit LookupScope(LookupOptions options);
  ~LookupScope();
  LookupScope(const LookupScope&) = delete;
  LookupScope& operator=(const LookupScope&) = delete;
  static LookupOptions current();

 private:
  LookupOptions before_;
};

/// Rows of a table [V, D]: ids [...] -> [..., D].
torch::Tensor look_up(const torch::Tensor& table, const torch::Tensor& ids);

}  // namespace deeplora
