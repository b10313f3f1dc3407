#include "core/safetensors.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <cerrno>
#include <cstring>
#include <fstream>
#include <limits>
#include <nlohmann/json.hpp>
#include <optional>
#include <set>

#include "core/files.h"
#include "core/json_text.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

static_assert(std::endian::native == std::endian::little, "tensors are mapped as they lie in the file");

constexpr std::string_view kMetadata = "__metadata__";
constexpr size_t kLengthBytes = 8;
constexpr uint64_t kLargestHeader = 100'000'000;  // the reference's limit

struct Dtype {
  std::string_view name;
  size_t bytes;
};
// In the reference's order of writing.
constexpr std::array<Dtype, 10> kDtypes = {{{"I64", 8},
                                            {"F64", 8},
                                            {"F32", 4},
                                            {"I32", 4},
                                            {"BF16", 2},
                                            {"F16", 2},
                                            {"I16", 2},
                                            {"I8", 1},
                                            {"U8", 1},
                                            {"BOOL", 1}}};

const Dtype* find_dtype(std::string_view name) {
  const auto* const found =
      std::find_if(kDtypes.begin(), kDtypes.end(), [&](const Dtype& d) { return d.name == name; });
  return found == kDtypes.end() ? nullptr : found;
}

std::string known_dtypes() {
  std::vector<std::string_view> names;
  for (const Dtype& dtype : kDtypes) names.push_back(dtype.name);
  return join(names);
}

std::string shape_text(const std::vector<int64_t>& shape) { return cat("[", join(shape), "]"); }

/// Bytes of a tensor, nothing when the product overflows or a size is negative.
std::optional<size_t> byte_size(size_t element, const std::vector<int64_t>& shape) {
  size_t bytes = element;
  for (const int64_t size : shape)
    if (size < 0 || __builtin_mul_overflow(bytes, static_cast<size_t>(size), &bytes)) return std::nullopt;
  return bytes;
}

struct Mapping {
  std::shared_ptr<const void> owner;
  std::span<const std::byte> bytes;
};

Mapping map_file(const fs::path& file) {
  std::error_code ignored;
  check(fs::exists(file, ignored), "file ", file.string(), " does not exist");
  check(!fs::is_directory(file, ignored), file.string(), " is a folder; expected a safetensors file");
  const int descriptor = ::open(file.c_str(), O_RDONLY | O_CLOEXEC);
  check(descriptor >= 0, "file ", file.string(), " cannot be read: ", std::strerror(errno));
  struct stat status = {};
  const bool known = ::fstat(descriptor, &status) == 0;
  const auto size = known ? static_cast<size_t>(status.st_size) : 0;
  // An empty file cannot be mapped; it is reported as too short by the caller.
  void* address = size > 0 ? ::mmap(nullptr, size, PROT_READ, MAP_PRIVATE, descriptor, 0) : nullptr;
  const int reason = errno;
  ::close(descriptor);
  check(address != MAP_FAILED, "file ", file.string(), " cannot be read: ", std::strerror(reason));
  if (address == nullptr) return {};
  return {std::shared_ptr<const void>(address, [address, size](const void*) { ::munmap(address, size); }),
          {static_cast<const std::byte*>(address), size}};
}

uint64_t header_length(std::span<const std::byte> bytes, const std::string& file) {
  check(bytes.size() >= kLengthBytes, file, " is not a safetensors file: it has ", bytes.size(),
        " bytes, expected at least 8");
  uint64_t length = 0;
  std::memcpy(&length, bytes.data(), kLengthBytes);
  check(length <= kLargestHeader && length <= bytes.size() - kLengthBytes, file,
        " is not a whole safetensors file: its header claims ", length, " bytes, the file has ",
        bytes.size() - kLengthBytes, " after the length; it may be cut off or of another format");
  return length;
}

nlohmann::json parse_header(std::string_view text, const std::string& file, Errors& errors) {
  check(is_valid_utf8(text), file, ": the header is not valid UTF-8; expected a safetensors file");
  check(!nests_too_deep(text), file, ": the header nests deeper than ", kDeepestJson,
        " levels; expected a safetensors file");
  std::array<std::set<std::string>, 2> seen;  // names of tensors; keys of one tensor
  const auto note_key = [&](int depth, nlohmann::json::parse_event_t event, nlohmann::json& parsed) {
    if (event == nlohmann::json::parse_event_t::object_start && depth == 1) seen[1].clear();
    if (event == nlohmann::json::parse_event_t::key && depth <= 2) {
      const auto key = parsed.get<std::string>();
      if (!seen[static_cast<size_t>(depth) - 1].insert(key).second)
        errors.add(depth == 1 ? "tensor '" : "key '", key, "' is given twice");
    }
    return true;
  };
  nlohmann::json header;
  try {
    header = nlohmann::json::parse(text, note_key);
  } catch (const nlohmann::json::parse_error& e) {
    fail(file, ": the header is not JSON (byte ", e.byte, " of ", text.size(), "); expected a safetensors file");
  } catch (const nlohmann::json::exception& e) {
    fail(file, ": the header holds a value out of range (", e.what(), "); expected a safetensors file");
  }
  check(header.is_object(), file, ": the header is not a JSON object; expected a safetensors file");
  return header;
}

bool read_sizes(const nlohmann::json& list, std::vector<int64_t>& sizes) {
  if (!list.is_array()) return false;
  for (const auto& item : list) {
    if (!item.is_number_unsigned() || item.get<uint64_t>() > std::numeric_limits<int64_t>::max()) return false;
    sizes.push_back(item.get<int64_t>());
  }
  return true;
}

/// The entry of one tensor, or nothing after its mistakes were noted.
std::optional<SafeTensorInfo> read_info(const std::string& name, const nlohmann::json& entry, size_t available,
                                        Errors& errors) {
  const auto wrong = [&](const auto&... parts) {
    errors.add("tensor '", name, "': ", parts...);
    return std::nullopt;
  };
  if (!entry.is_object() || entry.size() != 3 || !entry.contains("dtype") || !entry.contains("shape") ||
      !entry.contains("data_offsets"))
    return wrong("expected exactly dtype, shape and data_offsets");
  SafeTensorInfo info;
  const auto& dtype = entry["dtype"];
  const Dtype* known = dtype.is_string() ? find_dtype(dtype.get<std::string>()) : nullptr;
  if (known == nullptr) return wrong("dtype ", dtype.dump(), " is not supported; expected one of ", known_dtypes());
  info.dtype = known->name;
  std::vector<int64_t> offsets;
  if (!read_sizes(entry["shape"], info.shape))
    return wrong("the shape is not a list of sizes: ", entry["shape"].dump());
  if (!read_sizes(entry["data_offsets"], offsets) || offsets.size() != 2 || offsets[0] > offsets[1])
    return wrong("data_offsets is not [begin, end]: ", entry["data_offsets"].dump());
  info.begin = static_cast<size_t>(offsets[0]);
  info.end = static_cast<size_t>(offsets[1]);
  if (info.end > available)
    return wrong("its bytes end at ", info.end, ", the file has ", available, "; it may be cut off");
  const auto expected = byte_size(known->bytes, info.shape);
  if (!expected) return wrong("the shape ", shape_text(info.shape), " is too large");
  if (*expected != info.end - info.begin)
    return wrong(info.dtype, " ", shape_text(info.shape), " needs ", *expected, " bytes, data_offsets give ",
                 info.end - info.begin);
  return info;
}

void check_layout(const std::vector<std::pair<std::string, SafeTensorInfo>>& tensors, size_t available,
                  Errors& errors) {
  size_t position = 0;
  std::string before = "the header";
  for (const auto& [name, info] : tensors) {
    if (info.begin < position) errors.add("tensor '", name, "' overlaps ", before);
    if (info.begin > position)
      errors.add(info.begin - position, " bytes between ", before, " and tensor '", name, "' belong to no tensor");
    position = std::max(position, info.end);
    before = cat("tensor '", name, "'");
  }
  if (position < available) errors.add(available - position, " bytes after ", before, " belong to no tensor");
}

}  // namespace

size_t safetensors_element_size(std::string_view dtype) {
  const Dtype* found = find_dtype(dtype);
  return found != nullptr ? found->bytes : 0;
}

SafeTensorsFile SafeTensorsFile::read(const fs::path& file) {
  SafeTensorsFile out;
  out.file_ = file.string();
  auto [owner, all] = map_file(file);
  out.mapping_ = std::move(owner);
  const uint64_t length = header_length(all, out.file_);
  out.data_begin_ = kLengthBytes + length;
  out.bytes_ = all.subspan(out.data_begin_);
  Errors errors;
  const std::string_view text(reinterpret_cast<const char*>(all.data()) + kLengthBytes, length);
  const nlohmann::json header = parse_header(text, out.file_, errors);
  for (const auto& [name, entry] : header.items()) {
    if (name != kMetadata) {
      if (auto info = read_info(name, entry, out.bytes_.size(), errors))
        out.tensors_.emplace_back(name, std::move(*info));
      continue;
    }
    if (!entry.is_object()) errors.add("__metadata__ is not an object");
    for (const auto& [key, value] : entry.items()) {
      if (value.is_string()) out.metadata_[key] = value.get<std::string>();
      else errors.add("__metadata__ '", key, "' is not a string");
    }
  }
  std::stable_sort(out.tensors_.begin(), out.tensors_.end(), [](const auto& a, const auto& b) {
    return std::pair(a.second.begin, a.second.end) < std::pair(b.second.begin, b.second.end);
  });
  // The layout of the rest says nothing when a tensor is missing from it.
  if (errors.empty()) check_layout(out.tensors_, out.bytes_.size(), errors);
  errors.throw_if_any(out.file_);
  for (size_t i = 0; i < out.tensors_.size(); ++i) out.index_.emplace(out.tensors_[i].first, i);
  return out;
}

const SafeTensorInfo& SafeTensorsFile::info(std::string_view name) const {
  if (const auto found = index_.find(name); found != index_.end()) return tensors_[found->second].second;
  std::vector<std::string> names;
  for (const auto& [known, unused] : tensors_) names.push_back(known);
  fail(file_, " holds no tensor '", name, "'", did_you_mean(name, names), "; it has: ", join(names, ", ", 8));
}

std::span<const std::byte> SafeTensorsFile::data(std::string_view name) const {
  const SafeTensorInfo& found = info(name);
  return bytes_.subspan(found.begin, found.end - found.begin);
}

namespace {

void check_views(std::span<const SafeTensorView> tensors, const std::map<std::string, std::string>& metadata,
                 const std::string& file) {
  Errors errors;
  std::set<std::string_view> names;
  for (const SafeTensorView& tensor : tensors) {
    if (tensor.name == kMetadata || !is_valid_utf8(tensor.name))
      errors.add("'", tensor.name, "' cannot be a tensor's name");
    if (!names.insert(tensor.name).second) errors.add("tensor '", tensor.name, "' is given twice");
    const Dtype* dtype = find_dtype(tensor.dtype);
    if (dtype == nullptr) {
      errors.add("tensor '", tensor.name, "': dtype '", tensor.dtype, "' is not supported; expected one of ",
                 known_dtypes());
      continue;
    }
    const auto expected = byte_size(dtype->bytes, tensor.shape);
    if (!expected || *expected != tensor.bytes.size())
      errors.add("tensor '", tensor.name, "': ", tensor.dtype, " ", shape_text(tensor.shape), " does not fit ",
                 tensor.bytes.size(), " bytes");
  }
  for (const auto& [key, value] : metadata)
    if (!is_valid_utf8(key) || !is_valid_utf8(value)) errors.add("metadata '", key, "' is not valid UTF-8");
  errors.throw_if_any(cat("cannot write ", file));
}

/// Length and header of a file, padded with spaces so that the tensors begin at a multiple of 8.
std::string header_bytes(std::span<const SafeTensorView* const> tensors,
                         const std::map<std::string, std::string>& metadata) {
  nlohmann::ordered_json header = nlohmann::ordered_json::object();
  if (!metadata.empty()) header[std::string(kMetadata)] = metadata;
  size_t position = 0;
  for (const SafeTensorView* tensor : tensors) {
    const size_t end = position + tensor->bytes.size();
    header[tensor->name] = {{"dtype", tensor->dtype}, {"shape", tensor->shape}, {"data_offsets", {position, end}}};
    position = end;
  }
  std::string text = header.dump();
  text.append((8 - text.size() % 8) % 8, ' ');
  const uint64_t length = text.size();
  std::string out(kLengthBytes, '\0');
  std::memcpy(out.data(), &length, kLengthBytes);
  return out + text;
}

}  // namespace

void write_safetensors(const fs::path& file, std::span<const SafeTensorView> tensors,
                       const std::map<std::string, std::string>& metadata, const BytesOfTurn& bytes_of) {
  check_views(tensors, metadata, file.string());
  std::vector<const SafeTensorView*> order;
  for (const SafeTensorView& tensor : tensors) order.push_back(&tensor);
  std::sort(order.begin(), order.end(), [](const SafeTensorView* a, const SafeTensorView* b) {
    const auto rank_a = find_dtype(a->dtype), rank_b = find_dtype(b->dtype);
    return rank_a != rank_b ? rank_a < rank_b : a->name < b->name;
  });
  const std::string header = header_bytes(order, metadata);
  write_file_atomically(file, [&](const fs::path& temporary) {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    out.write(header.data(), static_cast<std::streamsize>(header.size()));
    for (const SafeTensorView* tensor : order) {
      const auto bytes = bytes_of ? bytes_of(static_cast<size_t>(tensor - tensors.data())) : tensor->bytes;
      check(bytes.size() == tensor->bytes.size(), file.string(), ": ", tensor->name, " changed its size");
      out.write(reinterpret_cast<const char*>(bytes.data()), static_cast<std::streamsize>(bytes.size()));
    }
    out.close();
    check(!out.fail(), "cannot write ", file.string(), ": ", std::strerror(errno != 0 ? errno : EIO));
  });
}

}  // namespace deeplora
