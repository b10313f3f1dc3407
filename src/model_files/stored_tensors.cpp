#include "model_files/stored_tensors.h"

#include <ATen/MapAllocator.h>
#include <unistd.h>

#include <algorithm>
#include <cstring>
#include <map>
#include <vector>

#include "core/system.h"
#include "core/zip_directory.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kAlignment = 64;  // LibTorch's writer starts every tensor at a multiple
}  // namespace

/// The file, open and mapped as long as any storage looks into it. Private pages: whoever changes a weight changes his own copy of them.
class StoredTensors::Pages {
 public:
  /// Throws where the file cannot be opened, mapped or read as an archive.
  explicit Pages(const fs::path& archive) : file_(archive.string(), at::ALLOCATOR_MAPPED_KEEPFD, fs::file_size(archive)) {
    explain_lost_pages();
    for (const ZipEntry& entry : read_zip_directory(archive, "model")) {
      char header[kZipLocalHeader];
      if (entry.size == 0 || entry.size != entry.stored || !read(header, sizeof header, entry.offset)) continue;
      const uint64_t begin = data_begin(entry, {header, sizeof header}), all = static_cast<uint64_t>(file_.size());
      if (begin % kAlignment == 0 && begin <= all && entry.size <= all - begin) entries_.emplace(entry.size, begin);
    }
  }

  /// Where the file holds these bytes; null where it does not.
  char* find(const char* bytes, uint64_t count) const {
    const auto [first, last] = entries_.equal_range(count);
    const auto found = std::find_if(first, last, [&](const auto& entry) { return holds(entry.second, bytes, count); });
    return found == last ? nullptr : static_cast<char*>(file_.data()) + found->second;
  }

 private:
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
      const ssize_t got = ::pread(file_.fd(), static_cast<char*>(to) + done, count - done, static_cast<off_t>(from + done));
      if (got <= 0) return false;
      done += static_cast<uint64_t>(got);
    }
    return true;
  }

  at::MapAllocator file_;
  std::multimap<uint64_t, uint64_t> entries_;  ///< bytes -> where they begin
};

StoredTensors::StoredTensors(fs::path archive) : archive_(std::move(archive)) {}

char* StoredTensors::place_of(const void* bytes, uint64_t count) const {
  if (!opened_) {
    opened_ = true;
    try {
      pages_ = std::make_shared<const Pages>(archive_);
    } catch (const std::exception&) {  // the archive is gone, or was replaced by something else, since it was read
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
