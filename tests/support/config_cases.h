// Configurations read by the program's own code, for comparison with another reader of YAML.
#pragma once

#include <istream>
#include <ostream>

namespace deeplora {

/// A case a line: {"yaml": TEXT, "sets": [TEXT...], "keys": {"a.b": TYPE, "runs.*.name": TYPE...}} with TYPE flag,
/// whole, number, text, path, wholes, numbers, texts, maybe whole, or words parted by | (the first one is the default).
/// A line for each of them: {"dump": YAML} or
/// {"error": MESSAGE}.
void read_config_cases(std::istream& in, std::ostream& out);

}  // namespace deeplora
