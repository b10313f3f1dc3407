// Messages for the person at the terminal, on standard error. Results go to standard output, never through here.
#pragma once

#include <string>

#include "core/error.h"

namespace deeplora {

enum class LogLevel { debug, info, warning };

void set_log_level(LogLevel level);
/// Whether debug messages are shown.
bool says_debug();
void log_message(LogLevel level, const std::string& text);

template <class... Parts>
void log_info(const Parts&... parts) {
  log_message(LogLevel::info, cat(parts...));
}
template <class... Parts>
void log_warning(const Parts&... parts) {
  log_message(LogLevel::warning, cat("warning: ", parts...));
}
template <class... Parts>
void log_debug(const Parts&... parts) {
  log_message(LogLevel::debug, cat(parts...));
}

}  // namespace deeplora
