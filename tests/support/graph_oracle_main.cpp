// Adapted archives and exported programs for a reference in Python: deeplora_graph_oracle JOBS.json runs every job
//   {"archive", "inputs": safetensors of the batch and the cotangent, "method", "options": YAML, "targets", "spread",
//   "names": model.inputs, "output",
//    "merged": where to write the merged archive, if anywhere}
// with adapters far from their start, in eval mode, and writes out, factor/<name>, gradient/<name> (of sum(out x
// cotangent)) and weight/<site>.
#include <torch/torch.h>

#include <fstream>
#include <iostream>
#include <nlohmann/json.hpp>

#include "core/random.h"
#include "core/system.h"
#include "graph/graph_model.h"
#include "interchange/registration.h"
#include "lm/adapt.h"
#include "lm/fused_rows.h"
#include "lm/parity.h"
#include "lm/targets.h"
#include "model_files/registration.h"
#include "model_files/tensor_file.h"
#include "support/tiny_archive.h"

namespace deeplora {
namespace {

Batch batch_from(const std::map<std::string, torch::Tensor>& tensors) {
  Batch batch;
  const auto put = [&](const char* name, torch::Tensor& place) {
    if (const auto found = tensors.find(name); found != tensors.end()) place = found->second;
  };
  put("input_ids", batch.input_ids);
  put("attention_mask", batch.attention_mask);
  put("token_type_ids", batch.token_type_ids);
  put("position_ids", batch.position_ids);
  put("decoder_input_ids", batch.decoder_input_ids);
  return batch;
}

void run_job(const nlohmann::json& job) {
  const auto files = open_model_files(job.at("archive").get<std::string>());
  const CodeFiles& archive = archive_of(*files, "the oracle");
  const auto inputs = load_tensors(job.at("inputs").get<std::string>()).tensors;
  const ArchiveInterface interface{.inputs = job.at("names").get<std::map<std::string, std::string>>(), .output = ""};
  auto model = std::make_shared<GraphModel>(archive, interface, ModelOptions{});
  auto sites = model->sites();
  find_row_blocks(sites, archive.config(), FusedLayout::automatic);
  AdaptedModel adapted(model, nullptr);
  adapted.add_adapters(choose_sites(sites, job.at("targets").get<std::vector<std::string>>()),
                       testing::factory_of(job.at("method"), job.at("options")), 1, torch::kCPU, nullptr);
  std::vector<NamedTensor> written;
  {
    const torch::NoGradGuard no_grad;
    auto generator = make_generator(7, "factors");
    for (const auto& group : adapted.param_groups(1.0))
      for (auto [name, value] : group.params) value.normal_(0, job.at("spread").get<double>(), generator);
  }
  model->eval();
  const torch::Tensor out = output_of(model->forward(batch_from(inputs)));
  (out * inputs.at("cotangent").to(out.scalar_type())).sum().backward();
  written.push_back({"out", out.detach()});
  for (const auto& group : adapted.param_groups(1.0))
    for (const auto& [name, value] : group.params) {
      check(value.grad().defined(), name, ": no gradient");
      written.push_back({"factor/" + name, value.detach()});
      written.push_back({"gradient/" + name, value.grad()});
    }
  for (const auto& [site, unused] : adapted.adapters())
    written.push_back({"weight/" + site.path, site.weight.detach().clone().contiguous()});
  save_tensors(job.at("output").get<std::string>(), written, {});
  if (job.contains("merged"))
    make_export_forms()
        .at(files->merged_form().first)
        .write({archive, interface, adapted, {}, nlohmann::ordered_json::object(), {}},
               job.at("merged").get<std::string>());
}

}  // namespace
}  // namespace deeplora

int main(int argc, char** argv) {
  if (argc != 2) return 2;
  torch::set_num_threads(1);
  for (const auto& job : nlohmann::json::parse(std::ifstream(argv[1]))) {
    try {
      deeplora::run_job(job);
    } catch (const std::exception& e) {
      std::cerr << job.at("archive") << ": " << e.what() << "\n";
      return 1;
    }
  }
  deeplora::end_process(0);
}
