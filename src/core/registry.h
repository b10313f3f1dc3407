// A list of named things (adapter methods, model families, tasks): filled by explicit calls, no static initialisers.
#pragma once

#include <string>
#include <utility>
#include <vector>

#include "core/error.h"

namespace deeplora {

/// Ordered name -> T. An unknown name is an Error that lists the known ones and the nearest.
template <class T>
class Registry {
 public:
  /// `kind` names what is registered in error messages, e.g. "adapter method".
  explicit Registry(std::string kind) : kind_(std::move(kind)) {}

  void add(std::string name, T value) {
    for (const auto& [known, unused] : entries_)
      if (known == name) throw std::logic_error(cat(kind_, " '", name, "' is registered twice"));
    entries_.emplace_back(std::move(name), std::move(value));
  }

  const T* find(std::string_view name) const {
    for (const auto& [known, value] : entries_)
      if (known == name) return &value;
    return nullptr;
  }

  const T& at(std::string_view name) const {
    if (const T* found = find(name)) return *found;
    fail("unknown ", kind_, " '", name, "'", did_you_mean(name, names()), "; known: ", join(names(), ", ", 64));
  }

  std::vector<std::string> names() const {
    std::vector<std::string> out;
    for (const auto& [name, unused] : entries_) out.push_back(name);
    return out;
  }

 private:
  std::string kind_;
  std::vector<std::pair<std::string, T>> entries_;
};

}  // namespace deeplora
