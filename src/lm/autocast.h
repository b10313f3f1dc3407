// Computing in bfloat16 while weights stay as they are.
#pragma once

#include <ATen/autocast_mode.h>
#include <c10/core/Device.h>

namespace deeplora {

/// Switches LibTorch's autocast to bfloat16 on a device type while alive; with `enabled` false nothing
/// happens. The destructor restores the former mode and drops the cached casts, which would otherwise outlive
/// a change of the weights.
class AutocastGuard {
 public:
  AutocastGuard(c10::Device device, bool enabled)
      : type_(device.type()),
        enabled_(enabled),
        was_enabled_(at::autocast::is_autocast_enabled(type_)),
        former_type_(at::autocast::get_autocast_dtype(type_)) {
    if (!enabled_) return;
    at::autocast::set_autocast_enabled(type_, true);
    at::autocast::set_autocast_dtype(type_, at::kBFloat16);
    at::autocast::increment_nesting();
  }
  ~AutocastGuard() {
    if (!enabled_) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(type_, was_enabled_);
    at::autocast::set_autocast_dtype(type_, former_type_);
  }
  AutocastGuard(const AutocastGuard&) = delete;
  AutocastGuard& operator=(const AutocastGuard&) = delete;

 private:
  c10::DeviceType type_;
  bool enabled_, was_enabled_;
  at::ScalarType former_type_;
};

}  // namespace deeplora
