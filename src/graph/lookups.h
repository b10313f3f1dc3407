// How the archive's own forward looks up the rows of its tables.
#pragma once

#include <map>

#include "factorization/lookup.h"
#include "model_files/code_files.h"

namespace deeplora {

/// Options of the lookups of every table that has any, by the address of its memory: what config.json says of padding
/// need not be what the exported model does. Never runs the archive's code; empty where its forward cannot be followed.
std::map<const void*, LookupOptions> table_lookups(const CodeFiles& archive);

}  // namespace deeplora
