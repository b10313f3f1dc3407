// Pages of invented values, to be looked at and to be checked.
#pragma once

#include <string>

namespace deeplora {

/// A report of an invented run, with text that would break a page that forgets to escape it.
std::string sample_report();

/// Charts of what charts are bad at: constants, single points, gaps, spikes, huge and tiny ranges, long
/// names.
std::string hard_charts();

}  // namespace deeplora
