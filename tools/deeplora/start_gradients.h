// Gradient of the loss in every target weight on a few batches of training rows: what spectral initialisations start from.
#pragma once

#include <map>
#include <string>
#include <vector>

#include "lm/language_model.h"

namespace deeplora {

class Session;

class StartGradients {
 public:
  StartGradients(const Session& session, const std::vector<AdapterSite>& sites) : session_(session), sites_(sites) {}
  /// [out, in]; all sites are computed on the first call, and each is handed out once.
  torch::Tensor at(const AdapterSite& site);

 private:
  void compute();
  const Session& session_;
  const std::vector<AdapterSite>& sites_;
  std::map<std::string, torch::Tensor> gradients_;
};

}  // namespace deeplora
