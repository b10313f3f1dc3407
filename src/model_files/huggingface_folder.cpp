#include "model_files/huggingface_folder.h"

#include <torch/torch.h>

#include <algorithm>
#include <fstream>
#include <set>

#include "core/files.h"
#include "core/log.h"
#include "core/safetensors.h"
#include "model_files/own_head.h"
#include "model_files/tensor_file.h"
#include "model_files/wrapper_names.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

/// Tokenizers and settings are a few MB; they are held in memory.
constexpr uint64_t kLargestSmallFiles = uint64_t{256} << 20;
constexpr const char* kSingle = "model.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";
constexpr const char* kExpected =
    "expected config.json, model.safetensors (or shards with their index) and tokenizer files";

bool is_there(const fs::path& path) {
  std::error_code ignored;
  return fs::exists(path, ignored);
}

std::vector<std::string> plain_files(const fs::path& folder) {
  std::vector<std::string> names;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored))
    if (entry.is_regular_file(ignored)) names.push_back(entry.path().filename().string());
  std::sort(names.begin(), names.end());
  return names;
}

/// Throws Error where a file is there in name only: a link whose target is gone, or what git leaves of a large file.
void check_has_content(const fs::path& folder, const std::string& file) {
  const fs::path path = folder / file;
  std::error_code ignored;
  if (fs::is_symlink(path, ignored) && !fs::exists(path, ignored))
    fail("model ", folder.string(), ": ", file, " is a link to ", fs::read_symlink(path, ignored).string(),
         ", which is not there; download the model again");
  if (!fs::is_regular_file(path, ignored)) return;
  std::ifstream in(path, std::ios::binary);
  std::string begin(23, '\0');
  in.read(begin.data(), static_cast<std::streamsize>(begin.size()));
  check(begin != "version https://git-lfs", "model ", folder.string(), ": ", file,
        " is a pointer of Git LFS, not the file itself; run git lfs pull in the folder");
}

/// The first of the folder's files that ends so; empty without one.
std::string first_that_ends(const fs::path& folder, std::string_view ending) {
  const auto names = plain_files(folder);
  const auto found =
      std::find_if(names.begin(), names.end(), [ending](const std::string& name) { return name.ends_with(ending); });
  return found == names.end() ? "" : *found;
}

void check_is_no_adapter(const fs::path& folder) {
  check(!is_there(folder / "adapter_config.json"), "model ", folder.string(),
        " is a PEFT folder: it holds an adapter; name it in adapter.path, and its base model in model.path");
}

/// GGUF has no tensors that we read.
void check_is_no_gguf(const fs::path& folder) {
  const std::string gguf = first_that_ends(folder, ".gguf");
  check(gguf.empty(), "model ", folder.string(), " holds ", gguf,
        ", llama.cpp's form of a model, which is not read; name the folder that it was converted ",
        "from, or convert it once: python -c \"from transformers import AutoModelForCausalLM as M; M.from_pretrained('",
        folder.string(), "', gguf_file='", gguf, "').save_pretrained('converted')\"");
}

/// What is wrong with a folder that holds no safetensors of a model.
[[noreturn]] void fail_without_weights(const fs::path& folder) {
  const std::string name = folder.string();
  check_is_no_adapter(folder);
  for (const char* pickle : {"pytorch_model.bin", "pytorch_model.bin.index.json"})
    if (is_there(folder / pickle))
      fail("model ", name, " holds its weights in ", pickle,
           " alone, a pickle that could run code when it is read; convert it once: ",
           "python -c \"from transformers import AutoModel; AutoModel.from_pretrained('", name, "').save_pretrained('",
           name,
           "', safe_serialization=True)\", with AutoModelForCausalLM, ForSeq2SeqLM or ForSequenceClassification in "
           "place of ",
           "AutoModel where its head counts");
  for (const char* other : {"tf_model.h5", "flax_model.msgpack", "model.ckpt.index"})
    if (is_there(folder / other))
      fail("model ", name, " holds its weights in ", other,
           " alone; load it in transformers (from_tf=True or from_flax=True) and ", "save it with save_pretrained");
  check_is_no_gguf(folder);
  const auto names = plain_files(folder);
  if (const std::string shard = first_that_ends(folder, ".safetensors"); !shard.empty())
    fail("model ", name, " holds ", shard, " but no ", kSingle, " and no ", kIndex,
         ", which says what of a model lies where; download the index too, or name a single file ", kSingle);
  fail("model ", name, " holds no ", kSingle, " and no ", kIndex, "; ", kExpected, "; it has ",
       names.empty() ? "no files" : join(names, ", ", 8));
}

void check_is_model_folder(const fs::path& folder) {
  check_has_content(folder, "config.json");
  if (is_there(folder / "config.json")) return;
  const std::string name = folder.string();
  check_is_no_adapter(folder);
  check_is_no_gguf(folder);
  if (is_there(folder / "snapshots"))
    fail("model ", name, " is a model's folder in the hub's cache; name the folder of one revision below ",
         (folder / "snapshots").string());
  if (is_there(folder / "0_Transformer/config.json"))
    fail("model ", name, " is a sentence-transformers folder whose model lies in ", (folder / "0_Transformer").string(),
         "; name that, and the pooling in model.pooling");
  if (is_there(folder / "task.json") && is_there(folder / "config.yaml"))
    fail("model ", name,
         " is a run folder; name the model that it was trained on, or a folder that deeplora export wrote");
  fail("model ", name, " is a folder without config.json; ", kExpected, ", or a TorchScript file");
}

/// A file's tensors that are wanted; `from` is empty for a single file: then all are.
struct Shard {
  std::string file;
  std::set<std::string> wanted;
};

/// Shards and their tensors as the index says; file names must stay inside the folder.
std::vector<Shard> read_index(const fs::path& folder) {
  const std::string where = cat("model ", folder.string(), ": ", kIndex);
  const JsonFile index = JsonFile::parse(where, read_file(folder / kIndex, "index of shards"));
  check(index.root.contains("weight_map") && index.root["weight_map"].is_object(), where,
        ": expected weight_map, an object of tensor names and file names");
  std::map<std::string, Shard> shards;
  Errors errors;
  for (const auto& [tensor, file] : index.root["weight_map"].items()) {
    const std::string name = file.is_string() ? file.get<std::string>() : "";
    if (name.empty() || fs::path(name).filename() != name || name == "..") {
      errors.add("weight_map.", tensor, ": expected the name of a file in the folder, found ", file.dump());
      continue;
    }
    Shard& shard = shards[name];
    shard.file = name;
    shard.wanted.insert(tensor);
    if (shard.wanted.size() == 1 && !is_there(folder / name)) errors.add("shard ", name, " is not there");
  }
  errors.throw_if_any(where);
  std::vector<Shard> out;
  for (auto& [unused, shard] : shards) out.push_back(std::move(shard));
  check(!out.empty(), where, ": its weight_map names no tensor");
  return out;
}

/// Norms of checkpoints from before 2020 call their weight gamma and their bias beta.
std::string todays_name(std::string name) {
  const auto replace_end = [&name](std::string_view old, const char* now) {
    if (name.ends_with(old)) name.replace(name.size() - old.size(), old.size(), now);
  };
  replace_end("LayerNorm.gamma", "LayerNorm.weight");
  replace_end("LayerNorm.beta", "LayerNorm.bias");
  return name;
}

/// Floating-point tensors that no training changes: frequencies and masks of old checkpoints.
bool is_buffer(const std::string& name, const torch::Tensor& value) {
  static const std::vector<std::string> kEndings{".inv_freq",
                                                 ".attn.bias",
                                                 ".attn.masked_bias",
                                                 ".attention.bias",
                                                 ".attention.masked_bias",
                                                 ".embed_positions.weights",
                                                 "final_logits_bias"};
  if (!value.is_floating_point()) return true;
  return std::any_of(kEndings.begin(), kEndings.end(), [&name](const auto& ending) { return name.ends_with(ending); });
}

bool is_output_layer(const std::string& name) {
  static const std::vector<std::string> kNames{"lm_head.weight", "embed_out.weight", "cls.predictions.decoder.weight",
                                               "lm_head.decoder.weight"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

/// The word table that an output layer may be tied to.
bool is_word_table(const std::string& name) {
  static const std::vector<std::string> kNames{"model.embed_tokens.weight", "shared.weight",
                                               "model.shared.weight",       "wte.weight",
                                               "transformer.wte.weight",    "gpt_neox.embed_in.weight"};
  return std::find(kNames.begin(), kNames.end(), name) != kNames.end();
}

/// A tensor of the folder: its name as the families know it, and where its bytes lie.
struct Found {
  std::string name;
  size_t file;  ///< index among the files
  uint64_t offset;
  SafeTensorInfo info;
};

/// The wanted tensors of all shards; `files` gets the places of each. Throws Error with every tensor that is missing or
/// there twice.
std::vector<Found> tensors_in(const fs::path& folder, const std::vector<Shard>& shards, const std::string& model_type,
                              std::vector<FileOfTensors>& files) {
  std::vector<Found> found;
  Errors errors;
  for (const Shard& shard : shards) {
    check_has_content(folder, shard.file);
    const SafeTensorsFile read = SafeTensorsFile::read(folder / shard.file);
    FileOfTensors places{folder / shard.file, {}};
    for (const auto& name : shard.wanted)
      if (!read.contains(name)) errors.add(kIndex, " names ", name, " in ", shard.file, ", which does not hold it");
    for (const auto& [name, info] : read.tensors()) {
      if (!shard.wanted.empty() && !shard.wanted.contains(name)) continue;
      const uint64_t offset = read.data_begin() + info.begin;
      found.push_back({todays_name(name), files.size(), offset, info});
      places.places.emplace(info.end - info.begin, offset);
    }
    files.push_back(std::move(places));
  }
  std::vector<std::string> names;
  for (const Found& one : found) names.push_back(one.name);
  if (const std::string taken = take_off_wrappers(names, model_type); !taken.empty())
    log_info("model ", folder.string(), ": names of its weights are read without ", taken);
  std::set<std::string> different;
  for (size_t i = 0; i < found.size(); ++i) {
    found[i].name = names[i];
    if (!different.insert(names[i]).second) errors.add("holds ", names[i], " twice, under two names");
  }
  errors.throw_if_any(cat("model ", folder.string()));
  return found;
}

}  // namespace

bool ties_word_embeddings(const JsonFile& config) {
  // T5 is always tied, unless its file holds a layer of its own; there the key says how outputs are scaled.
  const std::string type = config.value("model_type", std::string());
  if (type == "t5" || type == "mt5") return true;
  // config.json is silent where the value is the default of its class.
  static const std::set<std::string> kUntied{"llama",    "mistral", "qwen2", "qwen3", "phi3",
                                             "gpt_neox", "phi",     "olmo",  "olmo2"};
  return config.value("tie_word_embeddings", !kUntied.contains(type));
}

HuggingFaceFolder HuggingFaceFolder::load(const fs::path& folder, torch::Device device) {
  check_is_model_folder(folder);
  HuggingFaceFolder out;
  out.file_ = folder.has_filename() ? folder : folder.parent_path();  // without a slash at the end
  out.read_small_files();
  out.read_weights(device);
  out.name_inputs();
  return out;
}

void HuggingFaceFolder::read_small_files() {
  static const std::set<std::string> kExtensions{".json", ".txt", ".model", ".spm", ".jinja", ".bpe", ".vocab"};
  std::vector<std::string> names;
  for (const auto& name : plain_files(file_))
    if (kExtensions.contains(fs::path(name).extension().string()) && !name.ends_with(".index.json"))
      names.push_back(name);
  for (const char* inner : {"1_Pooling/config.json", "2_Dense/config.json"})
    if (is_there(file_ / inner)) names.emplace_back(inner);
  for (const auto& name : plain_files(file_ / "additional_chat_templates"))
    names.push_back("additional_chat_templates/" + name);
  uint64_t bytes = 0;
  std::error_code ignored;
  for (const auto& name : names) {
    bytes += fs::file_size(file_ / name, ignored);
    check(bytes <= kLargestSmallFiles, "model ", file_.string(), ": its settings and tokenizer files have more than ",
          kLargestSmallFiles, " bytes together");
    extras_[name] = read_file(file_ / name, "file of the model");
  }
  read_settings();
  const auto quantized = config().section("quantization_config");
  check(quantized.root.empty(), "model ", file_.string(),
        ": its weights are quantized (config.json: quantization_config, ",
        quantized.value("quant_method", std::string("method not said")),
        "), and such weights are not read; name the model that it was quantized from");
}

void HuggingFaceFolder::read_weights(torch::Device device) {
  std::vector<Shard> shards;
  for (const char* file : {kSingle, kIndex}) check_has_content(file_, file);
  // transformers takes the single file where both are there.
  if (is_there(file_ / kSingle)) shards.push_back({kSingle, {}});
  else if (is_there(file_ / kIndex)) shards = read_index(file_);
  else fail_without_weights(file_);

  std::vector<fs::path> deciding{file_ / "config.json"};
  for (const char* file : {kIndex, kHeadFile})
    if (is_there(file_ / file)) deciding.push_back(file_ / file);
  for (const Shard& shard : shards) deciding.push_back(file_ / shard.file);
  findings_.emplace(kFingerprintFindings, std::move(deciding));

  std::vector<FileOfTensors> files;
  const std::vector<Found> found = tensors_in(file_, shards, config().value("model_type", std::string()), files);
  const auto stored = std::make_shared<const StoredTensors>(std::move(files));
  stored_ = stored;
  const auto value_of = [&stored](const Found& one) {
    return stored->at(one.file, one.offset, one.info.shape, safetensors_type(one.info.dtype));
  };
  const auto table = std::find_if(found.begin(), found.end(), [](const Found& one) { return is_word_table(one.name); });
  const bool tied = ties_word_embeddings(config());
  const auto is_spare = [&](const Found& one) {
    if (!tied || !is_output_layer(one.name)) return false;
    return table == found.end() || one.name != "lm_head.weight" ||
           (one.info.dtype == table->info.dtype && torch::equal(value_of(one), value_of(*table)));
  };
  std::vector<NamedTensor> parameters, buffers;
  for (const Found& one : found) {
    if (is_spare(one)) continue;
    torch::Tensor value = value_of(one).to(device);
    (is_buffer(one.name, value) ? buffers : parameters).push_back({one.name, std::move(value)});
  }
  for (auto& [name, value] : parameters) add_tensor(name, value);
  for (auto& [name, value] : read_head_beside(device)) add_tensor(name, value);
  parameters_ = tensors().size();
  for (auto& [name, value] : buffers) add_tensor(name, value);
  check(parameters_ > 0, "model ", file_.string(), " holds no weights");
}

std::vector<NamedTensor> HuggingFaceFolder::read_head_beside(torch::Device device) {
  const fs::path file = file_ / kHeadFile;
  if (!is_there(file)) return {};
  const TensorFile read = load_tensors(file);
  const auto pooling = read.metadata.find("pooling");
  check(pooling != read.metadata.end() && read.tensors.count("weight") == 1 && read.tensors.count("bias") == 1 &&
            read.tensors.size() == 2,
        "model ", file_.string(), ": ", kHeadFile,
        ": expected weight, bias and their pooling, as deeplora export writes it");
  const torch::Tensor &weight = read.tensors.at("weight"), &bias = read.tensors.at("bias");
  check(weight.dim() == 2 && bias.dim() == 1 && bias.size(0) == weight.size(0) && weight.is_floating_point() &&
            bias.is_floating_point(),
        "model ", file_.string(), ": ", kHeadFile, ": expected weight [C, D] and bias [C], found ", weight.sizes(),
        " and ", bias.sizes());
  head_beside_ = OwnHead{"head", pooling->second, read.metadata.contains("normalized")};
  return {{"head.weight", weight.to(device)}, {"head.bias", bias.to(device)}};
}

void HuggingFaceFolder::name_inputs() {
  const auto has_like = [this](auto fits) {
    return std::any_of(tensors().begin(), tensors().end(), [&fits](const auto& tensor) { return fits(tensor.name); });
  };
  inputs_ = {"input_ids", "attention_mask"};
  if (has_like([](const std::string& name) { return name.ends_with("token_type_embeddings.weight"); }))
    inputs_.emplace_back("token_type_ids");
  const bool decoder = has_like([](const std::string& name) {
    return name.find("decoder.block.0.") != std::string::npos || name.find("decoder.layers.0.") != std::string::npos;
  });
  if (config().value("is_encoder_decoder", decoder)) inputs_.emplace_back("decoder_input_ids");
}

std::string HuggingFaceFolder::output_type() const {
  const auto names = config().value("architectures", std::vector<std::string>());
  return names.empty() ? config().value("model_type", std::string("unknown")) : names.front();
}

}  // namespace deeplora
