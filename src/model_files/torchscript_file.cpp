#include "model_files/torchscript_file.h"

#include <caffe2/serialize/inline_container.h>
#include <torch/csrc/jit/serialization/export.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <regex>
#include <sstream>

#include "core/files.h"
#include "core/zip_directory.h"
#include "model_files/archive_in_place.h"
#include "model_files/own_head.h"
#include "model_files/torchscript_code.h"
#include "model_files/torchscript_constants.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// A tokenizer and a configuration are a few MB; they are held in memory.
constexpr uint64_t kLargestExtras = uint64_t{256} << 20;
constexpr const char* kExportHint = "make one with torch.jit.trace, torch.export.save or tools/export_torchscript.py";

void check_zip(const fs::path& file) {
  std::error_code ignored;
  check(fs::exists(file, ignored), "model ", file.string(), " does not exist");
  check(!fs::is_directory(file, ignored), "model ", file.string(),
        " is a folder; expected a TorchScript file: ", kExportHint);
  std::ifstream in(file, std::ios::binary);
  check(in.good(), "model ", file.string(), " cannot be read");
  char magic[4] = {};
  in.read(magic, sizeof magic);
  check(std::memcmp(magic, "GGUF", 4) != 0, "model ", file.string(),
        " is a GGUF file, llama.cpp's form of a model, which is not read; ",
        "name the Hugging Face folder that it was converted from");
  check(file.extension() != ".safetensors", "model ", file.string(),
        " is a file of weights alone; name its folder, where config.json and the tokenizer lie");
  check(in.gcount() == 4, "model ", file.string(), " is ", in.gcount(),
        " bytes long; expected a TorchScript archive: ", kExportHint);
  check(std::memcmp(magic, "PK\x03\x04", 4) == 0, "model ", file.string(),
        " is not a TorchScript file (a zip archive was expected): ", kExportHint);
}

std::map<std::string, std::string> read_extras(const fs::path& file) {
  std::map<std::string, std::string> extras;
  bool has_code = false, has_data = false, has_export = false;
  uint64_t unpacked = 0;
  for (const ZipEntry& entry : read_zip_directory(file, "model"))
    if (entry.name.find("/extra/") != std::string::npos) unpacked += entry.size;
  check(unpacked <= kLargestExtras, "model ", file.string(), ": its extra files unpack to ", unpacked,
        " bytes; at most ", kLargestExtras, " are read");
  try {
    caffe2::serialize::PyTorchStreamReader reader(file.string());
    for (const auto& record : reader.getAllRecords()) {
      has_code |= record.rfind("code/", 0) == 0;
      has_data |= record == "data.pkl";
      has_export |= record.rfind("models/", 0) == 0 || record == "serialized_exported_program.json";
      if (record.rfind("extra/", 0) != 0) continue;
      auto [data, size] = reader.getRecord(record);
      extras.emplace(record.substr(6), std::string(static_cast<const char*>(data.get()), size));
    }
  } catch (const c10::Error&) {
    fail("model ", file.string(),
         " is truncated or damaged: its zip directory cannot be read; copy or export it again");
  }
  check(!has_export, "model ", file.string(), " is a torch.export program, not TorchScript: ", kExportHint);
  check(has_code || !has_data, "model ", file.string(),
        " is a torch.save checkpoint, not TorchScript (it holds no code): ", kExportHint);
  check(has_code, "model ", file.string(), " is a zip archive but not TorchScript (it holds no code): ", kExportHint);
  return extras;
}

}  // namespace

std::string short_reason(const std::exception& error) {
  std::string text = error.what();
  if (const auto* torch_error = dynamic_cast<const c10::Error*>(&error)) text = torch_error->what_without_backtrace();
  // A TorchScript failure buries the reason in its last "RuntimeError:" line.
  const size_t runtime = text.rfind("RuntimeError: ");
  if (runtime != std::string::npos) text = text.substr(runtime + 14);
  const size_t trace = text.find("\nException raised from");
  if (trace != std::string::npos) text.resize(trace);
  const size_t first = text.find_first_not_of(" \n");
  text = first == std::string::npos ? "" : text.substr(first);
  return text.substr(0, text.find('\n'));
}

std::string without_derivative(const std::exception& error) {
  constexpr std::string_view kBegin = "derivative for ", kEnd = " is not implemented";
  const std::string text = short_reason(error);
  const size_t begin = text.find(kBegin), end = text.find(kEnd);
  if (begin == std::string::npos || end == std::string::npos || end < begin + kBegin.size()) return {};
  return text.substr(begin + kBegin.size(), end - begin - kBegin.size());
}

namespace {

/// "x.py:7" of "  File \"/a/x.py\", line 7, in forward" or of "/a/x.py(7): forward"; empty for other lines.
std::string place_in(std::string_view line) {
  static const std::regex scripted("^\\s*File \"([^\"]*)\", line (\\d+)"), traced("^(\\S+)\\((\\d+)\\): ");
  std::cmatch found;
  if (!std::regex_search(line.begin(), line.end(), found, scripted) &&
      !std::regex_search(line.begin(), line.end(), found, traced))
    return {};
  return cat(found[1].str(), ":", found[2].str());
}

bool is_torchs_own(std::string_view place) {
  return place.find("/torch/") != std::string_view::npos || place.find("torch/nn/") != std::string_view::npos;
}

}  // namespace

std::string source_line(const std::exception& error) {
  std::istringstream text(error.what());
  std::string line, before, place, where, own_code;
  while (std::getline(text, line) && line.rfind("Exception raised from", 0) != 0) {
    const std::string found = place_in(line);
    if (!found.empty()) place = found;
    // The innermost line of the user's own code; a trace knows the file's line and shows the code as it was serialised.
    if (!found.empty() && line[0] == '/' && where.empty() && !is_torchs_own(found)) where = found;
    if (line.find("<--- HERE") != std::string::npos && !is_torchs_own(place)) {
      own_code = before;
      if (place.find("code/") == std::string::npos) where = place;
    }
    before = line;
  }
  if (own_code.empty()) return {};
  const size_t first = own_code.find_first_not_of(' ');
  const std::string file = where.substr(where.rfind('/') + 1);
  return cat(" at '", first == std::string::npos ? own_code : own_code.substr(first), "'",
             file.empty() ? "" : " (" + file + ")");
}

bool TorchScriptArchive::exported_here(const fs::path& file) {
  check_zip(file);
  return read_extras(file).contains("deeplora.json");
}

TorchScriptArchive TorchScriptArchive::load(const fs::path& file, torch::Device device, CodeDevices devices) {
  check_zip(file);
  const UnchangedFile same(file);
  TorchScriptArchive archive;
  archive.file_ = file;
  archive.findings_.emplace(kFingerprintFindings, std::vector<fs::path>{file});
  archive.extras_ = read_extras(file);
  archive.read_settings();
  check_weights_are_there(file);
  try {
    archive.read_module(device);
  } catch (const c10::Error& e) {
    same.verify("model");  // says more than what half a file made LibTorch say
    fail("model ", file.string(), " cannot be loaded as TorchScript: ", short_reason(e));
  }
  same.verify("model");
  archive.module_.eval();
  check(archive.module_.find_method("forward").has_value(), "model ", file.string(), " has no forward method");
  if (devices == CodeDevices::follow) follow_device(archive.module_, device);
  for (const auto& parameter : archive.module_.named_parameters()) archive.add_tensor(parameter.name, parameter.value);
  for (const auto& [name, value] : weight_constants(archive.module_, file)) archive.add_tensor(name, value);
  archive.parameters_ = archive.tensors().size();
  for (const auto& buffer : archive.module_.named_buffers()) archive.add_tensor(buffer.name, buffer.value);
  // The first is the object itself, whatever it is called.
  const auto& arguments = archive.module_.get_method("forward").function().getSchema().arguments();
  for (size_t i = 1; i < arguments.size(); ++i) archive.inputs_.push_back(arguments[i].name());
  return archive;
}

void TorchScriptArchive::read_module(torch::Device device) {
  if (device.is_cpu()) {
    auto [module, stored] = load_in_place(file_);
    module_ = std::move(module);
    stored_ = std::move(stored);
    return;
  }
  module_ = torch::jit::load(file_.string(), device);
  stored_ = std::make_shared<const StoredTensors>(std::vector<FileOfTensors>{tensors_in_archive(file_)});
}

void TorchScriptArchive::save(const torch::jit::Module& module, const std::map<std::string, std::string>& extras,
                              const fs::path& file) {
  const torch::jit::ExtraFilesMap extra_files(extras.begin(), extras.end());
  write_file_atomically(file, [&](const fs::path& temporary) {
    std::ofstream out(temporary, std::ios::binary);
    check(out.good(), "cannot write ", file.string(), ": ", std::strerror(errno));
    int reason = 0;
    // LibTorch's writer aborts the process when it learns of a full disk while it closes: it is never told.
    const auto write = [&](const void* data, size_t size) {
      if (reason == 0 && !out.write(static_cast<const char*>(data), static_cast<std::streamsize>(size)))
        reason = errno ? errno : EIO;
      return size;
    };
    try {
      torch::jit::ExportModule(module, write, extra_files);
    } catch (const c10::Error& e) {
      fail("cannot write ", file.string(), ": ", short_reason(e));
    }
    if (reason == 0 && !out.flush()) reason = errno ? errno : EIO;
    check(reason == 0, "cannot write ", file.string(), ": ", std::strerror(reason));
  });
}

bool gives_logits(const ModelFiles& archive) {
  if (archive.deeplora_info().value("token_logits", false)) return true;
  const JsonFile& info = archive.export_info();
  if (info.has("output")) return info.at<std::string>("output") == "logits";
  if (ends_in_token_head(archive)) return true;
  const auto names = archive.config().value("architectures", std::vector<std::string>());
  if (names.empty()) return false;
  const std::string& name = names.front();
  const bool language_model =
      name.ends_with("ForCausalLM") || name.ends_with("LMHeadModel") || name.ends_with("ForConditionalGeneration");
  return language_model && archive.output_type() == "Tensor";
}

}  // namespace deeplora
