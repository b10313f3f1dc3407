#include "core/log.h"

#include <spdlog/sinks/stdout_color_sinks.h>
#include <spdlog/spdlog.h>

#include "core/long_work.h"

namespace deeplora {
namespace {

// spdlog lives in this file alone: LibTorch ships another version of fmt, and the two must not meet in one translation
// unit.
spdlog::logger& logger() {
  static spdlog::logger instance = [] {
    spdlog::logger made("deeplora", std::make_shared<spdlog::sinks::stderr_color_sink_mt>());
    made.set_pattern("%v");
    made.flush_on(spdlog::level::trace);
    return made;
  }();
  return instance;
}

spdlog::level::level_enum to_spdlog(LogLevel level) {
  switch (level) {
    case LogLevel::debug: return spdlog::level::debug;
    case LogLevel::info: return spdlog::level::info;
    case LogLevel::warning: return spdlog::level::warn;
  }
  return spdlog::level::info;
}

}  // namespace

void set_log_level(LogLevel level) { logger().set_level(to_spdlog(level)); }

bool says_debug() { return logger().should_log(spdlog::level::debug); }

void log_message(LogLevel level, const std::string& text) {
  const ClearLine line;
  logger().log(to_spdlog(level), "{}", text);
}

}  // namespace deeplora
