#include <torch/torch.h>

#include "core/files.h"
#include "interchange/export_form.h"
#include "interchange/head_module.h"
#include "interchange/merge.h"
#include "interchange/merged_check.h"

namespace deeplora {
namespace fs = std::filesystem;

MergeReport export_torchscript(const TorchScriptArchive& archive, const ArchiveInterface& interface,
                               AdaptedModel& adapted, const nlohmann::ordered_json& info, const fs::path& output,
                               std::optional<int64_t> padding) {
  torch::NoGradGuard no_grad;
  const LiveProbe probe = probe_live(archive, adapted, padding);
  MergeReport report;
  // Devices in its code are those of the file, but on a processor, which has no others.
  using CodeDevices = TorchScriptArchive::CodeDevices;
  const bool on_processor = archive.tensors().empty() || archive.tensors().front().value.device().is_cpu();
  TorchScriptArchive target =
      TorchScriptArchive::load(archive.file(), torch::kCPU, on_processor ? CodeDevices::follow : CodeDevices::stay);
  merge_into(target, archive, adapted, report);
  ArchiveInterface merged_interface = interface;
  torch::jit::Module module = target.module();
  const auto end = end_of(adapted, probe.expected.scalar_type());
  if (end) {
    if (end->head) report.rounding = std::max(report.rounding, end->head->rounding);
    module = module_around(target, interface, *end, padding, probe.batch);
    merged_interface.output.clear();
  }
  const auto extras = merged_extras(archive, info, end, kHeadModule, cat(kBaseModule, "."));
  write_file_atomically(output, [&](const fs::path& temporary) {
    TorchScriptArchive::save(module, extras, temporary);
    check_merged(TorchScriptArchive::load(temporary), merged_interface, probe, archive, adapted, report);
  });
  return report;
}

ExportForm torchscript_form() {
  return {"the archive's own code, names, dtypes and extra files with the merged weights; a new head beside it",
          [](const ExportSource& s, const fs::path& output) {
            const std::string ending = output.extension().string();
            check(ending == ".pt" || ending == ".pth" || ending == ".ts" || ending == ".jit", "--output ",
                  output.string(), ": a TorchScript model is a file; name it with .pt");
            const auto* archive =
                dynamic_cast<const TorchScriptArchive*>(&archive_of(s.files, "export --to torchscript"));
            check(archive != nullptr, "export --to torchscript: model ", s.files.file().string(), " is an ",
                  s.files.kind(), ", whose code is no TorchScript; export --to pt2");
            const MergeReport report = export_torchscript(*archive, s.interface, s.adapted, s.info, output, s.padding);
            return cat(said_of_merge(report), "; reloaded, equals the adapted model to ", report.difference);
          },
          /*compares_live=*/true};
}

}  // namespace deeplora
