#include <cmath>

#include "train/optimizers.h"
#include "train/schedule.h"
#include "train/trainer.h"

namespace deeplora {
namespace {

void require_at_least(const Config& train, const std::string& key, int64_t value, int64_t least) {
  train.require(value >= least, key, cat("a whole number of at least ", least));
}

constexpr const char* kRateDoc =
    "peak learning rate; auto: short trials choose it on dev; absent: the method's default";

void read_optimizer(const Config& train, TrainConfig& config) {
  train.read_choice("optimizer", config.optimizer, optimizer_names(), "adamw, adam, sgd or rmsprop");
  config.search_lr = train.text_at("lr") == "auto";
  std::string automatic;
  if (config.search_lr) train.read("lr", automatic, kRateDoc);
  else train.read("lr", config.lr, kRateDoc);
  train.read("head_lr", config.head_lr,
             "peak learning rate of the head; absent: 5e-3 for a newly made one, train.lr for the model's own and for "
             "method none");
  train.read("beta1", config.beta1, "Adam's decay of the gradient's mean");
  train.read("beta2", config.beta2, "Adam's decay of the squared gradient's mean");
  train.read("eps", config.eps, "Adam's term in the denominator");
  train.read("weight_decay", config.weight_decay, "weight decay; not applied to biases and norms");
  train.read("momentum", config.momentum, "momentum of sgd");
  train.read_choice("schedule", config.schedule, schedule_names(), "course of the learning rate after the warm-up");
  train.read("warmup", config.warmup, "warm-up: below 1 a share of all steps, else a number of steps");
  train.require(!config.lr || (*config.lr > 0 && std::isfinite(*config.lr)), "lr", "a number above 0");
  train.require(!config.head_lr || (*config.head_lr > 0 && std::isfinite(*config.head_lr)), "head_lr",
                "a number above 0");
  train.require(config.beta1 >= 0 && config.beta1 < 1, "beta1", "a number from 0 to below 1");
  train.require(config.beta2 >= 0 && config.beta2 < 1, "beta2", "a number from 0 to below 1");
  train.require(config.eps >= 0 && std::isfinite(config.eps), "eps", "a number of at least 0");
  train.require(config.weight_decay >= 0 && std::isfinite(config.weight_decay), "weight_decay",
                "a number of at least 0");
  train.require(config.momentum >= 0 && config.momentum < 1, "momentum", "a number from 0 to below 1");
  const bool whole_or_share = config.warmup < 1 || config.warmup == std::floor(config.warmup);
  train.require(config.warmup >= 0 && whole_or_share, "warmup", "a share below 1 or a whole number of steps");
}

void read_course(const Config& train, TrainConfig& config) {
  train.read("batch_size", config.batch_size, "rows of one forward pass");
  train.read("accumulate", config.accumulate, "forward passes of one step; a step sees batch_size x accumulate rows");
  train.read("steps", config.steps, "optimizer steps; 0 only evaluates; absent: by epochs");
  train.read("epochs", config.epochs, "passes over the training rows, when steps is absent; may be a fraction");
  train.read("clip", config.clip, "largest global norm of the gradients; 0 switches clipping off");
  train.read("shuffle", config.shuffle, "draw the order of rows anew in every epoch; false: the order of the file");
  config.group_by_length = config.shuffle;
  train.read("group_by_length", config.group_by_length,
             "put rows of similar length into one batch; false when shuffle is");
  train.require(config.shuffle || !config.group_by_length, "group_by_length",
                "false with shuffle: false (rows stay in the order of the file)");
  train.read("gradient_checkpointing", config.gradient_checkpointing,
             "keep only each layer's input for the backward pass and compute the rest again: less memory for one more "
             "forward pass");
  train.read(
      "contrastive", config.contrastive,
      "few-shot classification: pairs of the rows tune the encoder, then a logistic head is fitted on its pooled "
      "vectors (SetFit)");
  train.require(!config.contrastive || !config.search_lr, "lr", "a number, as train.contrastive is on");
  train.read("seed", config.seed, "decides the order of rows, new weights and dropout");
  train.read("threads", config.threads,
             "threads; 0: OMP_NUM_THREADS, else the cores this process may use; the same count gives the same bits");
  train.read("distributed_timeout", config.distributed_timeout,
             "seconds that the processes of one run wait for each other before they give up; an evaluation or a "
             "checkpoint must fit in");
  train.require(config.distributed_timeout >= 1 && config.distributed_timeout <= 1e6, "distributed_timeout",
                "a number of seconds from 1");
  require_at_least(train, "batch_size", config.batch_size, 1);
  require_at_least(train, "accumulate", config.accumulate, 1);
  require_at_least(train, "steps", config.steps.value_or(0), 0);
  train.require(config.epochs > 0 && std::isfinite(config.epochs), "epochs",
                "a number above 0 (train.steps: 0 only evaluates)");
  train.require(config.clip >= 0 && std::isfinite(config.clip), "clip", "a number of at least 0");
  require_at_least(train, "seed", config.seed, 0);
  require_at_least(train, "threads", config.threads, 0);
}

void read_evaluation(const Config& train, TrainConfig& config) {
  train.read("eval_every", config.eval_every, "steps between evaluations on dev; absent: once per epoch");
  train.read("eval_batch_size", config.eval_batch_size, "rows of one forward pass of an evaluation");
  train.read_choice("keep", config.keep, {"best", "last"},
                    "state that adapter.safetensors holds and that is tested: best on dev, or the last");
  train.read("early_stopping", config.early_stopping,
             "evaluations without a better score before the run ends; 0: never");
  train.read("save_every", config.save_every, "steps between checkpoints; absent: at every evaluation");
  train.read("keep_checkpoints", config.keep_checkpoints, "newest checkpoints that are kept");
  train.read("log_every", config.log_every, "steps between rows of metrics.jsonl");
  require_at_least(train, "eval_every", config.eval_every.value_or(1), 1);
  require_at_least(train, "eval_batch_size", config.eval_batch_size, 1);
  require_at_least(train, "early_stopping", config.early_stopping, 0);
  if (config.keep == "last")
    train.require(config.early_stopping == 0, "early_stopping", "0, as train.keep: last asks for the final state");
  require_at_least(train, "save_every", config.save_every.value_or(1), 1);
  require_at_least(train, "keep_checkpoints", config.keep_checkpoints, 1);
  require_at_least(train, "log_every", config.log_every, 1);
}

}  // namespace

TrainConfig TrainConfig::read(const Config& train) {
  TrainConfig config;
  read_optimizer(train, config);
  read_course(train, config);
  read_evaluation(train, config);
  return config;
}

}  // namespace deeplora
