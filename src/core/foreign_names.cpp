#include "core/foreign_names.h"

#include <algorithm>
#include <map>
#include <sstream>

namespace deeplora {
namespace {

/// Our key, and what others call it: the one table of them.
const std::map<std::string, std::string, std::less<>>& foreign_names() {
  static const std::map<std::string, std::string, std::less<>> table{
      {"train.lr", "learning_rate lr_rate lrate eta"},
      {"train.steps", "max_steps num_steps n_steps total_steps max_iters num_iterations iterations iters"},
      {"train.epochs", "num_epochs num_train_epochs n_epochs max_epochs nb_epochs epoch"},
      {"train.batch_size",
       "per_device_train_batch_size train_batch_size micro_batch_size per_device_batch_size batch bs"},
      {"train.eval_batch_size", "per_device_eval_batch_size val_batch_size"},
      {"train.accumulate",
       "gradient_accumulation_steps grad_accumulation_steps gradient_accumulation accumulation_steps "
       "accumulate_grad_batches grad_accum"},
      {"train.warmup", "warmup_ratio warmup_steps num_warmup_steps"},
      {"train.schedule", "lr_scheduler_type lr_scheduler scheduler lr_schedule"},
      {"train.clip", "max_grad_norm grad_clip gradient_clip_val gradient_clipping clip_grad_norm"},
      {"train.optimizer", "optim optimiser"},
      {"train.weight_decay", "weight_decay wd l2"},
      {"train.beta1", "adam_beta1"},
      {"train.beta2", "adam_beta2"},
      {"train.eps", "adam_epsilon epsilon"},
      {"train.seed", "random_state random_seed data_seed"},
      {"train.log_every", "logging_steps log_interval log_every_n_steps"},
      {"train.eval_every", "eval_steps eval_interval evaluation_steps steps_per_eval val_check_interval"},
      {"train.save_every", "save_steps save_interval"},
      {"train.keep_checkpoints", "save_total_limit"},
      {"train.early_stopping", "early_stopping_patience patience"},
      {"train.gradient_checkpointing", "gradient_checkpointing use_gradient_checkpointing"},
      {"train.threads", "num_threads n_jobs num_workers"},
      {"train.group_by_length", "group_by_length"},
      {"adapter.method", "use_dora use_rslora peft_type finetuning_type tuner_type lora_type"},
      {"adapter.rank", "lora_r r lora_rank lora_dim"},
      {"adapter.alpha", "lora_alpha scaling"},
      {"adapter.dropout", "lora_dropout"},
      {"adapter.targets", "target_modules lora_target_modules lora_target lora_modules lora_layers"},
      {"adapter.init", "init_lora_weights"},
      {"adapter.ranks", "rank_pattern"},
      {"adapter.alphas", "alpha_pattern"},
      {"adapter.train_also", "modules_to_save additional_target"},
      {"adapter.path", "lora_path adapter_name_or_path adapter_path resume_adapter_file"},
      {"model.path",
       "model_name_or_path pretrained_model_name_or_path base_model model_name model_id base_model_name_or_path"},
      {"model.tokenizer", "tokenizer_name tokenizer_name_or_path tokenizer_path"},
      {"model.precision", "fp16 bf16 torch_dtype dtype mixed_precision"},
      {"model.pooling", "pooling_mode"},
      {"model.dropout", "hidden_dropout_prob hidden_dropout"},
      {"data.task", "problem_type task_name task_type"},
      {"data.train", "train_file train_data train_path dataset data_path train_files"},
      {"data.dev", "validation_file eval_file eval_data valid val validation valid_file dev_file validation_data"},
      {"data.test", "test_file test_data"},
      {"data.dev_share",
       "val_set_size val_size validation_split validation_fraction validation_share dev_size val_split"},
      {"data.test_share", "test_size test_split test_fraction"},
      {"data.text", "text_column text_field dataset_text_field input_column"},
      {"data.text_pair", "text_pair_column text_column2 sentence2_column"},
      {"data.label", "label_column target_column label_field labels"},
      {"data.max_length",
       "max_seq_length max_seq_len max_sequence_length sequence_len cutoff_len max_len block_size model_max_length"},
      {"data.samples", "max_train_samples max_samples"},
      {"data.metric", "metric_for_best_model scoring metrics"},
      {"data.class_weights", "class_weight pos_weight"},
      {"data.separator", "sep delimiter"},
      {"data.chat_template", "template conversation_template"},
      {"data.pack", "packing sample_packing"},
      {"data.generation.max_new_tokens", "max_new_tokens max_tokens"},
      {"data.generation.temperature", "temperature"},
      {"data.generation.beams", "num_beams"},
      {"data.generation.top_p", "top_p"},
      {"data.generation.top_k", "top_k"},
      {"head.dropout", "classifier_dropout"},
  };
  return table;
}

std::map<std::string, std::string, std::less<>> by_name() {
  std::map<std::string, std::string, std::less<>> out;
  for (const auto& [key, names] : foreign_names()) {
    std::istringstream words(names);
    for (std::string name; words >> name;) out.emplace(name, key);
  }
  return out;
}

}  // namespace

std::string key_meant_by(std::string_view name) {
  static const auto keys = by_name();
  name.remove_prefix(std::min(name.find_first_not_of('-'), name.size()));
  std::string plain(name);
  std::replace(plain.begin(), plain.end(), '-', '_');
  const auto found = keys.find(plain);
  return found == keys.end() ? "" : found->second;
}

}  // namespace deeplora
