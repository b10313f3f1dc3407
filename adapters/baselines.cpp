// What adapters are measured against: training the head alone, and training every weight.
#include "adapters/registration.h"

namespace deeplora {

AdapterMethod head_only_method() {
  AdapterMethod method;
  method.trains = AdapterMethod::Trains::head_only;
  method.configure = [](const Config&) { return AdapterFactory(); };
  method.summary = "no adapter: trains the head on the frozen model";
  method.default_lr = 5e-3;
  return method;
}

AdapterMethod full_method() {
  AdapterMethod method;
  method.trains = AdapterMethod::Trains::base;
  method.uses_weights = "trains the weights themselves";
  method.configure = [](const Config&) { return AdapterFactory(); };
  method.summary = "full fine-tuning: trains every weight of the model";
  method.default_lr = 5e-5;
  return method;
}

}  // namespace deeplora
