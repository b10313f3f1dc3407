// The charts of a report as files.
#pragma once

#include <filesystem>

#include "report/html_page.h"

namespace deeplora {

/// figures/NAME.svg of every chart of the page, each whole by itself.
void write_figures(const std::filesystem::path& folder, const Page& page);

}  // namespace deeplora
