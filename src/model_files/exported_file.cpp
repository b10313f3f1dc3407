#include "model_files/exported_file.h"

#include <caffe2/serialize/inline_container.h>
#include <torch/torch.h>

#include <fstream>
#include <set>

#include "core/files.h"
#include "core/zip_directory.h"
#include "model_files/exported_module.h"
#include "model_files/tensor_pickle.h"
#include "model_files/torchscript_file.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

constexpr uint64_t kMostProgram = uint64_t{1} << 30;  // JSON of one program, and of a table of its weights
constexpr uint64_t kMostExtras = uint64_t{256} << 20;
constexpr size_t kLongestTensorName = 1024, kMostPrograms = 64;
constexpr uint64_t kMostSpread = uint64_t{64} << 20;  // bytes that an expanded tensor may stand for beyond its own

// PyTorch 2.7's layout: no folders, the tensors as two archives of torch.save.
constexpr const char *kFlatProgram = "serialized_exported_program.json", *kFlatWeights = "serialized_state_dict.pt",
                     *kFlatConstants = "serialized_constants.pt", *kFlatInputs = "serialized_example_inputs.pt";
constexpr const char* kSaveAgain =
    "; load it in the PyTorch that wrote it and save it by torch.export.save of PyTorch 2.9 or later";

using ZipEntries = std::map<std::string, ZipEntry>;

ZipEntries without_folder(const std::vector<ZipEntry>& entries) {
  ZipEntries out;
  for (const ZipEntry& entry : entries) {
    const size_t slash = entry.name.find('/');
    out.emplace(slash == std::string::npos ? entry.name : entry.name.substr(slash + 1), entry);
  }
  return out;
}

/// Entries by their names without the archive's own folder, which PyTorch 2.7 did not give it. Throws Error where
/// read_zip_directory does.
ZipEntries entries_of(const fs::path& file) {
  const std::vector<ZipEntry> entries = read_zip_directory(file, "model");
  ZipEntries flat;
  for (const ZipEntry& entry : entries) flat.emplace(entry.name, entry);
  return flat.count(kFlatProgram) != 0 ? flat : without_folder(entries);
}

/// "decoder" of "models/decoder.json".
std::vector<std::string> programs_in(const ZipEntries& entries) {
  constexpr std::string_view kFolder = "models/", kEnd = ".json";
  if (entries.count(kFlatProgram) != 0) return {"model"};
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
    std::optional<OlderLayout> older;
    ExportedTensors tensors;
    std::map<std::string, std::string> extras;
    std::shared_ptr<const StoredTensors> stored;
  };

  Content run() {
    check_there();
    const UnchangedFile same(place_.file);
    entries_ = entries_of(place_.file);
    flat_ = has(kFlatProgram);
    refuse_other_kinds();
    out_.model = choose_program();
    const std::string program = flat_ ? kFlatProgram : cat("models/", out_.model, ".json");
    const std::string source = text(program, kMostProgram);
    out_.program = ExportedProgram::parse(cat(where_, ": ", program), source);
    const std::string weights = flat_ ? kFlatWeights : cat(kExportedWeights, out_.model, ".pt");
    const std::string constants = flat_ ? kFlatConstants : cat(kExportedConstants, out_.model, ".pt");
    map_files({weights, constants});
    read_tensors(kExportedWeights, "_weights_config.json", weights);
    read_tensors(kExportedConstants, "_constants_config.json", constants);
    if (out_.older) note_records_of_today(source);
    read_extras();
    same.verify("model");
    return std::move(out_);
  }

 private:
  /// Where the bytes of a record lie that is not packed.
  struct Place {
    uint64_t begin = 0, size = 0;
  };

  void check_there() const {
    std::error_code ignored;
    check(fs::exists(place_.file, ignored), "model ", place_.file.string(), " does not exist");
  }

  bool has(const std::string& name) const { return entries_.count(name) != 0; }

  void refuse_other_kinds() const {
    if (flat_) return;
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
    if (flat_) return unpacked(entry->second);
    try {
      caffe2::serialize::PyTorchStreamReader reader(place_.file.string());
      auto [data, size] = reader.getRecord(name);
      return {static_cast<const char*>(data.get()), size};
    } catch (const c10::Error&) {
      damaged(name);
    }
  }

  [[noreturn]] void damaged(const std::string& name) const {
    fail(where_, " is truncated or damaged: ", name, " cannot be read; copy or export it again");
  }

  std::string unpacked(const ZipEntry& entry) const {
    check(entry.size == entry.stored, where_, ": ", entry.name, " is packed; expected it as it is", kSaveAgain);
    return bytes_of(place_of(entry, 0), entry.name);
  }

  std::string bytes_of(const Place& place, const std::string& name) const {
    std::string out(place.size, '\0');
    std::ifstream in(place_.file, std::ios::binary);
    in.seekg(static_cast<std::streamoff>(place.begin));
    if (!in.read(out.data(), static_cast<std::streamsize>(out.size()))) damaged(name);
    return out;
  }

  /// Of an entry of the archive that begins at byte `base` of the file.
  Place place_of(const ZipEntry& entry, uint64_t base) const {
    char header[kZipLocalHeader];
    std::ifstream in(place_.file, std::ios::binary);
    in.seekg(static_cast<std::streamoff>(base + entry.offset));
    if (!in.read(header, sizeof header)) damaged(entry.name);
    const uint64_t begin = base + data_begin(entry, {header, sizeof header}), all = fs::file_size(place_.file);
    check(begin <= all && entry.size <= all - begin, where_, " is truncated or damaged: ", entry.name,
          " ends beyond the file");
    return {begin, entry.size};
  }

  /// Where the raw tensors begin: entries that are not packed, also those of the archives that hold an older file's.
  void map_files(const std::set<std::string>& archives) {
    FileOfTensors files{place_.file, {}};
    for (const auto& [name, entry] : entries_) {
      if (!flat_ && !name.starts_with(kExportedWeights) && !name.starts_with(kExportedConstants)) continue;
      if (entry.size != entry.stored) continue;
      const Place place = places_[name] = place_of(entry, 0);
      if (entry.size > 0) files.places.emplace(place.size, place.begin);
      if (archives.count(name) != 0) map_archive(name, place, files);
    }
    out_.stored = std::make_shared<const StoredTensors>(std::vector<FileOfTensors>{std::move(files)});
  }

  void map_archive(const std::string& name, const Place& archive, FileOfTensors& files) {
    for (const auto& [inner, entry] :
         without_folder(read_zip_directory(place_.file, "model", FilePart{archive.begin, archive.size}))) {
      if (entry.size != entry.stored) continue;
      const Place place = places_[cat(name, "/", inner)] = place_of(entry, archive.begin);
      if (entry.size > 0) files.places.emplace(place.size, place.begin);
    }
  }

  void read_tensors(const std::string& folder, const char* table, const std::string& pickle) {
    if (has(pickle)) return read_pickle(folder, pickle);
    const std::string name = cat(folder, out_.model, table);
    for (auto& [tensor, payload] : parse_exported_payloads(cat(where_, ": ", name), text(name, kMostProgram))) {
      payload.path = folder + payload.path;
      take_tensor(tensor, std::move(payload), name);
    }
  }

  /// The tensors of a file of PyTorch 2.8 or 2.7, under the paths that they have in a file of today.
  void read_pickle(const std::string& folder, const std::string& pickle) {
    check(places_.count(pickle + "/data.pkl") != 0, where_, ": ", pickle, " is no archive of torch.save",
          told_version(), kSaveAgain);
    const auto order = places_.find(pickle + "/byteorder");
    check(order == places_.end() || bytes_of(order->second, pickle) == "little", where_, ": ", pickle,
          ": its numbers have their high bytes first; save it on a processor like this one");
    if (!out_.older) out_.older.emplace();
    out_.older->pickles.insert(pickle);
    const char* kind = folder == kExportedWeights ? "weight_" : "tensor_";
    std::map<std::string, std::string> names;
    for (auto& [tensor, payload] : pickled_tensors(pickle)) {
      const auto [name, fresh] = names.try_emplace(payload.path, cat(folder, kind, names.size()));
      const auto place = places_.find(cat(pickle, "/", payload.path));
      if (fresh && place != places_.end()) places_[name->second] = place->second;
      payload.path = name->second;
      take_tensor(tensor, std::move(payload), pickle);
    }
  }

  std::map<std::string, ExportedPayload> pickled_tensors(const std::string& pickle) const {
    const Place& place = places_.at(pickle + "/data.pkl");
    check(place.size <= kMostProgram, where_, ": ", pickle, " lists ", place.size, " bytes; at most ", kMostProgram,
          " are read");
    std::set<std::string> parameters;
    for (const auto& spec : out_.program.inputs)
      if (spec.kind == "parameter") parameters.insert(spec.target);
    try {
      auto out = parse_pickled_tensors(cat(where_, ": ", pickle), bytes_of(place, pickle));
      for (auto& [name, payload] : out) payload.parameter = parameters.count(name) != 0;
      return out;
    } catch (const Error& e) {
      fail(e.what(), told_version(), kSaveAgain);
    }
  }

  std::string told_version() const { return cat(" (PyTorch ", out_.program.torch_version, ")"); }

  void take_tensor(const std::string& name, ExportedPayload payload, const std::string& table) {
    check(!name.empty() && name.size() <= kLongestTensorName, where_, ": ", table, ": a name of ", name.size(),
          " bytes");
    const torch::Tensor value = tensor(name, payload);
    (payload.parameter ? out_.tensors.parameters : out_.tensors.others)[name] = value;
    check(out_.payloads.emplace(name, std::move(payload)).second, where_, ": ", name,
          " is among its weights and its constants");
  }

  /// What a file of today has and this one lacks, its tensors and their tables apart.
  void note_records_of_today(const std::string& program) {
    out_.older->flat = flat_;
    if (!flat_) return;
    out_.older->records = {{"archive_format", "pt2"}, {"archive_version", "0"}, {"models/model.json", program}};
    if (has(kFlatInputs)) out_.older->records["data/sample_inputs/model.pt"] = text(kFlatInputs, kMostExtras);
  }

  torch::Tensor tensor(const std::string& name, const ExportedPayload& payload) {
    const std::string here = cat(where_, ": ", name);
    check(!payload.pickled && payload.tensor, here,
          payload.tensor ? " is a tensor of a class of its own" : " is an object of a class of its own",
          ", which is pickled; nothing is unpickled here: export the model without it");
    const torch::ScalarType type = exported_dtype(payload.tensor->dtype, here);
    const auto place = places_.find(payload.path);
    check(place != places_.end(), here, ": its values lie in ", payload.path,
          has(payload.path) ? ", which is packed; expected it as it is" : ", which is not in the file");
    const uint64_t element = c10::elementSize(type), bytes = place->second.size;
    const uint64_t extent = exported_extent(*payload.tensor, element, here);
    check(extent <= bytes, here, ": takes ", extent, " bytes, ", payload.path, " has ", bytes,
          bytes == 0 ? ": it was saved without its values" : "; the file is damaged");
    std::vector<int64_t> sizes, strides;
    double count = 1;
    for (const auto& size : payload.tensor->sizes)
      sizes.push_back(*size.fixed), count *= static_cast<double>(*size.fixed);
    for (const auto& stride : payload.tensor->strides) strides.push_back(*stride.fixed);
    check(count * static_cast<double>(element) <= static_cast<double>(bytes + kMostSpread), here, ": ", count,
          " values in ", bytes, " bytes");
    if (extent == 0) return torch::empty(sizes, torch::TensorOptions(type).device(device_));
    return storage(payload.path, place->second.begin, bytes, type)
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
    const std::string_view folder = flat_ ? "extra_files/" : "extra/";
    uint64_t bytes = 0;
    for (const auto& [name, entry] : entries_) {
      if (!name.starts_with(folder)) continue;
      bytes += entry.size;
      check(bytes <= kMostExtras, where_, ": its extra files unpack to more than ", kMostExtras, " bytes");
      out_.extras.emplace(name.substr(folder.size()), text(name, kMostExtras));
    }
  }

  ExportedPlace place_;
  std::string where_;
  torch::Device device_;
  bool flat_ = false;
  ZipEntries entries_;
  std::map<std::string, Place> places_;
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
  out.older_ = std::move(content.older);
  for (const auto& name : in_order(content.program, content.tensors.parameters))
    out.add_tensor(name, content.tensors.parameters.at(name));
  out.parameters_ = out.tensors().size();
  for (const auto& name : in_order(content.program, content.tensors.others))
    out.add_tensor(name, content.tensors.others.at(name));
  auto made = exported_module(content.program, content.tensors, device, cat("model ", path.string()));
  out.module_ = std::move(made.module);
  out.module_.eval();
  out.limits_ = std::move(made.limits);
  for (const auto& guard : content.program.guards)
    out.guards_.push_back(SizeGuard::parse(cat("model ", path.string()), guard));
  out.arguments_ = std::move(made.arguments);
  const auto& arguments = out.module_.get_method("forward").function().getSchema().arguments();
  for (size_t i = 1; i < arguments.size(); ++i) out.inputs_.push_back(arguments[i].name());
  out.program_ = std::make_shared<const ExportedProgram>(std::move(content.program));
  return out;
}

}  // namespace deeplora
