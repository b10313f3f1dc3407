// c10d behind Rendezvous, for the files that build process groups on it.
#pragma once

#include <torch/csrc/distributed/c10d/Store.hpp>

#include "core/rendezvous.h"

namespace deeplora {

struct Rendezvous::Store {
  c10::intrusive_ptr<c10d::Store> shared;
};

/// The reason of a c10d or Gloo exception without its place in the source.
std::string reason_of(const std::exception& error);

}  // namespace deeplora
