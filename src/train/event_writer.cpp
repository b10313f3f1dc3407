#include "train/event_writer.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <atomic>
#include <bit>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <cstring>

#include "core/error.h"
#include "core/files.h"
#include "core/system.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr std::string_view kPrefix = "events.out.tfevents.";

constexpr std::array<uint32_t, 256> crc_table() {
  std::array<uint32_t, 256> table = {};
  for (uint32_t i = 0; i < 256; ++i) {
    uint32_t value = i;
    for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) != 0 ? 0x82F63B78U : 0U);
    table[i] = value;
  }
  return table;
}

/// A CRC stored beside its own data is masked, so that the CRC of a file that holds CRCs stays meaningful.
uint32_t masked_crc(std::string_view bytes) { return std::rotr(crc32c(bytes), 15) + 0xA282EAD8U; }

/// Little-endian bytes of a number.
template <class T>
std::string bytes_of(T value) {
  static_assert(std::endian::native == std::endian::little);
  std::string out(sizeof(T), '\0');
  std::memcpy(out.data(), &value, sizeof(T));
  return out;
}

// Protocol buffers: a field is (number << 3 | wire type), then its value.
enum Wire : uint64_t { kVarint = 0, kFixed64 = 1, kBytes = 2, kFixed32 = 5 };

std::string varint(uint64_t value) {
  std::string out;
  for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
  return out + static_cast<char>(value);
}

std::string key(uint64_t field, Wire wire) { return varint(field << 3 | wire); }
std::string number_field(uint64_t field, int64_t value) {
  return key(field, kVarint) + varint(static_cast<uint64_t>(value));
}
std::string bytes_field(uint64_t field, std::string_view value) {
  return cat(key(field, kBytes), varint(value.size()), value);
}
std::string double_field(uint64_t field, double value) { return key(field, kFixed64) + bytes_of(value); }
std::string float_field(uint64_t field, double value) {
  return key(field, kFixed32) + bytes_of(static_cast<float>(value));
}

double wall_time() {
  return std::chrono::duration<double>(std::chrono::system_clock::now().time_since_epoch()).count();
}

/// Event {1: wall_time, 2: step, ...what}.
std::string event(int64_t step, const std::string& what) {
  return double_field(1, wall_time()) + (step != 0 ? number_field(2, step) : "") + what;
}

std::string file_version_event() { return event(0, bytes_field(3, "brain.Event:2")); }

/// Event.session_log {1: status = START}: purges what comes later than it in earlier files.
std::string session_start_event(int64_t step) { return event(step, bytes_field(7, number_field(1, 1))); }

/// Event.summary {1: Value}.
std::string summary_event(int64_t step, const std::string& value) {
  return event(step, bytes_field(5, bytes_field(1, value)));
}

/// The seconds in a file's name, 0 when it is not an event file.
int64_t seconds_in_name(const std::string& name) {
  if (!name.starts_with(kPrefix)) return 0;
  int64_t seconds = 0;
  for (size_t i = kPrefix.size(); i < name.size() && name[i] >= '0' && name[i] <= '9' && seconds < 9999999999; ++i)
    seconds = seconds * 10 + (name[i] - '0');
  return seconds;
}

/// Readers take files in the order of their names: a session started within the same second must still come
/// later.
fs::path new_file(const fs::path& folder) {
  static std::atomic<int> counter{0};
  auto seconds = static_cast<int64_t>(wall_time());
  for (const auto& entry : fs::directory_iterator(folder))
    seconds = std::max(seconds, seconds_in_name(entry.path().filename().string()) + 1);
  char time[24];
  std::snprintf(time, sizeof(time), "%010lld", static_cast<long long>(seconds));
  return folder / cat(kPrefix, time, ".", host_name(), ".", ::getpid(), ".", counter++);
}

}  // namespace

uint32_t crc32c(std::string_view bytes) {
  static constexpr std::array<uint32_t, 256> kTable = crc_table();
  uint32_t crc = 0xFFFFFFFFU;
  for (const char byte : bytes) crc = (crc >> 8) ^ kTable[(crc ^ static_cast<uint8_t>(byte)) & 0xFF];
  return ~crc;
}

std::string tfrecord(std::string_view bytes) {
  const std::string length = bytes_of(static_cast<uint64_t>(bytes.size()));
  return cat(length, bytes_of(masked_crc(length)), bytes, bytes_of(masked_crc(bytes)));
}

EventWriter::EventWriter(const fs::path& folder, std::optional<int64_t> first_step) {
  std::error_code failed;
  fs::create_directories(folder, failed);
  check(!failed, "cannot create ", folder.string(), ": ", failed.message());
  file_ = new_file(folder);
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_CLOEXEC, 0644);
  check(descriptor_ >= 0, "cannot write ", file_.string(), ": ", std::strerror(errno));
  try {
    append(file_version_event());
    if (first_step) append(session_start_event(*first_step));
  } catch (...) {
    ::close(descriptor_);
    throw;
  }
}

EventWriter::~EventWriter() { ::close(descriptor_); }

void EventWriter::scalar(std::string_view tag, double value, int64_t step) {
  // Value {1: tag, 2: simple_value}
  append(summary_event(step, bytes_field(1, tag) + float_field(2, value)));
}

void EventWriter::text(std::string_view tag, std::string_view markdown, int64_t step) {
  // Value {1: tag, 8: TensorProto {1: DT_STRING, 2: shape {dim {size: 1}}, 8: string_val}, 9: metadata {1:
  // plugin {1: name}}}
  const std::string shape = bytes_field(2, number_field(1, 1));
  const std::string tensor = number_field(1, 7) + bytes_field(2, shape) + bytes_field(8, markdown);
  append(summary_event(
      step, bytes_field(1, tag) + bytes_field(8, tensor) + bytes_field(9, bytes_field(1, bytes_field(1, "text")))));
}

void EventWriter::flush() { sync_path(file_); }

void EventWriter::append(std::string_view record) {
  const std::string framed = tfrecord(record);
  for (std::string_view left = framed; !left.empty();) {
    const ssize_t written = ::write(descriptor_, left.data(), left.size());
    if (written < 0 && errno == EINTR) continue;
    check(written > 0, "cannot write ", file_.string(), ": ", std::strerror(written < 0 ? errno : ENOSPC));
    left.remove_prefix(static_cast<size_t>(written));
  }
}

}  // namespace deeplora
