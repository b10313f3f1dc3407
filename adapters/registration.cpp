#include "adapters/registration.h"

namespace deeplora {

void register_adapter_methods(AdapterMethods& methods) {
  methods.add("none", head_only_method());
  methods.add("full", full_method());
  methods.add("lora", lora_method());
  methods.add("rslora", rslora_method());
  methods.add("deep-lora", deep_lora_method());
  methods.add("lora-plus", lora_plus_method());
  methods.add("dora", dora_method());
  methods.add("pissa", pissa_method());
  methods.add("lora-one", lora_one_method());
  methods.add("polar", polar_method());
}

}  // namespace deeplora
