// What adapters that look before they start begin with: leading singular pairs of the loss's gradient, and leading
// directions of the layers' inputs, on a few batches of training rows.
#pragma once

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "lm/leading_gradients.h"

namespace deeplora {

class Session;

class StartingDirections {
 public:
  StartingDirections(const Session& session, const std::vector<AdapterSite>& sites)
      : session_(session), sites_(sites) {}
  /// Leading k pairs of the gradient at a site. All sites are computed on the first call (and again should a later one
  /// ask for more).
  SingularPairs gradient(const AdapterSite& site, int64_t k);
  /// Leading k principal directions of a linear site's inputs (AdapterContext::leading_inputs), computed likewise.
  SingularPairs inputs(const AdapterSite& site, int64_t k);

 private:
  struct Found {
    int64_t asked = 0;
    std::map<std::string, SingularPairs> pairs;
  };
  SingularPairs at(Found& found, const AdapterSite& site, int64_t k,
                   const std::function<std::map<std::string, SingularPairs>(int64_t k)>& compute);
  /// Runs `compute` in evaluation mode; the losses it is given come in batches of `batch_size` rows.
  std::map<std::string, SingularPairs> with_losses(
      size_t batch_size, const char* what,
      const std::function<std::map<std::string, SingularPairs>(const StartingLosses&)>& compute) const;

  const Session& session_;
  const std::vector<AdapterSite>& sites_;
  Found gradients_, inputs_;
};

}  // namespace deeplora
