#include "core/stage.h"

#include <exception>
#include <iomanip>
#include <utility>

#include "core/log.h"
#include "core/system.h"

namespace deeplora {

Stage::Stage(std::string name, int64_t bytes) : name_(std::move(name)), bytes_(bytes), began_(clock_seconds()) {}

Stage::~Stage() {
  if (!says_debug() || std::uncaught_exceptions() > 0) return;
  const double seconds = clock_seconds() - began_, gigabytes = static_cast<double>(bytes_) / 1e9;
  const auto in = [](double number, int digits, const char* unit) {
    return cat(std::fixed, std::setprecision(digits), number, unit);
  };
  log_debug("start: ", name_, ": ", in(seconds, 3, " s"),
            bytes_ > 0 ? cat(", ", in(seconds / gigabytes, 2, " s/GB")) : std::string(), "; memory ",
            in(memory_mb(), 0, " MB"), ", at most ", in(peak_memory_mb(), 0, " MB"));
}

}  // namespace deeplora
