#include "interchange/gguf_file.h"

#include <cerrno>
#include <cstring>
#include <fstream>
#include <set>

#include "core/error.h"
#include "core/files.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr uint32_t kVersion3 = 3, kFloat32Tensor = 0;
constexpr size_t kGgufAlignment = 32, kLongestName = 63;

/// Little-endian bytes, as every machine that this runs on keeps them.
class GgufBytes {
 public:
  template <class Number>
  void add(Number value) {
    const auto* bytes = reinterpret_cast<const char*>(&value);
    text_.append(bytes, sizeof value);
  }
  void add_text(const std::string& text) {
    add(static_cast<uint64_t>(text.size()));
    text_ += text;
  }
  void align() { text_.append((kGgufAlignment - text_.size() % kGgufAlignment) % kGgufAlignment, '\0'); }
  const std::string& text() const { return text_; }

 private:
  std::string text_;
};

/// Type numbers of the format, in the order of GgufValue's alternatives.
constexpr uint32_t kTypeNumbers[] = {8, 4, 6, 7};

void add_value(GgufBytes& out, const GgufValue& value) {
  out.add(kTypeNumbers[value.index()]);
  if (const auto* text = std::get_if<std::string>(&value)) out.add_text(*text);
  else if (const auto* number = std::get_if<uint32_t>(&value)) out.add(*number);
  else if (const auto* real = std::get_if<float>(&value)) out.add(*real);
  else out.add(static_cast<uint8_t>(std::get<bool>(value)));
}

uint64_t aligned(uint64_t bytes) { return (bytes + kGgufAlignment - 1) / kGgufAlignment * kGgufAlignment; }

void check_tensors(const std::vector<GgufTensor>& tensors, const std::string& file) {
  Errors errors;
  std::set<std::string> names;
  for (const auto& tensor : tensors) {
    if (!names.insert(tensor.name).second) errors.add("tensor '", tensor.name, "' is given twice");
    if (tensor.name.empty() || tensor.name.size() > kLongestName)
      errors.add("tensor '", tensor.name, "': a name has 1 to ", kLongestName, " bytes");
    size_t count = 1;
    for (const int64_t size : tensor.shape) count *= static_cast<size_t>(size);
    if (count != tensor.values.size())
      errors.add("tensor '", tensor.name, "': shape [", join(tensor.shape), "] does not fit ", tensor.values.size(),
                 " values");
  }
  errors.throw_if_any(cat("cannot write ", file));
}

/// Everything before the values.
std::string header(const std::vector<std::pair<std::string, GgufValue>>& settings,
                   const std::vector<GgufTensor>& tensors) {
  GgufBytes out;
  for (const char letter : {'G', 'G', 'U', 'F'}) out.add(letter);
  out.add(kVersion3);
  out.add(static_cast<uint64_t>(tensors.size()));
  out.add(static_cast<uint64_t>(settings.size()));
  for (const auto& [key, value] : settings) {
    out.add_text(key);
    add_value(out, value);
  }
  uint64_t position = 0;
  for (const auto& tensor : tensors) {
    out.add_text(tensor.name);
    out.add(static_cast<uint32_t>(tensor.shape.size()));
    for (auto size = tensor.shape.rbegin(); size != tensor.shape.rend(); ++size) out.add(static_cast<uint64_t>(*size));
    out.add(kFloat32Tensor);
    out.add(position);
    position += aligned(tensor.values.size_bytes());
  }
  out.align();
  return out.text();
}

}  // namespace

void write_gguf(const fs::path& file, const std::vector<std::pair<std::string, GgufValue>>& settings,
                const std::vector<GgufTensor>& tensors) {
  check_tensors(tensors, file.string());
  const std::string begin = header(settings, tensors);
  write_file_atomically(file, [&](const fs::path& temporary) {
    std::ofstream out(temporary, std::ios::binary | std::ios::trunc);
    out.write(begin.data(), static_cast<std::streamsize>(begin.size()));
    const std::string zeros(kGgufAlignment, '\0');
    for (const auto& tensor : tensors) {
      const uint64_t bytes = tensor.values.size_bytes();
      out.write(reinterpret_cast<const char*>(tensor.values.data()), static_cast<std::streamsize>(bytes));
      out.write(zeros.data(), static_cast<std::streamsize>(aligned(bytes) - bytes));
    }
    out.close();
    check(!out.fail(), "cannot write ", file.string(), ": ", std::strerror(errno != 0 ? errno : EIO));
  });
}

}  // namespace deeplora
