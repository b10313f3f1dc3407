#include <iomanip>
#include <iostream>

#include "commands.h"
#include "core/log.h"
#include "graph/graph_model.h"
#include "graph/unknown_weights.h"
#include "lm/fused_rows.h"
#include "lm/targets.h"
#include "model_files/registration.h"
#include "model_files/torchscript_code.h"
#include "session.h"
#include "text_table.h"

namespace deeplora {
namespace {

struct InspectOptions {
  std::string model, backend = "auto";
  bool json = false;
};

struct Inspection {
  std::string family = "none", backend = "none", reason;
  std::vector<AdapterSite> sites;
  std::vector<std::pair<std::string, std::string>> others;  ///< matrices without a slot, and why
  std::vector<std::string> row_tensors;                     ///< inputs that rows carry by their names
  std::string ids;  ///< of these the one that is looked up in a table, as token ids are
};

/// Native family that fits, into `out`; false when there is none.
bool look_native(const ModelFiles& archive, const Registries& registries, Inspection& out,
                 std::shared_ptr<LanguageModel>& keep) {
  for (const auto& name : registries.families.names()) {
    if (!registries.families.at(name).recognises(archive)) continue;
    try {
      keep = registries.families.at(name).build(archive, {});
      if (archive.holds_code()) check_reads_nothing_beside(archive_of(archive, "a native family's check"), *keep);
    } catch (const Error& e) {
      out.reason = e.what();
      return false;
    }
    out.family = name;
    out.backend = "native";
    out.sites = keep->sites();
    return true;
  }
  out.reason = cat("no native family fits; families: ", join(registries.families.names()));
  return false;
}

/// Whatever forward's arguments are called: inspect does not know model.inputs and never runs the code.
ArchiveInterface any_interface() {
  ArchiveInterface out;
  out.complete = false;
  return out;
}

/// Sites by the chosen backend; never runs the archive's code.
Inspection look_at(const ModelFiles& archive, const std::string& backend, const Registries& registries,
                   std::shared_ptr<LanguageModel>& keep) {
  Inspection out;
  if (backend != "graph" &&
      (look_native(archive, registries, out, keep) || backend == "native" || !archive.holds_code()))
    return out;
  try {
    const CodeFiles& code = archive_of(archive, "the graph backend");
    auto graph = std::make_shared<GraphModel>(code, any_interface(), ModelOptions{});
    out.row_tensors = graph->row_tensors();
    out.ids = out.row_tensors.empty() ? "" : graph->looked_up_argument(code);
    out.family = graph->family();
    out.backend = "graph";
    out.sites = graph->sites();
    out.others = graph->other_weights();
    keep = graph;
  } catch (const Error& e) {
    out.reason = e.what();
  }
  return out;
}

Inspection look(const ModelFiles& archive, const std::string& backend, const Registries& registries,
                std::shared_ptr<LanguageModel>& keep) {
  Inspection out = look_at(archive, backend, registries, keep);
  find_row_blocks(out.sites, archive.config(), FusedLayout::automatic);
  return out;
}

const char* kind_name(SiteKind kind) {
  switch (kind) {
    case SiteKind::linear: return "linear";
    case SiteKind::embedding: return "embedding";
    case SiteKind::weight: return "weight";
  }
  return "weight";
}

nlohmann::ordered_json describe_site(const AdapterSite& site) {
  nlohmann::ordered_json out{
      {"path", site.path}, {"op", site.op},    {"kind", kind_name(site.kind)}, {"shape", site.weight.sizes().vec()},
      {"role", site.role}, {"uses", site.uses}};
  for (const auto& block : site.blocks) out["rows"][block.role] = block.groups * block.size;
  if (!site.layout_unknown.empty()) out["rows_unknown"] = site.layout_unknown;
  return out;
}

nlohmann::ordered_json describe(const ModelFiles& archive, const Inspection& found, const std::string& tokenizer) {
  nlohmann::ordered_json out;
  out["kind"] = archive.kind();
  out["family"] = found.family;
  out["backend"] = found.backend;
  if (!found.reason.empty()) out["reason"] = found.reason;
  out["parameters"] = archive.parameter_count();
  out["fingerprint"] = archive.fingerprint();
  out["inputs"] = archive.inputs();
  if (const auto* code = dynamic_cast<const CodeFiles*>(&archive))
    for (const auto& [input, limit] : code->limits()) out["input_sizes"][input] = shown(limit);
  if (!found.row_tensors.empty()) out["row_tensors"] = found.row_tensors;
  if (!found.ids.empty()) out["looked_up"] = found.ids;
  out["outputs"] = archive.output_type();
  out["tokenizer"] = tokenizer.empty() ? nlohmann::ordered_json() : nlohmann::ordered_json(tokenizer);
  std::vector<std::string> extras;
  for (const auto& [name, unused] : archive.extras()) extras.push_back(name);
  out["extra_files"] = extras;
  out["sites"] = nlohmann::ordered_json::array();
  for (const auto& site : found.sites) out["sites"].push_back(describe_site(site));
  out["not_adaptable"] = nlohmann::ordered_json::array();
  for (const auto& [path, reason] : found.others) out["not_adaptable"].push_back({{"path", path}, {"reason", reason}});
  out["targets"] = nlohmann::ordered_json::object();
  const bool unknown_rows = std::any_of(found.sites.begin(), found.sites.end(),
                                        [](const auto& site) { return !site.layout_unknown.empty(); });
  for (const auto& preset : target_presets()) {
    std::vector<std::string> paths;
    try {
      for (const auto& site : choose_sites(found.sites, {preset})) paths.push_back(site.path);
    } catch (const Error& e) {
      // A preset that matches nothing is an empty list here, an error only when a run asks for it.
      if (unknown_rows) out["targets_unavailable"][preset] = e.what();
    }
    out["targets"][preset] = paths;
  }
  return out;
}

/// Which inputs rows must carry themselves, and how it is said that one of them is token ids.
std::string said_of_rows(const nlohmann::ordered_json& d) {
  if (!d.contains("row_tensors")) return "";
  const auto names = d["row_tensors"].get<std::vector<std::string>>();
  std::string out = cat("\n            rows carry ", join(names, " and "), " as lists of numbers: {\"", names.front(),
                        "\": [0.5, ...]}");
  if (d.contains("looked_up"))
    out +=
        cat("\n            ", d["looked_up"].get<std::string>(),
            " is looked up in a table: for token ids say model.inputs.input_ids: ", d["looked_up"].get<std::string>());
  return out;
}

/// The inputs' names, with the sizes that a program was exported for.
std::string said_of_inputs(const nlohmann::ordered_json& d) {
  auto names = d["inputs"].get<std::vector<std::string>>();
  const auto sizes = d.value("input_sizes", nlohmann::ordered_json::object());
  for (auto& name : names)
    if (sizes.contains(name)) name += cat(" ", sizes[name].get<std::string>());
  return join(names);
}

void print_sites(const nlohmann::ordered_json& sites) {
  if (sites.empty()) return;
  std::vector<std::vector<std::string>> lines{{"path", "role", "shape", "op", "uses"}};
  for (const auto& site : sites)
    lines.push_back(
        {site["path"], site["role"], cat(site["shape"][0], "x", site["shape"][1]), site["op"], site["uses"].dump()});
  print_table(std::cout, lines);
}

void print(const nlohmann::ordered_json& d, const std::string& file) {
  std::cout << "model       " << file << " (" << d["kind"].get<std::string>() << ")\nfamily      "
            << d["family"].get<std::string>() << " (backend " << d["backend"].get<std::string>() << ")\n";
  if (d.contains("reason")) std::cout << "            " << d["reason"].get<std::string>() << "\n";
  std::cout << "parameters  " << d["parameters"] << "\ninputs      " << said_of_inputs(d) << said_of_rows(d)
            << "\noutput      " << d["outputs"].get<std::string>() << "\ntokenizer   "
            << (d["tokenizer"].is_null() ? "none" : d["tokenizer"].get<std::string>()) << "\nextra files "
            << join(d["extra_files"].get<std::vector<std::string>>()) << "\n\n";
  print_sites(d["sites"]);
  for (const auto& site : d["sites"])
    if (site.contains("rows")) {
      std::cout << "fused: " << site["path"].get<std::string>() << " holds rows of";
      for (const auto& item : site["rows"].items()) std::cout << " " << item.key() << " (" << item.value() << ")";
      std::cout << "\n";
    }
  for (const auto& other : d["not_adaptable"])
    std::cout << "not adaptable: " << other["path"].get<std::string>() << " " << other["reason"].get<std::string>()
              << "\n";
  std::cout << "\n";
  for (const auto& item : d["targets"].items()) {
    std::cout << std::left << std::setw(16) << item.key() << item.value().size() << " weights";
    if (d.contains("targets_unavailable") && d["targets_unavailable"].contains(item.key()))
      std::cout << "  (" << d["targets_unavailable"][item.key()].get<std::string>() << ")";
    std::cout << "\n";
  }
}

void inspect(const InspectOptions& o) {
  const Registries registries = make_registries();
  std::error_code ignored;
  if (!std::filesystem::is_directory(o.model, ignored)) check_loads_without_running(o.model);
  const auto files = open_model_files(o.model);
  std::shared_ptr<LanguageModel> keep;
  const Inspection found = look(*files, o.backend, registries, keep);
  std::string tokenizer;
  try {
    if (const auto made = load_tokenizer({}, *files)) tokenizer = made->kind();
  } catch (const Error& e) {
    log_warning("the model's tokenizer cannot be used: ", e.what());
  }
  const auto description = describe(*files, found, tokenizer);
  if (o.json) std::cout << description.dump(2) << "\n";
  else print(description, o.model);
}

}  // namespace

void setup_inspect(CLI::App& app, Action& action) {
  auto o = std::make_shared<InspectOptions>();
  CLI::App* command = app.add_subcommand("inspect", "Shows what a model file holds and which weights can be adapted");
  command->add_option("MODEL", o->model, "TorchScript archive (.pt), exported program (.pt2) or Hugging Face folder")
      ->required();
  command->add_flag("--json", o->json, "Print JSON");
  command->add_option("--backend", o->backend, "How to look at it: auto, native or graph")
      ->check(CLI::IsMember({"auto", "native", "graph"}));
  command->footer("Example:\n  deeplora inspect minilm.pt --json");
  command->callback([o, &action] { action = [o] { inspect(*o); }; });
}

}  // namespace deeplora
