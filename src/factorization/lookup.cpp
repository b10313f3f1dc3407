#include "factorization/lookup.h"

#include <torch/torch.h>

#include <utility>

namespace deeplora {
namespace {

thread_local LookupOptions lookup_options;

}  // namespace

LookupScope::LookupScope(LookupOptions options) : before_(std::exchange(lookup_options, options)) {}

LookupScope::~LookupScope() { lookup_options = before_; }

LookupOptions LookupScope::current() { return lookup_options; }

torch::Tensor look_up(const torch::Tensor& table, const torch::Tensor& ids) {
  return at::embedding(table, ids, lookup_options.padding, lookup_options.by_frequency);
}

}  // namespace deeplora
