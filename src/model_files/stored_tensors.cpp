#include "model_files/stored_tensors.h"

#include <ATen/MapAllocator.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "core/error.h"
#include "core/system.h"
#include "core/zip_directory.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kAlignment = 64;  // LibTorch's writer starts every tensor at a multiple

/// Of a zip archive that LibTorch wrote: whole, unpacked entries at aligned places. Throws where it is none.
FileOfTensors places_in_archive(const fs::path& archive) {
  FileOfTensors out{archive, {}};
  const int descriptor = ::open(archive.c_str(), O_RDONLY | O_CLOEXEC);
  check(descriptor >= 0, "file ", archive.string(), " cannot be read: ", std::strerror(errno));
  const std::shared_ptr<const void> closing(&out, [descriptor](const void*) { ::close(descriptor); });
  const uint64_t all = fs::file_size(archive);
  for (const ZipEntry& entry : read_zip_directory(archive, "model")) {
    char header[kZipLocalHeader];
    const auto from = static_cast<off_t>(entry.offset);
    if (entry.size == 0 || entry.size != entry.stored) continue;
    if (::pread(descriptor, header, sizeof header, from) != static_cast<ssize_t>(sizeof header)) continue;
    const uint64_t begin = data_begin(entry, {header, sizeof header});
    if (begin % kAlignment == 0 && begin <= all && entry.size <= all - begin) out.places.emplace(entry.size, begin);
  }
  return out;
}

}  // namespace

/// The file, open and mapped as long as any storage looks into it. Private pages: whoever changes a weight changes his
/// own copy of them.
class StoredTensors::Pages {
 public:
  /// Throws where the file cannot be opened or mapped.
  explicit Pages(FileOfTensors file)
      : file_(file.path.string(), at::ALLOCATOR_MAPPED_KEEPFD, fs::file_size(file.path)),
        places_(std::move(file.places)) {
    explain_lost_pages();
  }

  char* begin() const { return static_cast<char*>(file_.data()); }
  uint64_t size() const { return static_cast<uint64_t>(file_.size()); }

  /// Where the file holds these bytes; null where it does not.
  char* find(const char* bytes, uint64_t count) const {
    const auto [first, last] = places_.equal_range(count);
    const auto found = std::find_if(first, last, [&](const auto& entry) { return holds(entry.second, bytes, count); });
    return found == last ? nullptr : begin() + found->second;
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
      const ssize_t got =
          ::pread(file_.fd(), static_cast<char*>(to) + done, count - done, static_cast<off_t>(from + done));
      if (got <= 0) return false;
      done += static_cast<uint64_t>(got);
    }
    return true;
  }

  at::MapAllocator file_;
  std::multimap<uint64_t, uint64_t> places_;  ///< bytes -> where they begin
};

StoredTensors::StoredTensors(fs::path archive) : archive_(std::move(archive)) {}

StoredTensors::StoredTensors(std::vector<FileOfTensors> files) : opened_(true) {
  for (auto& file : files) {
    const std::string name = file.path.string();
    try {
      pages_.push_back(std::make_shared<const Pages>(std::move(file)));
    } catch (const std::exception&) {
      fail("file ", name, " cannot be mapped into memory; is it still there, and readable?");
    }
  }
}

std::pair<std::shared_ptr<const StoredTensors::Pages>, char*> StoredTensors::place_of(const void* bytes,
                                                                                      uint64_t count) const {
  if (!opened_) {
    opened_ = true;
    try {
      pages_.push_back(std::make_shared<const Pages>(places_in_archive(archive_)));
    } catch (const std::exception&) {  // the archive is gone, or was replaced by something else, since it was read
    }
  }
  for (const auto& pages : pages_)
    if (char* here = pages->find(static_cast<const char*>(bytes), count)) return {pages, here};
  return {nullptr, nullptr};
}

torch::Tensor StoredTensors::at(size_t file, uint64_t offset, const std::vector<int64_t>& sizes,
                                torch::ScalarType type) const {
  const auto& pages = pages_.at(file);
  const auto options = torch::TensorOptions(type);
  const torch::Tensor here =
      torch::from_blob(pages->begin() + offset, sizes, [pages](void*) {}, options.requires_grad(false));
  if (offset % here.element_size() == 0) return here;
  torch::Tensor copy = torch::empty(sizes, options);
  std::memcpy(copy.mutable_data_ptr(), pages->begin() + offset, copy.nbytes());
  return copy;
}

torch::Tensor StoredTensors::find(const torch::Tensor& x) const {
  if (!x.device().is_cpu() || !x.is_contiguous()) return {};
  const auto [pages, here] = place_of(x.const_data_ptr(), x.nbytes());
  if (here == nullptr) return {};
  return torch::from_blob(here, x.sizes(), [pages = pages](void*) {}, x.options().requires_grad(false));
}

void StoredTensors::let_go(const torch::Tensor& x) const {
  if (!x.device().is_cpu() || x.numel() == 0) return;
  const auto page = static_cast<uintptr_t>(::sysconf(_SC_PAGESIZE));
  const auto begin = reinterpret_cast<uintptr_t>(x.storage().data());
  const auto end = begin + x.storage().nbytes();
  for (const auto& pages : pages_) {
    const auto first = reinterpret_cast<uintptr_t>(pages->begin()), last = first + pages->size();
    if (begin < first || end > last) continue;
    // Whole pages: others at the edges hold a neighbour's numbers too.
    const uintptr_t from = (begin + page - 1) / page * page, to = end / page * page;
    if (from < to) ::madvise(reinterpret_cast<void*>(from), to - from, MADV_DONTNEED);
  }
}

bool StoredTensors::take_over(const torch::Tensor& x) const {
  using Owner = std::shared_ptr<const Pages>;
  if (!x.device().is_cpu()) return false;
  const c10::Storage& storage = x.storage();
  const auto [pages, here] = place_of(storage.data(), storage.nbytes());
  if (here == nullptr || here == storage.data()) return false;
  storage.unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(
      here, new Owner(pages), [](void* owner) { delete static_cast<Owner*>(owner); }, at::Device(at::kCPU)));
  return true;
}

}  // namespace deeplora
