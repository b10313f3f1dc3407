// The list of files in a zip archive, checked as a whole before any other reader sees the archive. Free of LibTorch.
#pragma once

#include <cstdint>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora {

struct ZipEntry {
  std::string name;     ///< with the archive's own folder in front: "model/data.pkl"
  uint64_t size = 0;    ///< bytes when unpacked
  uint64_t stored = 0;  ///< bytes in the file
  uint64_t offset = 0;  ///< of its local header
};

/// Bytes of a file: an archive in an archive, whose entries' offsets count from `begin`.
struct FilePart {
  uint64_t begin = 0, size = 0;
};

/// Every entry in the directory's order. Throws Error, naming `what` and the file, when the file is no zip archive or
/// is cut off, when an entry lies outside the file or over another one, claims more bytes than its data can unpack to,
/// is encrypted, appears twice, or has a name that could leave a folder (absolute, "..", backslash, NUL).
std::vector<ZipEntry> read_zip_directory(const std::filesystem::path& file, std::string_view what);
/// Of an archive that is a part of a file, which must lie in it.
std::vector<ZipEntry> read_zip_directory(const std::filesystem::path& file, std::string_view what,
                                         const FilePart& part);

/// Bytes of the header that stands before an entry's name and data.
inline constexpr size_t kZipLocalHeader = 30;

/// Where the data of an entry begins, from the kZipLocalHeader bytes of the file at entry.offset.
uint64_t data_begin(const ZipEntry& entry, std::string_view local_header);

}  // namespace deeplora
