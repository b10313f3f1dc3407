#include "model_files/archive_in_place.h"

#include <c10/core/CPUAllocator.h>
#include <caffe2/serialize/read_adapter_interface.h>
#include <fcntl.h>
#include <unistd.h>

#include <atomic>
#include <cerrno>
#include <thread>

#include "core/error.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kLeastMapped =
    1 << 16;  ///< of fewer pages than this there are many in a small model, and little to gain

/// LibTorch asks its allocator for the memory of a tensor's bytes and then its reader to fill it. This allocator gives
/// the place where the next tensor of that size lies in the file; the reader sees whether it is the one that is asked
/// for, which it is in every archive whose tensors lie in the order in which they are named. Made once and never
/// destroyed: whatever is allocated meanwhile may remember its allocator.
class PlacesInFile final : public c10::Allocator {
 public:
  static PlacesInFile& one() {
    static auto* const allocator = new PlacesInFile;
    return *allocator;
  }

  /// From here to end(), for this thread.
  void begin(std::shared_ptr<const StoredTensors> stored, const std::multimap<uint64_t, uint64_t>& places) {
    stored_ = std::move(stored);
    places_ = places;
    thread_ = std::this_thread::get_id();
    others_ = c10::GetCPUAllocator();
    c10::SetCPUAllocator(this);
  }
  void end() {
    c10::SetCPUAllocator(others_);
    stored_.reset();
    places_.clear();
  }

  at::DataPtr allocate(size_t bytes) override {
    if (stored_ && bytes >= kLeastMapped && std::this_thread::get_id() == thread_)
      if (const auto next = places_.lower_bound(bytes); next != places_.end() && next->first == bytes) {
        auto* owner = new torch::Tensor(stored_->at(0, next->second, {static_cast<int64_t>(bytes)}, torch::kByte));
        places_.erase(next);
        return {owner->data_ptr(), owner, [](void* held) { delete static_cast<torch::Tensor*>(held); },
                at::Device(at::kCPU)};
      }
    return others_->allocate(bytes);
  }
  void copy_data(void* to, const void* from, size_t bytes) const override { default_copy_data(to, from, bytes); }

 private:
  PlacesInFile() = default;
  c10::Allocator* others_ = c10::GetCPUAllocator();
  std::shared_ptr<const StoredTensors> stored_;
  std::multimap<uint64_t, uint64_t> places_;  ///< bytes -> where such a tensor begins, of those not given yet
  std::thread::id thread_;
};

/// The file's bytes; those that are wanted where they lie are not read.
class ReaderInPlace final : public caffe2::serialize::ReadAdapterInterface {
 public:
  ReaderInPlace(const fs::path& file, const StoredTensors& stored)
      : descriptor_(::open(file.c_str(), O_RDONLY | O_CLOEXEC)), size_(fs::file_size(file)), begin_(stored.begin(0)) {
    check(descriptor_ >= 0, "model ", file.string(), " cannot be read");
  }
  ~ReaderInPlace() override { ::close(descriptor_); }
  ReaderInPlace(const ReaderInPlace&) = delete;
  ReaderInPlace& operator=(const ReaderInPlace&) = delete;

  size_t size() const override { return size_; }
  size_t read(uint64_t from, void* buffer, size_t bytes, const char* /*what*/) const override {
    char* to = static_cast<char*>(buffer);
    if (to >= begin_ && to < begin_ + size_) {
      if (to == begin_ + from && from + bytes <= size_) return bytes;
      misplaced_ = true;  // what is read now covers another tensor; nothing of this load is kept
    }
    size_t done = 0;
    while (done < bytes) {
      const ssize_t got = ::pread(descriptor_, to + done, bytes - done, static_cast<off_t>(from + done));
      if (got < 0 && errno == EINTR) continue;
      if (got <= 0) break;
      done += static_cast<size_t>(got);
    }
    return done;
  }
  bool misplaced() const { return misplaced_; }

 private:
  int descriptor_;
  size_t size_;
  const char* begin_;
  mutable std::atomic<bool> misplaced_{false};
};

std::shared_ptr<const StoredTensors> mapped_file(const FileOfTensors& file) {
  return std::make_shared<const StoredTensors>(std::vector<FileOfTensors>{file});
}

}  // namespace

ArchiveInPlace load_in_place(const fs::path& file) {
  const FileOfTensors tensors = tensors_in_archive(file);
  ArchiveInPlace out{{}, mapped_file(tensors)};
  const auto reader = std::make_shared<ReaderInPlace>(file, *out.stored);
  {
    PlacesInFile::one().begin(out.stored, tensors.places);
    const std::shared_ptr<void> ending(nullptr, [](void*) { PlacesInFile::one().end(); });
    out.module = torch::jit::load(reader, torch::Device(torch::kCPU));
  }
  if (reader->misplaced()) out = {torch::jit::load(file.string(), torch::Device(torch::kCPU)), mapped_file(tensors)};
  return out;
}

}  // namespace deeplora
