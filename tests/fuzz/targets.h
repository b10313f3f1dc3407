// Every reader of files that come from elsewhere, as a function of bytes. What a target throws that is no Error, and
// what a sanitizer reports, is a fault. The same functions are run by libFuzzer (DEEPLORA_FUZZ, see run) and, on the
// committed seeds, by every test run.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace deeplora::fuzz {

void config(std::string_view input);         ///< a configuration; after a line "----" one --set a line
void table(std::string_view input);          ///< first line: format, header, wanted column; then the file
void tokenizer(std::string_view input);      ///< tokenizer.json ---- tokenizer_config.json ---- text
void vocab_txt(std::string_view input);      ///< vocab.txt ---- tokenizer_config.json ---- text
void sentencepiece(std::string_view input);  ///< spiece.model
void chat_template(std::string_view input);  ///< a Jinja template, which is run ---- messages as JSON
void safetensors(std::string_view input);    ///< a safetensors file
void peft_folder(std::string_view input);    ///< adapter_config.json ---- adapter_model.safetensors
void ratings(std::string_view input);        ///< first line: format, separator, header; then the file
void matrix_market(std::string_view input);  ///< a .mtx file
void npy(std::string_view input);            ///< a .npy file
void ratings_model(std::string_view input);  ///< adapter.safetensors ---- seen.safetensors ---- rows.txt ---- cols.txt
void zip_directory(std::string_view input);  ///< an archive's list of files
void exported_program(std::string_view input);  ///< models/model.json ---- model_weights_config.json of a .pt2
void tensor_pickle(std::string_view input);     ///< data.pkl of a dictionary of tensors that torch.save wrote
void model_config(
    std::string_view input);  ///< config.json ---- tokenizer_config.json, as model families and tasks read them
void task_json(std::string_view input);           ///< a run's task.json
void checkpoint_numbers(std::string_view input);  ///< "content" of a checkpoint's state.json
void cell_files(std::string_view input);  ///< result.json ---- diverged.json ---- updates.json of a comparison's cell

struct Target {
  const char* name;
  void (*run)(std::string_view input);
};
inline constexpr Target kTargets[] = {{"config", config},
                                      {"table", table},
                                      {"tokenizer", tokenizer},
                                      {"vocab_txt", vocab_txt},
                                      {"sentencepiece", sentencepiece},
                                      {"chat_template", chat_template},
                                      {"safetensors", safetensors},
                                      {"peft_folder", peft_folder},
                                      {"ratings", ratings},
                                      {"matrix_market", matrix_market},
                                      {"npy", npy},
                                      {"ratings_model", ratings_model},
                                      {"zip_directory", zip_directory},
                                      {"exported_program", exported_program},
                                      {"tensor_pickle", tensor_pickle},
                                      {"model_config", model_config},
                                      {"task_json", task_json},
                                      {"checkpoint_numbers", checkpoint_numbers},
                                      {"cell_files", cell_files}};

/// The parts of an input that stands for several files, divided by lines "----"; at least `count`, the last ones empty.
std::vector<std::string_view> parts_of(std::string_view input, size_t count);
/// Words of the first line, at least `count`, and the rest of the input after them.
std::vector<std::string> options_of(std::string_view input, size_t count, std::string_view& rest);

/// A file in memory for readers that want a path.
class MemoryFile {
 public:
  explicit MemoryFile(std::string_view content);
  ~MemoryFile();
  MemoryFile(const MemoryFile&) = delete;
  MemoryFile& operator=(const MemoryFile&) = delete;
  std::filesystem::path path() const;

 private:
  int descriptor_;
};

/// A folder of the process for readers that want one, with these files and no others.
std::filesystem::path folder_with(const std::vector<std::pair<std::string, std::string_view>>& files);

}  // namespace deeplora::fuzz
