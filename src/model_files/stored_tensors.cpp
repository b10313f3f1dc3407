#include "model_files/stored_tensors.h"

#include <ATen/MapAllocator.h>
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cstring>
#include <tuple>

#include "core/error.h"
#include "core/system.h"
#include "core/zip_directory.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kAlignment = 64;  // LibTorch's writer starts every tensor at a multiple

/// Files beside the tensors, which may be as long as one of them.
bool is_no_tensor(const std::string& name) {
  return name.find("/extra/") != std::string::npos || name.find("/code/") != std::string::npos ||
         name.ends_with(".pkl");
}

}  // namespace

FileOfTensors tensors_in_archive(const fs::path& archive) {
  FileOfTensors out{archive, {}};
  const int descriptor = ::open(archive.c_str(), O_RDONLY | O_CLOEXEC);
  check(descriptor >= 0, "file ", archive.string(), " cannot be read: ", std::strerror(errno));
  const std::shared_ptr<const void> closing(&out, [descriptor](const void*) { ::close(descriptor); });
  const uint64_t all = fs::file_size(archive);
  std::vector<ZipEntry> entries = read_zip_directory(archive, "model");
  // The code's constants are read before the weights, and lie behind them.
  std::stable_partition(entries.begin(), entries.end(),
                        [](const ZipEntry& entry) { return entry.name.find("/constants/") != std::string::npos; });
  for (const ZipEntry& entry : entries) {
    char header[kZipLocalHeader];
    const auto from = static_cast<off_t>(entry.offset);
    if (entry.size == 0 || entry.size != entry.stored || is_no_tensor(entry.name)) continue;
    if (::pread(descriptor, header, sizeof header, from) != static_cast<ssize_t>(sizeof header)) continue;
    const uint64_t begin = data_begin(entry, {header, sizeof header});
    if (begin % kAlignment == 0 && begin <= all && entry.size <= all - begin) out.places.emplace(entry.size, begin);
  }
  return out;
}

/// The file, open and mapped as long as any storage looks into it. Private pages: whoever changes a weight changes his
/// own copy of them.
class StoredTensors::Pages {
 public:
  /// Throws where the file cannot be opened or mapped.
  explicit Pages(FileOfTensors file)
      : file_(file.path.string(), at::ALLOCATOR_MAPPED_KEEPFD, fs::file_size(file.path)),
        name_(std::move(file.path)),
        places_(std::move(file.places)),
        written_(last_written()) {
    explain_lost_pages();
  }

  const fs::path& name() const { return name_; }
  /// A tensor looks into the file from here on.
  void use() const { used_ = true; }
  bool was_written_over() const { return used_ && last_written() != written_; }

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

  /// Size and time of the open file.
  std::tuple<off_t, time_t, int64_t> last_written() const {
    struct stat s = {};
    if (::fstat(file_.fd(), &s) != 0) return {};
    return {s.st_size, s.st_mtim.tv_sec, s.st_mtim.tv_nsec};
  }

  at::MapAllocator file_;
  fs::path name_;
  std::multimap<uint64_t, uint64_t> places_;  ///< bytes -> where they begin
  std::tuple<off_t, time_t, int64_t> written_;
  mutable std::atomic<bool> used_{false};
};

StoredTensors::StoredTensors(std::vector<FileOfTensors> files) {
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
  if (offset % here.element_size() == 0) {
    pages->use();
    return here;
  }
  torch::Tensor copy = torch::empty(sizes, options);
  std::memcpy(copy.mutable_data_ptr(), pages->begin() + offset, copy.nbytes());
  return copy;
}

torch::Tensor StoredTensors::find(const torch::Tensor& x) const {
  if (!x.device().is_cpu() || !x.is_contiguous()) return {};
  const auto [pages, here] = place_of(x.const_data_ptr(), x.nbytes());
  if (here == nullptr) return {};
  pages->use();
  return torch::from_blob(here, x.sizes(), [pages = pages](void*) {}, x.options().requires_grad(false));
}

const char* StoredTensors::begin(size_t file) const { return pages_.at(file)->begin(); }

fs::path StoredTensors::written_over() const {
  for (const auto& pages : pages_)
    if (pages->was_written_over()) return pages->name();
  return {};
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
  if (here == storage.data()) let_go(x);
  if (here == nullptr || here == storage.data()) return false;
  pages->use();
  storage.unsafeGetStorageImpl()->set_data_ptr_noswap(at::DataPtr(
      here, new Owner(pages), [](void* owner) { delete static_cast<Owner*>(owner); }, at::Device(at::kCPU)));
  return true;
}

}  // namespace deeplora
