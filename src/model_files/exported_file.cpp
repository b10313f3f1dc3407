#include "model_files/exported_file.h"

#include <caffe2/serialize/inline_container.h>
#include <torch/torch.h>

#include <fstream>
#include <set>

#include "core/files.h"
#include "core/zip_directory.h"
#include "model_files/exported_module.h"
#include "model_files/torchscript_file.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMostProgram = uint64_t{1} << 30;  // JSON of one program, and of a table of its weights
constexpr uint64_t kMostExtras = uint64_t{256} << 20;
constexpr size_t kLongestTensorName = 1024, kMostPrograms = 64;
constexpr uint64_t kMostSpread = uint64_t{64} << 20;  // bytes that an expanded tensor may stand for beyond its own

/// Entries by their names without the archive's own folder. Throws Error where read_zip_directory does.
std::map<std::string, ZipEntry> entries_of(const fs::path& file) {
  std::map<std::string, ZipEntry> out;
  for (const ZipEntry& entry : read_zip_directory(file, "model"))
    out.emplace(entry.name.substr(entry.name.find('/') == std::string::npos ? 0 : entry.name.find('/') + 1), entry);
  return out;
}

/// "decoder" of "models/decoder.json".
std::vector<std::string> programs_in(const std::map<std::string, ZipEntry>& entries) {
  constexpr std::string_view kFolder = "models/", kEnd = ".json";
  std::vector<std::string> out;
  for (const auto& [name, unused] : entries)
    if (name.starts_with(kFolder) && name.ends_with(kEnd) && name.size() > kFolder.size() + kEnd.size())
      out.push_back(name.substr(kFolder.size(), name.size() - kFolder.size() - kEnd.size()));
  return out;
}

class ExportedReader {
 public:
  ExportedReader(const fs::path& path, torch::Device device)
      : place_(exported_place(path)), where_(cat("model ", path.string())), device_(device) {}

  /// What of the file is no code.
  struct Content {
    std::string model;
    ExportedProgram program;
    std::map<std::string, ExportedPayload> payloads;
    ExportedTensors tensors;
    std::map<std::string, std::string> extras;
    std::shared_ptr<const StoredTensors> stored;
  };

  Content run() {
    check_there();
    const UnchangedFile same(place_.file);
    entries_ = entries_of(place_.file);
    refuse_other_kinds();
    out_.model = choose_program();
    out_.program = ExportedProgram::parse(cat(where_, ": models/", out_.model, ".json"),
                                          text(cat("models/", out_.model, ".json"), kMostProgram));
    map_files();
    read_table(kExportedWeights, cat(out_.model, "_weights_config.json"));
    read_table(kExportedConstants, cat(out_.model, "_constants_config.json"));
    read_extras();
    same.verify("model");
    return std::move(out_);
  }

 private:
  void check_there() const {
    std::error_code ignored;
    check(fs::exists(place_.file, ignored), "model ", place_.file.string(), " does not exist");
  }

  bool has(const std::string& name) const { return entries_.count(name) != 0; }

  void refuse_other_kinds() const {
    const char* again =
        "; load it in the PyTorch that wrote it and save it by torch.export.save of PyTorch 2.9 or later";
    check(!has("serialized_exported_program.json"), where_, " is an exported program in the form of PyTorch 2.7 or ",
          "before, whose weights are pickled", again);
    bool compiled = false;
    for (const auto& [name, unused] : entries_) compiled |= name.starts_with("data/aotinductor/");
    check(!compiled || !programs_in(entries_).empty(), where_, " is a package compiled by AOTInductor: machine code ",
          "without the program that it was made of; save that by torch.export.save");
    check(has("archive_version"), where_, " holds no archive_version; expected a file of torch.export.save");
    const std::string version = text("archive_version", 64);
    check(version == "0", where_, ": archive version ", version, "; expected 0");
    check(!has("byteorder") || text("byteorder", 64) == "little", where_,
          ": its numbers have their high bytes first; save it on a processor like this one");
  }

  std::string choose_program() const {
    const std::vector<std::string> programs = programs_in(entries_);
    check(!programs.empty(), where_, " holds no program (models/*.json)");
    check(programs.size() <= kMostPrograms, where_, " holds ", programs.size(), " programs; at most ", kMostPrograms);
    const std::string which =
        cat("it holds ", join(programs), "; name one: model.path: ", place_.file.string(), "#", programs.front());
    if (place_.model.empty()) {
      check(programs.size() == 1, where_, ": which program? ", which);
      return programs.front();
    }
    check(std::find(programs.begin(), programs.end(), place_.model) != programs.end(), where_, ": no program '",
          place_.model, "'", did_you_mean(place_.model, programs), "; ", which);
    return place_.model;
  }

  std::string text(const std::string& name, uint64_t most) const {
    const auto entry = entries_.find(name);
    check(entry != entries_.end(), where_, " holds no ", name, "; expected a file of torch.export.save");
    check(entry->second.size <= most, where_, ": ", name, " unpacks to ", entry->second.size, " bytes; at most ", most,
          " are read");
    try {
      caffe2::serialize::PyTorchStreamReader reader(place_.file.string());
      auto [data, size] = reader.getRecord(name);
      return {static_cast<const char*>(data.get()), size};
    } catch (const c10::Error&) {
      fail(where_, " is truncated or damaged: ", name, " cannot be read; copy or export it again");
    }
  }

  /// Where the raw tensors begin: entries that are not packed.
  void map_files() {
    std::ifstream in(place_.file, std::ios::binary);
    FileOfTensors places{place_.file, {}};
    for (const auto& [name, entry] : entries_) {
      if (!name.starts_with(kExportedWeights) && !name.starts_with(kExportedConstants)) continue;
      if (entry.size != entry.stored) continue;
      char header[kZipLocalHeader];
      in.seekg(static_cast<std::streamoff>(entry.offset));
      check(in.read(header, sizeof header).good(), where_, " is truncated or damaged: ", name, " cannot be read");
      const uint64_t begin = data_begin(entry, {header, sizeof header});
      check(begin + entry.size <= fs::file_size(place_.file), where_, " is truncated or damaged: ", name,
            " ends beyond the file");
      begins_[name] = begin;
      if (entry.size > 0) places.places.emplace(entry.size, begin);
    }
    out_.stored = std::make_shared<const StoredTensors>(std::vector<FileOfTensors>{std::move(places)});
  }

  void read_table(const std::string& folder, const std::string& table) {
    const bool pickled = has(cat(folder, out_.model, ".pt"));
    check(!pickled || has(folder + table), where_, ": ", folder, out_.model, ".pt is a pickle, as PyTorch ",
          out_.program.torch_version,
          " wrote weights; nothing is unpickled here: save it again by torch.export.save of "
          "PyTorch 2.9 or later");
    for (auto& [name, payload] :
         parse_exported_payloads(cat(where_, ": ", folder, table), text(folder + table, kMostProgram))) {
      check(!name.empty() && name.size() <= kLongestTensorName, where_, ": ", folder, table, ": a name of ",
            name.size(), " bytes");
      const torch::Tensor value = tensor(folder, name, payload);
      (payload.parameter ? out_.tensors.parameters : out_.tensors.others)[name] = value;
      payload.path = folder + payload.path;
      check(out_.payloads.emplace(name, std::move(payload)).second, where_, ": ", name,
            " is among its weights and its constants");
    }
  }

  torch::Tensor tensor(const std::string& folder, const std::string& name, const ExportedPayload& payload) {
    const std::string here = cat(where_, ": ", name);
    check(!payload.pickled && payload.tensor, here,
          payload.tensor ? " is a tensor of a class of its own" : " is an object of a class of its own",
          ", which is pickled; nothing is unpickled here: export the model without it");
    const torch::ScalarType type = exported_dtype(payload.tensor->dtype, here);
    const auto entry = entries_.find(folder + payload.path);
    const auto begin = begins_.find(folder + payload.path);
    check(entry != entries_.end(), here, ": its values lie in ", folder, payload.path, ", which is not in the file");
    check(begin != begins_.end(), here, ": its values in ", folder, payload.path,
          " are packed; expected them as they are");
    const uint64_t element = c10::elementSize(type), bytes = entry->second.size;
    const uint64_t extent = exported_extent(*payload.tensor, element, here);
    check(extent <= bytes, here, ": takes ", extent, " bytes, ", folder, payload.path, " has ", bytes,
          bytes == 0 ? ": it was saved without its values" : "; the file is damaged");
    std::vector<int64_t> sizes, strides;
    double count = 1;
    for (const auto& size : payload.tensor->sizes)
      sizes.push_back(*size.fixed), count *= static_cast<double>(*size.fixed);
    for (const auto& stride : payload.tensor->strides) strides.push_back(*stride.fixed);
    check(count * static_cast<double>(element) <= static_cast<double>(bytes + kMostSpread), here, ": ", count,
          " values in ", bytes, " bytes");
    if (extent == 0) return torch::empty(sizes, torch::TensorOptions(type).device(device_));
    return storage(folder + payload.path, begin->second, bytes, type)
        .as_strided(sizes, strides, *payload.tensor->offset.fixed)
        .variable_data();  // no view: training the whole model would ask its base for gradients
  }

  /// All of one raw file as numbers; one memory for all tensors that lie in it.
  torch::Tensor storage(const std::string& name, uint64_t begin, uint64_t bytes, torch::ScalarType type) {
    const auto key = std::make_pair(name, type);
    const auto known = storages_.find(key);
    if (known != storages_.end()) return known->second;
    const auto count = static_cast<int64_t>(bytes / c10::elementSize(type));
    return storages_[key] = out_.stored->at(0, begin, {count}, type).to(device_);
  }

  void read_extras() {
    constexpr std::string_view kFolder = "extra/";
    uint64_t unpacked = 0;
    for (const auto& [name, entry] : entries_) {
      if (!name.starts_with(kFolder)) continue;
      unpacked += entry.size;
      check(unpacked <= kMostExtras, where_, ": its extra files unpack to more than ", kMostExtras, " bytes");
      out_.extras.emplace(name.substr(kFolder.size()), text(name, kMostExtras));
    }
  }

  ExportedPlace place_;
  std::string where_;
  torch::Device device_;
  std::map<std::string, ZipEntry> entries_;
  std::map<std::string, uint64_t> begins_;
  std::map<std::pair<std::string, torch::ScalarType>, torch::Tensor> storages_;
  Content out_;
};

/// Names in the order in which the program takes them, then the others.
std::vector<std::string> in_order(const ExportedProgram& program, const std::map<std::string, torch::Tensor>& tensors) {
  std::vector<std::string> out;
  std::set<std::string> taken;
  for (const auto& spec : program.inputs)
    if (tensors.count(spec.target) && taken.insert(spec.target).second) out.push_back(spec.target);
  for (const auto& [name, unused] : tensors)
    if (taken.insert(name).second) out.push_back(name);
  return out;
}

}  // namespace

bool ExportedFile::recognises(const fs::path& path) {
  const fs::path file = exported_place(path).file;
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return false;
  try {
    const auto entries = entries_of(file);
    return entries.count("archive_format") != 0 || entries.count("serialized_exported_program.json") != 0 ||
           !programs_in(entries).empty();
  } catch (const Error&) {
    return false;
  }
}

bool ExportedFile::exported_here(const fs::path& path) {
  return entries_of(exported_place(path).file).count("extra/deeplora.json") != 0;
}

ExportedFile ExportedFile::load(const fs::path& path, torch::Device device) {
  ExportedFile out;
  const ExportedPlace place = exported_place(path);
  out.findings_.emplace(cat(kFingerprintFindings, " ", place.model), std::vector<fs::path>{place.file});
  auto content = ExportedReader(path, device).run();
  out.file_ = path;
  out.stored_ = content.stored;
  out.extras_ = std::move(content.extras);
  out.read_settings();
  out.model_ = content.model;
  out.payloads_ = std::move(content.payloads);
  for (const auto& name : in_order(content.program, content.tensors.parameters))
    out.add_tensor(name, content.tensors.parameters.at(name));
  out.parameters_ = out.tensors().size();
  for (const auto& name : in_order(content.program, content.tensors.others))
    out.add_tensor(name, content.tensors.others.at(name));
  auto made = exported_module(content.program, content.tensors, device, cat("model ", path.string()));
  out.module_ = std::move(made.module);
  out.module_.eval();
  out.limits_ = std::move(made.limits);
  out.arguments_ = std::move(made.arguments);
  const auto& arguments = out.module_.get_method("forward").function().getSchema().arguments();
  for (size_t i = 1; i < arguments.size(); ++i) out.inputs_.push_back(arguments[i].name());
  out.program_ = std::make_shared<const ExportedProgram>(std::move(content.program));
  return out;
}

}  // namespace deeplora
