// Messages of Errors. Free of LibTorch.
#pragma once

#include <string>

#include "core/error.h"

namespace deeplora::testing {

/// The message of the Error that `action` throws, or "no error".
template <class Action>
std::string error_of(Action action) {
  try {
    action();
  } catch (const Error& e) {
    return e.what();
  }
  return "no error";
}

}  // namespace deeplora::testing
