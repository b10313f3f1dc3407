// An exported program again, with merged weights: what torch.export.load opens.
#include <caffe2/serialize/inline_container.h>
#include <torch/torch.h>

#include <cerrno>
#include <cstring>
#include <fstream>
#include <optional>
#include <set>

#include "core/files.h"
#include "core/json_file.h"
#include "interchange/export_form.h"
#include "interchange/merged_check.h"
#include "interchange/program_head.h"
#include "interchange/pt2_form.h"
#include "model_files/exported_file.h"
#include "model_files/torchscript_file.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

using nlohmann::json;

/// Records of a zip that LibTorch writes, at its alignment.
class RecordWriter {
 public:
  explicit RecordWriter(const fs::path& file)
      : out_(file, std::ios::binary), writer_([this](const void* data, size_t size) { return take(data, size); }) {
    check(out_.good(), "cannot write ", file.string(), ": ", std::strerror(errno));
    writer_.setMinVersion(6);  // as torch.export.save does
  }

  void add(const std::string& name, const void* data, size_t size) { writer_.writeRecord(name, data, size); }
  void add(const std::string& name, const std::string& text) { add(name, text.data(), text.size()); }

  void finish(const fs::path& file) {
    writer_.writeEndOfFile();
    if (reason_ == 0 && !out_.flush()) reason_ = errno ? errno : EIO;
    check(reason_ == 0, "cannot write ", file.string(), ": ", std::strerror(reason_));
  }

 private:
  /// LibTorch's writer aborts the process when it learns of a full disk while it closes: it is never told.
  size_t take(const void* data, size_t size) {
    if (reason_ == 0 && !out_.write(static_cast<const char*>(data), static_cast<std::streamsize>(size)))
      reason_ = errno ? errno : EIO;
    return size;
  }

  int reason_ = 0;
  std::ofstream out_;
  caffe2::serialize::PyTorchStreamWriter writer_;
};

/// Records that the writer makes by itself.
bool of_the_container(const std::string& name) {
  return name == "version" || name == "byteorder" || name.starts_with(".data/");
}

json described(const ExportedTensor& tensor, bool trained) {
  const auto numbers = [](const std::vector<ExportedSize>& sizes) {
    json out = json::array();
    for (const auto& size : sizes) out.push_back({{"as_int", *size.fixed}});
    return out;
  };
  const size_t colon = tensor.device.find(':');
  const json index =
      colon == std::string::npos ? json(nullptr) : json::parse(tensor.device.substr(colon + 1), nullptr, false);
  return {{"dtype", tensor.dtype},
          {"sizes", numbers(tensor.sizes)},
          {"requires_grad", trained},
          {"device", {{"type", tensor.device.substr(0, colon)}, {"index", index.is_number() ? index : json(nullptr)}}},
          {"strides", numbers(tensor.strides)},
          {"storage_offset", {{"as_int", *tensor.offset.fixed}}},
          {"layout", 7}};
}

/// Where the tensors of a folder lie, as torch.export.save of today lists them.
std::string table_of(const ExportedFile& file, const std::string& folder) {
  json config = json::object();
  for (const auto& [name, payload] : file.payloads())
    if (payload.path.starts_with(folder))
      config[name] = {{"path_name", payload.path.substr(folder.size())},
                      {"is_param", payload.parameter},
                      {"use_pickle", false},
                      {"tensor_meta", described(*payload.tensor, payload.parameter)}};
  return json{{"config", config}}.dump();
}

/// The merged program's records: those of its file, some of them changed. A file of PyTorch 2.8 or 2.7 becomes one of
/// today's layout.
class MergedProgram {
 public:
  MergedProgram(const ExportedFile& target, std::map<std::string, std::string> extras)
      : target_(target), extras_(std::move(extras)) {
    for (const auto& [name, payload] : target.payloads())
      if (target.tensor(name).numel() > 0) storages_.try_emplace(payload.path, target.tensor(name).storage());
    const auto& older = target.older_layout();
    if (!older || !older->flat) reader_.emplace(exported_place(target.file()).file.string());
    if (!older) return;
    changed_ = older->records;
    changed_[weights_file()] = table_of(target, kExportedWeights);
    changed_[cat(kExportedConstants, target.model(), "_constants_config.json")] = table_of(target, kExportedConstants);
  }

  /// What stands on the states: its operators, and a head's tensors.
  void add_end(const ArchiveInterface& interface, const StatesEnd& end, std::optional<int64_t> padding) {
    json program = json_of(program_file());
    append_end(program, target_, interface, end, padding);
    if (end.head) add_tensors(program, *end.head);
    changed_[program_file()] = program.dump();
  }

  /// Writes `file`, which messages call `named`.
  void write_for(const fs::path& named, const fs::path& file) {
    try {
      write(file);
    } catch (const c10::Error& e) {
      fail("cannot write ", named.string(), ": ", short_reason(e));
    }
  }

 private:
  void write(const fs::path& file) {
    RecordWriter out(file);
    for (const auto& record : records_of_file()) {
      if (changed_.count(record) == 0) add_unchanged_or_merged(record, out);
      else add_changed(record, out);
      if (record.starts_with(kExportedWeights)) add_new(out);
    }
    if (target_.older_layout())
      for (const auto& [path, storage] : storages_) out.add(path, storage.data(), storage.nbytes());
    add_new(out);
    while (!changed_.empty()) add_changed(changed_.begin()->first, out);
    for (const auto& [name, content] : extras_) out.add("extra/" + name, content);
    out.finish(file);
  }

  /// Those that stay in their order, whatever their content becomes.
  std::vector<std::string> records_of_file() {
    std::vector<std::string> out;
    if (!reader_) return out;
    for (const auto& record : reader_->getAllRecords()) {
      const bool pickle = target_.older_layout() && target_.older_layout()->pickles.count(record) != 0;
      if (!of_the_container(record) && !record.starts_with("extra/") && !pickle) out.push_back(record);
    }
    return out;
  }

  void add_changed(const std::string& record, RecordWriter& out) { out.add(record, changed_.extract(record).mapped()); }

  std::string program_file() const { return cat("models/", target_.model(), ".json"); }
  std::string weights_file() const { return cat(kExportedWeights, target_.model(), "_weights_config.json"); }

  void add_tensors(const json& program, const FoldedHead& head) {
    json weights = json_of(weights_file());
    const std::string module = head_module_name(target_);
    std::set<std::string> taken;
    for (const auto& record : records_of_file()) taken.insert(record);
    for (const auto& [path, unused] : storages_) taken.insert(path);
    size_t free = 0;
    for (const auto& path : taken) free += path.starts_with(cat(kExportedWeights, "weight_"));
    for (const auto& [name, value] : {std::pair{"weight", head.weight}, {"bias", head.bias}}) {
      const std::string path = cat("weight_", free++);
      const std::string graph_name = parameter_value(program, cat(module, ".", name));
      weights["config"][cat(module, ".", name)] = {
          {"path_name", path},
          {"is_param", true},
          {"use_pickle", false},
          {"tensor_meta", program["graph_module"]["graph"]["tensor_values"][graph_name]}};
      new_tensors_.emplace_back(cat(kExportedWeights, path), value.contiguous());
    }
    changed_[weights_file()] = weights.dump();
  }

  std::string text(const std::string& record) {
    if (const auto changed = changed_.find(record); changed != changed_.end()) return changed->second;
    auto [data, size] = reader_->getRecord(record);
    return {static_cast<const char*>(data.get()), size};
  }
  json json_of(const std::string& record) { return parse_json<json>(record, text(record)); }

  static std::string parameter_value(const json& program, const std::string& path) {
    for (const auto& spec : program["graph_module"]["signature"]["input_specs"])
      if (spec.contains("parameter") && spec["parameter"]["parameter_name"] == path)
        return spec["parameter"]["arg"]["name"];
    return {};
  }

  void add_unchanged_or_merged(const std::string& record, RecordWriter& out) {
    const auto storage = storages_.find(record);
    if (storage != storages_.end() && storage->second.nbytes() == reader_->getRecordSize(record)) {
      out.add(record, storage->second.data(), storage->second.nbytes());
      return;
    }
    auto [data, size] = reader_->getRecord(record);
    out.add(record, data.get(), size);
  }

  void add_new(RecordWriter& out) {
    for (const auto& [name, value] : new_tensors_) out.add(name, value.const_data_ptr(), value.nbytes());
    new_tensors_.clear();
  }

  const ExportedFile& target_;
  std::map<std::string, std::string> extras_;
  std::optional<caffe2::serialize::PyTorchStreamReader> reader_;
  std::map<std::string, c10::Storage> storages_;  ///< merged values by record
  std::map<std::string, std::string> changed_;    ///< those that were written are gone
  std::vector<std::pair<std::string, torch::Tensor>> new_tensors_;
};

MergeReport export_pt2(const ExportedFile& archive, const ExportSource& s, const fs::path& output) {
  const torch::NoGradGuard no_grad;
  std::optional<int64_t> padding = s.padding;
  const LiveProbe probe = probe_live(archive, s.adapted, padding);
  MergeReport report;
  ExportedFile target = ExportedFile::load(archive.file());
  merge_into(target, archive, s.adapted, report);
  ArchiveInterface interface = s.interface;
  const auto end = end_of(s.adapted, probe.expected.scalar_type());
  MergedProgram merged(target, merged_extras(archive, s.info, end, end ? head_module_name(target) : "", ""));
  if (end) {
    if (end->head) report.rounding = std::max(report.rounding, end->head->rounding);
    merged.add_end(s.interface, *end, padding);
    interface.output.clear();
  }
  write_file_atomically(output, [&](const fs::path& temporary) {
    merged.write_for(output, temporary);
    const fs::path program = temporary.string() + "#" + target.model();
    check_merged(ExportedFile::load(program), interface, probe, archive, s.adapted, report);
  });
  return report;
}

}  // namespace

void save_program(const ExportedFile& changed, const std::map<std::string, std::string>& extras, const fs::path& file) {
  MergedProgram(changed, extras).write_for(file, file);
}

ExportForm pt2_form() {
  return {"the same exported program with the merged weights, names, dtypes and extra files; a new head at its end",
          [](const ExportSource& s, const fs::path& output) {
            check(output.extension() == ".pt2", "--output ", output.string(),
                  ": an exported program is a file; name it with .pt2");
            const auto* archive = dynamic_cast<const ExportedFile*>(&s.files);
            check(archive != nullptr, "export --to pt2: model ", s.files.file().string(), " is a ", s.files.kind(),
                  ", no exported program (.pt2); export --to ", s.files.holds_code() ? "torchscript" : "safetensors");
            const MergeReport report = export_pt2(*archive, s, output);
            return cat(said_of_merge(report), "; reloaded, equals the adapted model to ", report.difference);
          },
          /*compares_live=*/true};
}

}  // namespace deeplora
