#include "model_files/tensor_file.h"

#include <array>
#include <cstring>

#include "core/long_work.h"
#include "core/safetensors.h"

namespace deeplora {
namespace {

constexpr std::array<std::pair<const char*, torch::ScalarType>, 10> kTypes{{{"F64", torch::kFloat64},
                                                                            {"F32", torch::kFloat32},
                                                                            {"F16", torch::kFloat16},
                                                                            {"BF16", torch::kBFloat16},
                                                                            {"I64", torch::kInt64},
                                                                            {"I32", torch::kInt32},
                                                                            {"I16", torch::kInt16},
                                                                            {"I8", torch::kInt8},
                                                                            {"U8", torch::kUInt8},
                                                                            {"BOOL", torch::kBool}}};

std::string name_of(torch::ScalarType type) {
  for (const auto& [name, known] : kTypes)
    if (known == type) return name;
  fail("a tensor of type ", torch::toString(type), " cannot be written as safetensors");
}

}  // namespace

torch::ScalarType safetensors_type(const std::string& name) {
  for (const auto& [known, type] : kTypes)
    if (known == name) return type;
  fail("unknown safetensors type ", name);
}

void save_tensors(const std::filesystem::path& file, const std::vector<NamedTensor>& tensors,
                  const std::map<std::string, std::string>& metadata, const TensorOfTurn& value_of) {
  const auto bytes_of = [](const torch::Tensor& x) {
    return std::span<const std::byte>{static_cast<const std::byte*>(x.const_data_ptr()), x.nbytes()};
  };
  std::vector<torch::Tensor> kept;  // contiguous copies must live until the file is written
  std::vector<SafeTensorView> views;
  const LongWork work(cat("writing ", file.filename().string()));
  for (const auto& [name, value] : tensors) {
    kept.push_back(value.detach().to(torch::kCPU).contiguous());
    const torch::Tensor& bytes = kept.back();
    views.push_back({name, name_of(bytes.scalar_type()), bytes.sizes().vec(), bytes_of(bytes)});
  }
  if (!value_of) return write_safetensors(file, views, metadata);
  torch::Tensor now;
  write_safetensors(file, views, metadata, [&](size_t i) {
    now = torch::Tensor();
    now = value_of(i).detach().to(torch::kCPU).contiguous();
    return bytes_of(now);
  });
}

TensorFile load_tensors(const std::filesystem::path& file) {
  const SafeTensorsFile read = SafeTensorsFile::read(file);
  TensorFile out;
  out.metadata = read.metadata();
  for (const auto& [name, info] : read.tensors()) {
    torch::Tensor value = torch::empty(info.shape, torch::TensorOptions(safetensors_type(info.dtype)));
    const auto bytes = read.data(name);
    if (!bytes.empty()) std::memcpy(value.mutable_data_ptr(), bytes.data(), bytes.size());
    out.tensors.emplace(name, value);
  }
  return out;
}

}  // namespace deeplora
