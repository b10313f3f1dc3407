// Pages of invented values, to be looked at and to be checked.
#pragma once

#include "report/html_page.h"

namespace deeplora {

/// A report of an invented run, with text that would break a page that forgets to escape it.
Page sample_report();

/// Charts of what charts are bad at: constants, single points, gaps, spikes, huge and tiny ranges, long
/// names.
Page hard_charts();

}  // namespace deeplora
