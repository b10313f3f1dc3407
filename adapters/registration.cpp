#include "adapters/registration.h"

namespace deeplora {

void register_adapter_methods(AdapterMethods& methods) {
  methods.add("none", head_only_method());
  methods.add("full", full_method());
  methods.add("lora", lora_method());
  methods.add("rslora", rslora_method());
  methods.add("deep-lora", deep_lora_method());
}

}  // namespace deeplora
