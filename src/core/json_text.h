// A bound on how deep JSON from files may nest: nlohmann's reader takes any depth, its copies and printing recurse once
// a level.
#pragma once

#include <string_view>

namespace deeplora {

/// Deeper than any file that we read, and shallow enough for every recursion over it.
inline constexpr int kDeepestJson = 200;

/// True when brackets outside of strings nest deeper than kDeepestJson. One pass, also over text that is not JSON.
bool nests_too_deep(std::string_view json);

}  // namespace deeplora
