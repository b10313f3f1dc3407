// Uses one thing of every installed library: what is missing from the package does not compile, link or
// start.
#include <ATen/Functions.h>

#include <iostream>

#include "adapters/registration.h"
#include "core/error.h"
#include "core/random.h"
#include "models/registration.h"

int main() {
  deeplora::AdapterMethods methods("adapter method");
  deeplora::register_adapter_methods(methods);
  deeplora::ModelFamilies families("model family");
  deeplora::register_model_families(families);
  auto generator = deeplora::make_generator(0, "consumer");
  const bool same = at::equal(at::randn({4}, generator), at::randn({4}, deeplora::make_generator(0, "consumer")));
  std::cout << deeplora::nearest("deep-lorra", methods.names()) << " of " << methods.names().size() << " methods, "
            << families.names().size() << " families, streams " << (same ? "repeat" : "differ") << "\n";
  return same && !families.names().empty() ? 0 : 1;
}
