#include "lm/stored_tensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <vector>

#include "core/error.h"
#include "core/system.h"
#include "core/zip_directory.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kAlignment = 64;  // LibTorch's writer starts every tensor at a multiple
constexpr uint64_t kLocalBytes = 30, kNameAt = 26;

uint64_t small_number(const unsigned char* bytes) { return static_cast<uint64_t>(bytes[0]) | static_cast<uint64_t>(bytes[1]) << 8; }

}  // namespace

/// The file, open and mapped as long as any storage looks into it.
class StoredTensors::Pages {
 public:
  /// Null where the file cannot be opened or mapped.
  static std::shared_ptr<const Pages> of(const fs::path& archive) {
    const auto pages = std::make_shared<Pages>();
    pages->file_ = ::open(archive.c_str(), O_RDONLY | O_CLOEXEC);
    struct stat status {};
    if (pages->file_ < 0 || ::fstat(pages->file_, &status) != 0 || status.st_size <= 0) return nullptr;
    pages->size_ = static_cast<size_t>(status.st_size);
    // Private and writable: whoever changes a weight changes his own copy of its page.
    void* begin = ::mmap(nullptr, pages->size_, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_NORESERVE, pages->file_, 0);
    if (begin == MAP_FAILED) return nullptr;
    pages->begin_ = static_cast<char*>(begin);
    explain_lost_pages();
    pages->find_entries(archive);
    return pages;
  }
  Pages() = default;
  Pages(const Pages&) = delete;
  Pages& operator=(const Pages&) = delete;
  ~Pages() {
    if (begin_) ::munmap(begin_, size_);
    if (file_ >= 0) ::close(file_);
  }

  /// Where the file holds these bytes; null where it does not.
  char* find(const char* bytes, uint64_t count) const {
    const auto [first, last] = entries_.equal_range(count);
    const auto found = std::find_if(first, last, [&](const auto& entry) { return holds(entry.second, bytes, count); });
    return found == last ? nullptr : begin_ + found->second;
  }

 private:
  void find_entries(const fs::path& archive) {
    for (const ZipEntry& entry : read_zip_directory(archive, "model")) {
      unsigned char header[kLocalBytes];
      if (entry.size == 0 || entry.size != entry.stored || !read(header, sizeof header, entry.offset)) continue;
      const uint64_t begin = entry.offset + kLocalBytes + small_number(header + kNameAt) + small_number(header + kNameAt + 2);
      if (begin % kAlignment == 0 && begin <= size_ && entry.size <= size_ - begin) entries_.emplace(entry.size, begin);
    }
  }

  /// By reading, not through the mapping: pages that are only compared do not become resident.
  bool holds(uint64_t begin, const char* bytes, uint64_t count) const {
    constexpr uint64_t kFirst = 4096, kMost = uint64_t{1} << 20;
    std::vector<char> part(std::min(count, kMost));
    for (uint64_t done = 0; done < count;) {
      const uint64_t size = std::min(count - done, done == 0 ? kFirst : kMost);  // most others differ at once
      if (!read(part.data(), size, begin + done) || std::memcmp(part.data(), bytes + done, size) != 0) return false;
      done += size;
    }
    return true;
  }

  bool read(void* to, uint64_t count, uint64_t from) const {
    for (uint64_t done = 0; done < count;) {
      const ssize_t got = ::pread(file_, static_cast<char*>(to) + done, count - done, static_cast<off_t>(from + done));
      if (got <= 0) return false;
      done += static_cast<uint64_t>(got);
    }
    return true;
  }

  int file_ = -1;
  char* begin_ = nullptr;
  size_t size_ = 0;
  std::multimap<uint64_t, uint64_t> entries_;  ///< bytes -> where they begin
};

StoredTensors::StoredTensors(fs::path archive) : archive_(std::move(archive)) {}

char* StoredTensors::place_of(const void* bytes, uint64_t count) const {
  if (!opened_) {
    opened_ = true;
    try {
      pages_ = Pages::of(archive_);
    } catch (const Error&) {  // the archive was replaced by something else since it was read
    }
  }
  return pages_ ? pages_->find(static_cast<const char*>(bytes), count) : nullptr;
}

torch::Tensor StoredTensors::find(const torch::Tensor& x) const {
  if (!x.device().is_cpu() || !x.is_contiguous()) return {};
  char* here = place_of(x.const_data_ptr(), x.nbytes());
  if (here == nullptr) return {};
  return torch::from_blob(here, x.sizes(), [pages = pages_](void*) {}, x.options().requires_grad(false));
}

bool StoredTensors::take_over(const torch::Tensor& x) const {
  using Owner = std::shared_ptr<const Pages>;
  if (!x.device().is_cpu()) return false;
  const c10::Storage& storage = x.storage();
  char* here = place_of(storage.data(), storage.nbytes());
  if (here == nullptr || here == storage.data()) return false;
  storage.unsafeGetStorageImpl()->set_data_ptr_noswap(
      at::DataPtr(here, new Owner(pages_), [](void* owner) { delete static_cast<Owner*>(owner); }, at::Device(at::kCPU)));
  return true;
}

}  // namespace deeplora
