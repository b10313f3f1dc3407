// TensorBoard event files: what `tensorboard --logdir RUN` shows. Free of LibTorch and of protobuf.
// Sources: tensorflow/core/lib/io/record_writer.h (framing), tensorflow/core/util/event.proto, summary.proto
// (messages).
#pragma once

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

namespace deeplora {

/// Appends to one new events.out.tfevents.* file of a folder. Every call writes one whole record straight to
/// the file, so a killed run loses nothing and a reader that follows the file sees it at once.
class EventWriter {
 public:
  /// Opens a file whose name sorts behind those already there. With `first_step` (a resumed run) readers drop
  /// what earlier files hold at that step and beyond. Throws Error when the folder cannot be created or
  /// written.
  explicit EventWriter(const std::filesystem::path& folder, std::optional<int64_t> first_step = {});
  ~EventWriter();
  EventWriter(const EventWriter&) = delete;
  EventWriter& operator=(const EventWriter&) = delete;

  /// A point of the curve `tag`, e.g. "train/loss"; kept as float32, NaN included. Throws Error when the disk
  /// refuses.
  void scalar(std::string_view tag, double value, int64_t step);
  /// Text in the Text tab, Markdown as TensorBoard renders it.
  void text(std::string_view tag, std::string_view markdown, int64_t step);
  /// Forces the file to the disk; without it a crash of the machine, not of the program, may lose the last
  /// seconds.
  void flush();

  const std::filesystem::path& file() const { return file_; }

 private:
  void append(std::string_view record);
  std::filesystem::path file_;
  int descriptor_ = -1;
};

/// CRC-32C (Castagnoli, RFC 3720 appendix B.4) of bytes.
uint32_t crc32c(std::string_view bytes);

/// A record as TFRecord files frame it: length, masked CRC of the length, bytes, masked CRC of the bytes.
std::string tfrecord(std::string_view bytes);

}  // namespace deeplora
