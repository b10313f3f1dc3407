#include "model_files/torchscript_code.h"

#include <caffe2/serialize/inline_container.h>

#include <string_view>

#include "core/error.h"
#include "core/zip_directory.h"

namespace deeplora {

namespace {

/// The first code file that holds `text`; empty where none does, or where the file cannot be read: loading says what is
/// wrong with it.
std::string code_with(const std::filesystem::path& file, std::string_view text) {
  std::string found;
  try {
    read_zip_directory(file, "model");
    caffe2::serialize::PyTorchStreamReader reader(file.string());
    for (const auto& record : reader.getAllRecords()) {
      if (record.rfind("code/", 0) != 0 || !record.ends_with(".py")) continue;
      auto [data, size] = reader.getRecord(record);
      if (std::string_view(static_cast<const char*>(data.get()), size).find(text) != std::string_view::npos)
        found = record;
    }
  } catch (const Error&) {
    return {};
  } catch (const c10::Error&) {
    return {};
  }
  return found;
}

}  // namespace

void check_loads_without_running(const std::filesystem::path& file) {
  const std::string found = code_with(file, "__setstate__");
  check(found.empty(), "model ", file.string(), " runs code while it is loaded (", found,
        " defines __setstate__), and inspect runs none; ",
        "export the model without it, or use the archive in a run if you trust where it comes from");
}

void check_weights_are_there(const std::filesystem::path& file) {
  check(code_with(file, "ConstantMKLDNNTensor").empty(), "model ", file.string(),
        ": torch.jit.optimize_for_inference packed its convolutions for oneDNN "
        "(prim::ConstantMKLDNNTensor), and such weights are not in the file: nothing can load it; save the module "
        "before it is optimised");
}

}  // namespace deeplora
