// bfloat16 autocast for a scope.
#pragma once

#include <ATen/autocast_mode.h>

namespace deeplora {

/// While alive and `on`, matrix products of `device` run in bfloat16; weights and factors keep their dtype.
class Autocast {
 public:
  Autocast(torch::Device device, bool on) : device_(device.type()), on_(on) {
    if (!on_) return;
    before_ = at::autocast::is_autocast_enabled(device_);
    dtype_before_ = at::autocast::get_autocast_dtype(device_);
    at::autocast::set_autocast_enabled(device_, true);
    at::autocast::set_autocast_dtype(device_, at::kBFloat16);
    at::autocast::increment_nesting();
  }
  ~Autocast() {
    if (!on_) return;
    if (at::autocast::decrement_nesting() == 0) at::autocast::clear_cache();
    at::autocast::set_autocast_enabled(device_, before_);
    at::autocast::set_autocast_dtype(device_, dtype_before_);
  }
  Autocast(const Autocast&) = delete;
  Autocast& operator=(const Autocast&) = delete;

 private:
  at::DeviceType device_;
  bool on_, before_ = false;
  at::ScalarType dtype_before_ = at::kFloat;
};

}  // namespace deeplora
