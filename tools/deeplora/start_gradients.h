// Leading singular pairs of the loss's gradient on a few batches of training rows: what spectral initialisations start
// from.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "lm/leading_gradients.h"

namespace deeplora {

class Session;

class StartGradients {
 public:
  StartGradients(const Session& session, const std::vector<AdapterSite>& sites) : session_(session), sites_(sites) {}
  /// Leading k pairs at a site. All sites are computed on the first call (and again should a later one ask for more).
  SingularPairs at(const AdapterSite& site, int64_t k);

 private:
  void compute(int64_t k);
  const Session& session_;
  const std::vector<AdapterSite>& sites_;
  int64_t computed_ = 0;  ///< pairs asked for
  std::map<std::string, SingularPairs> pairs_;
};

}  // namespace deeplora
