#include "figure_files.h"

#include "core/error.h"
#include "core/files.h"

namespace deeplora {
namespace fs = std::filesystem;

void write_figures(const fs::path& folder, const Page& page) {
  if (page.figures().empty()) return;
  std::error_code failed;
  fs::create_directories(folder / "figures", failed);
  check(!failed, "cannot create ", (folder / "figures").string(), ": ", failed.message());
  for (const auto& [name, svg] : page.figures()) write_file_atomically(folder / "figures" / (name + ".svg"), svg);
}

}  // namespace deeplora
