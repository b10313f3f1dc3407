#include "train/run_identity.h"

#include "core/error.h"
#include "train/fingerprint.h"

namespace deeplora {
namespace {

using Json = nlohmann::ordered_json;

Json of_config(const TrainConfig& config) {
  return {{"train.optimizer", config.optimizer},
          {"train.lr", config.lr ? Json(*config.lr) : Json(nullptr)},
          {"train.beta1", config.beta1},
          {"train.beta2", config.beta2},
          {"train.eps", config.eps},
          {"train.weight_decay", config.weight_decay},
          {"train.momentum", config.momentum},
          {"train.schedule", config.schedule},
          {"train.warmup", config.warmup},
          {"train.batch_size", config.batch_size},
          {"train.accumulate", config.accumulate},
          {"train.clip", config.clip},
          {"train.eval_every", config.eval_every ? Json(*config.eval_every) : Json(nullptr)},
          {"train.keep", config.keep},
          {"train.early_stopping", config.early_stopping},
          {"train.shuffle", config.shuffle},
          {"train.group_by_length", config.group_by_length},
          {"train.seed", config.seed}};
}

std::string rows(std::span<const Example> examples) {
  return cat(examples.size(), " rows, checksum ", fingerprint(examples));
}

std::string group_scales(const std::vector<ParamGroup>& groups) {
  Fingerprint print;
  for (const auto& group : groups) {
    print.add(group.lr_scale);
    print.add(static_cast<int64_t>(group.decay));
    for (const auto& parameter : group.params) print.add(std::string_view(parameter.name));
  }
  return print.hex();
}

}  // namespace

Json run_identity(const Trainer::Setup& setup, const DataOrder& order, std::span<const Example> train,
                  std::span<const Example> dev) {
  Json out = of_config(setup.config);
  out["steps of the run (train.steps, train.epochs)"] = order.total_steps();
  out["task"] = setup.task.name();
  out["device"] = c10::DeviceTypeName(setup.device.type(), /*lower_case=*/true);
  out["bf16"] = setup.bf16;
  out["rows of data.train, as the tokenizer reads them"] = rows(train);
  out["rows of data.dev, as the tokenizer reads them"] = rows(dev);
  out["learning-rate scales and decay by parameter"] = group_scales(setup.groups);
  for (const auto& [key, value] : setup.identity.items()) out[key] = value;
  return out;
}

void add_order(Json& identity, std::span<const MicroBatch> batches, int64_t epoch) {
  Fingerprint print;
  for (const MicroBatch& batch : batches)
    for (const size_t row : batch) print.add(static_cast<int64_t>(row));
  identity[cat("order of rows in epoch ", epoch)] = print.hex();
}

}  // namespace deeplora
