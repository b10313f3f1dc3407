#include <iostream>

#include "commands.h"
#include "deeplora_version.h"
#include "interchange/registration.h"
#include "lm/pooled_model.h"
#include "model_files/own_head.h"
#include "session.h"

namespace deeplora {
namespace {

struct ExportOptions {
  std::string run, to, output, base, model;
  bool last = false;
};

/// deeplora.json of an export: what predict needs to use the file without the run.
nlohmann::ordered_json export_info(const Session& s) {
  return {{"deeplora", kVersion},
          {"task", s.config.data.task},
          {"task_state", s.task().state()},
          {"data", s.task().settings()},
          {"method", s.config.adapter.method},
          {"base_fingerprint", s.files->fingerprint()},
          {"inputs", s.config.model.interface.inputs},
          {"input_forms", describe_forms(s.config.model.interface.forms)},
          {"token_logits", s.task().outputs() == 0 || (s.task().tags_tokens() && !s.adapted->new_head())},
          {"new_head", s.adapted->new_head() != nullptr},
          {"output", s.adapted->new_head() || pooled_model(s.model()) ? "" : s.config.model.interface.output}};
}

/// What the run and its folder say of the model.
ModelCard card_of(const Session& s, const RunFolder& folder, const ExportOptions& o) {
  ModelCard card{.task = s.config.data.task, .method = s.config.adapter.method, .version = kVersion};
  Config::load(folder.config_file()).section("model").read("quantize", card.quantize, "what the run was trained on");
  const std::string source =
      s.files->holds_code() ? s.files->export_info().value("source", std::string()) : s.files->file().string();
  card.base = o.base.empty() ? source : o.base;
  const auto state = s.task().state();
  if (state.contains("labels")) card.labels = json_at<std::vector<std::string>>(state, "labels", "task");
  if (state.contains("threshold")) card.threshold = json_at<double>(state, "threshold", "task");
  if (state.contains("positive")) card.positive = json_at<std::string>(state, "positive", "task");
  card.one_number = s.task().outputs() == 1 && card.labels.empty() && !s.task().embeds();
  card.problem_type = s.task().problem_type();
  card.model_kind = s.task().model_kind();
  if (const auto& head = s.adapted->new_head()) {
    card.pooling = to_string(head->options().pooling);
    card.normalized = head->options().normalize;
  } else if (const auto own = own_head_of(*s.files)) {
    card.pooling = own->pooling;
    card.normalized = own->normalized;
  }
  if (const PooledModel* pooled = pooled_model(s.model())) {
    card.pooling = to_string(pooled->form().pooling);
    card.normalized = pooled->form().normalize;
  }
  card.embeds = s.task().embeds();
  if (s.tokenizer && s.tokenizer->special().pad >= 0) card.pad_id = s.tokenizer->special().pad;
  if (!folder.finished()) return card;
  const JsonFile result =
      JsonFile::parse(folder.result_file().string(), read_file(folder.result_file(), "result of the run"));
  for (const char* split : {"test", o.last ? "last" : "best"}) {
    if (o.last && std::string(split) == "test") continue;  // that is of the best
    const JsonFile scores = result.section(split);
    for (const auto& [name, value] : scores.root.items())
      if (name != "step" && value.is_number()) card.scores[name] = value.get<double>();
    card.split = std::string(split) == "test" ? "test" : "dev";
    if (!card.scores.empty()) break;
  }
  return card;
}

void export_run(const ExportOptions& o) {
  const ExportForms forms = make_export_forms();
  if (!o.to.empty()) forms.at(o.to);  // an unknown name is said before anything is read
  const std::filesystem::path output = o.output;
  std::error_code ignored;
  check(!std::filesystem::exists(output, ignored), "output ", o.output,
        " exists already; choose another --output or remove it");
  check(!output.has_parent_path() || std::filesystem::is_directory(output.parent_path(), ignored), "output folder ",
        output.parent_path().string(), " does not exist");
  const Registries registries = make_registries();
  const RunFolder folder = RunFolder::open(o.run);
  // What is exported stands on the weights of the files, whatever the adapter was trained on; where the two are not
  // compared, a quantised model takes less memory beside it.
  RunUse use{.last = o.last, .model = o.model};
  if (o.to.empty() || forms.at(o.to).compares_live) use.overrides = {"model.quantize=none"};
  const Session session = Session::of_run(folder, registries, use);
  const ExportSource source{*session.files,       session.config.model.interface,
                            *session.adapted,     card_of(session, folder, o),
                            export_info(session), pad_id_of(session.tokenizer.get(), *session.files)};
  const ExportForm& form = forms.at(o.to.empty() ? session.files->merged_form().first : o.to);
  const std::string said = form.write(source, output);
  std::cout << "wrote " << o.output << " (" << said << ")\n";
}

/// "  name  what is written", a line each.
std::string list_of(const ExportForms& forms) {
  std::string out;
  for (const auto& name : forms.names())
    out += cat("  ", name, std::string(name.size() < 24 ? 24 - name.size() : 1, ' '), forms.at(name).help, "\n");
  return out;
}

}  // namespace

void setup_export(CLI::App& app, Action& action) {
  auto o = std::make_shared<ExportOptions>();
  const ExportForms forms = make_export_forms();
  CLI::App* command =
      app.add_subcommand("export", "Writes a run's model or adapter in a form that other programs read");
  command->add_option("RUN", o->run, "Run folder")->required();
  command->add_option("--to", o->to,
                      "Default: merged weights in a file of the model's own kind. Form: " +
                          join(forms.names(), ", ", forms.names().size()));
  command->add_option("--output", o->output, "File or folder to write; must not exist")->required();
  command->add_option("--base", o->base,
                      "Folder or name of the base model, for adapter_config.json and README.md (default: the folder "
                      "that the archive was exported from)");
  add_model_option(*command, o->model);
  command->add_flag("--last", o->last, "The last adapter instead of the best");
  command->footer("Forms:\n" + list_of(forms) +
                  "\nExample:\n  deeplora export runs/lora --to torchscript --output merged.pt");
  command->callback([o, &action] { action = [o] { export_run(*o); }; });
}

}  // namespace deeplora
