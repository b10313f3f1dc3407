#include "adapters/registration.h"

/// A line a method: its name, and the function of its file that makes it. Methods without adapters (`none`, `full`)
/// read no keys and have an empty factory.
#define DEEPLORA_ADAPTER_METHODS(METHOD) \
  METHOD("none", head_only_method)       \
  METHOD("full", full_method)            \
  METHOD("lora", lora_method)            \
  METHOD("rslora", rslora_method)        \
  METHOD("deep-lora", deep_lora_method)  \
  METHOD("lora-plus", lora_plus_method)  \
  METHOD("dora", dora_method)            \
  METHOD("pissa", pissa_method)          \
  METHOD("lora-one", lora_one_method)    \
  METHOD("lora-ga", lora_ga_method)      \
  METHOD("eva", eva_method)              \
  METHOD("polar", polar_method)

namespace deeplora {

#define DECLARE(name, make) AdapterMethod make();
DEEPLORA_ADAPTER_METHODS(DECLARE)
#undef DECLARE

namespace {

AdapterMethods& from_outside() {
  static AdapterMethods methods("adapter method");
  return methods;
}

}  // namespace

void register_adapter_methods(AdapterMethods& methods) {
#define ADD(name, make) methods.add(name, make());
  DEEPLORA_ADAPTER_METHODS(ADD)
#undef ADD
  for (const auto& name : from_outside().names()) methods.add(name, from_outside().at(name));
}

void add_adapter_method(const std::string& name, AdapterMethod method) {
  AdapterMethods known("adapter method");
  register_adapter_methods(known);
  known.add(name, method);  // refuses a name that is taken
  from_outside().add(name, std::move(method));
}

}  // namespace deeplora
