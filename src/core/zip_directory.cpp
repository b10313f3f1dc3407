#include "core/zip_directory.h"

#include <algorithm>
#include <fstream>
#include <optional>
#include <set>

#include "core/error.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

// PKWARE's APPNOTE, sections 4.3 and 4.5.3.
constexpr uint64_t kEnd = 0x06054b50, kWideLocator = 0x07064b50, kWideEnd = 0x06064b50, kEntry = 0x02014b50;
constexpr size_t kEndBytes = 22, kLocatorBytes = 20, kWideEndBytes = 56, kEntryBytes = 46, kLongestComment = 65535;
constexpr uint64_t kWide = 0xffffffff;     // "see the wide fields"
constexpr uint64_t kMostUnpacking = 1032;  // the densest that deflate can be

uint64_t number(std::string_view bytes, size_t at, size_t width) {
  uint64_t value = 0;
  for (size_t i = width; i-- > 0;) value = value << 8 | static_cast<unsigned char>(bytes[at + i]);
  return value;
}

class DirectoryReader {
 public:
  DirectoryReader(const fs::path& file, std::string_view what, const std::optional<FilePart>& archive)
      : where_(cat(what, " ", file.string())), in_(file, std::ios::binary | std::ios::ate) {
    check(in_.good(), where_, " cannot be read");
    const auto whole = static_cast<uint64_t>(in_.tellg());
    if (archive) base_ = archive->begin;
    file_size_ = archive ? archive->size : whole;
    sound(base_ <= whole && file_size_ <= whole - base_, "an archive in it ends beyond its end");
  }

  std::vector<ZipEntry> read() {
    find_directory();
    const std::string bytes = part(begin_, size_);
    size_t at = 0;
    for (uint64_t i = 0; i < count_; ++i) at = take_entry(bytes, at);
    check_layout();
    return std::move(entries_);
  }

 private:
  template <class... Parts>
  void sound(bool ok, const Parts&... parts) const {
    check(ok, where_, " is truncated or damaged: ", parts..., "; copy or export it again");
  }

  /// Bytes of the file; never more than it has.
  std::string part(uint64_t begin, uint64_t size) {
    sound(begin <= file_size_ && size <= file_size_ - begin, "its zip directory points beyond its end");
    std::string out(size, '\0');
    in_.seekg(static_cast<std::streamoff>(base_ + begin));
    in_.read(out.data(), static_cast<std::streamsize>(size));
    sound(static_cast<uint64_t>(in_.gcount()) == size, "it cannot be read to its end");
    return out;
  }

  void find_directory() {
    const uint64_t tail_size = std::min<uint64_t>(file_size_, kEndBytes + kLongestComment),
                   tail_begin = file_size_ - tail_size;
    const std::string tail = part(tail_begin, tail_size);
    std::optional<size_t> found;
    for (size_t at = tail.size() >= kEndBytes ? tail.size() - kEndBytes + 1 : 0; at-- > 0 && !found;)
      if (number(tail, at, 4) == kEnd) found = at;
    sound(found.has_value(), "its zip directory cannot be read");
    count_ = number(tail, *found + 10, 2);
    size_ = number(tail, *found + 12, 4);
    begin_ = number(tail, *found + 16, 4);
    end_ = tail_begin + *found;
    if (end_ >= kLocatorBytes) read_wide_end();
    sound(begin_ <= end_ && size_ <= end_ - begin_, "its zip directory points beyond its end");
    sound(count_ <= size_ / kEntryBytes, "its zip directory has no room for ", count_, " files");
  }

  void read_wide_end() {
    const std::string locator = part(end_ - kLocatorBytes, kLocatorBytes);
    if (number(locator, 0, 4) != kWideLocator) return;
    end_ = number(locator, 8, 8);
    const std::string wide = part(end_, kWideEndBytes);
    sound(number(wide, 0, 4) == kWideEnd, "its zip directory cannot be read");
    count_ = number(wide, 32, 8);
    size_ = number(wide, 40, 8);
    begin_ = number(wide, 48, 8);
  }

  size_t take_entry(const std::string& bytes, size_t at) {
    sound(bytes.size() - at >= kEntryBytes && number(bytes, at, 4) == kEntry, "its zip directory cannot be read");
    const size_t name = number(bytes, at + 28, 2), extra = number(bytes, at + 30, 2),
                 comment = number(bytes, at + 32, 2);
    sound(bytes.size() - at - kEntryBytes >= name + extra + comment, "its zip directory is cut off");
    ZipEntry entry;
    entry.name = bytes.substr(at + kEntryBytes, name);
    entry.stored = number(bytes, at + 20, 4);
    entry.size = number(bytes, at + 24, 4);
    entry.offset = number(bytes, at + 42, 4);
    widen(entry, std::string_view(bytes).substr(at + kEntryBytes + name, extra));
    check_entry(entry, number(bytes, at + 8, 2), number(bytes, at + 10, 2));
    entries_.push_back(std::move(entry));
    return at + kEntryBytes + name + extra + comment;
  }

  /// 64-bit values stand in the extra field with header 1, those only that did not fit.
  void widen(ZipEntry& entry, std::string_view extra) const {
    while (extra.size() >= 4) {
      const size_t id = number(extra, 0, 2), size = number(extra, 2, 2);
      sound(size <= extra.size() - 4, "the entry ", entry.name, " is broken");
      std::string_view values = extra.substr(4, size);
      extra.remove_prefix(4 + size);
      if (id != 1) continue;
      for (uint64_t* field : {&entry.size, &entry.stored, &entry.offset}) {
        if (*field != kWide) continue;
        sound(values.size() >= 8, "the entry ", entry.name, " is broken");
        *field = number(values, 0, 8);
        values.remove_prefix(8);
      }
    }
  }

  void check_entry(const ZipEntry& entry, uint64_t flags, uint64_t method) {
    const std::string& name = entry.name;
    bool safe = !name.empty() && name.front() != '/' && name.find('\\') == std::string::npos &&
                name.find('\0') == std::string::npos;
    for (size_t begin = 0; safe && begin <= name.size();) {
      const size_t end = std::min(name.find('/', begin), name.size());
      safe = name.compare(begin, end - begin, "..") != 0;
      begin = end + 1;
    }
    check(safe, where_, ": the name '", name, "' in it could leave its folder; it was not written by LibTorch");
    check(names_.insert(name).second, where_, " holds '", name, "' twice; it was not written by LibTorch");
    check((flags & 1) == 0, where_, ": '", name, "' in it is encrypted");
    check(method == 0 || method == 8, where_, ": '", name, "' in it is packed by method ", method,
          "; expected 0 (stored) or 8 (deflate)");
    sound(entry.stored <= file_size_, "'", name, "' in it claims ", entry.stored, " bytes, the file has ", file_size_);
    sound(method == 0 ? entry.size == entry.stored : entry.size / kMostUnpacking <= entry.stored + 1, "'", name,
          "' in it claims ", entry.size, " bytes, which ", entry.stored, " cannot unpack to");
  }

  void check_layout() const {
    std::vector<const ZipEntry*> order;
    for (const auto& entry : entries_) order.push_back(&entry);
    std::sort(order.begin(), order.end(), [](const auto* a, const auto* b) { return a->offset < b->offset; });
    uint64_t free = 0;
    for (const auto* entry : order) {
      sound(entry->offset >= free && entry->offset <= begin_ && entry->stored <= begin_ - entry->offset &&
                begin_ - entry->offset - entry->stored >= kZipLocalHeader,
            "'", entry->name, "' in it lies outside the file or over another entry");
      free = entry->offset + kZipLocalHeader + entry->stored;
    }
  }

  std::string where_;
  std::ifstream in_;
  uint64_t base_ = 0, file_size_ = 0, begin_ = 0, size_ = 0, end_ = 0, count_ = 0;
  std::set<std::string> names_;
  std::vector<ZipEntry> entries_;
};

}  // namespace

std::vector<ZipEntry> read_zip_directory(const fs::path& file, std::string_view what) {
  return DirectoryReader(file, what, std::nullopt).read();
}

std::vector<ZipEntry> read_zip_directory(const fs::path& file, std::string_view what, const FilePart& part) {
  return DirectoryReader(file, what, part).read();
}

uint64_t data_begin(const ZipEntry& entry, std::string_view local_header) {
  return entry.offset + kZipLocalHeader + number(local_header, 26, 2) +
         number(local_header, 28, 2);  // behind its name and extra field
}

}  // namespace deeplora
