// Tensors, adapters' folders, ratings, archives, exported programs.
#include <cstdlib>
#include <stdexcept>

#include "core/error.h"
#include "core/safetensors.h"
#include "core/zip_directory.h"
#include "interchange/peft_settings.h"
#include "model_files/exported_program.h"
#include "model_files/linear_size.h"
#include "model_files/size_guards.h"
#include "model_files/tensor_pickle.h"
#include "ratings/matrix_files.h"
#include "ratings/ratings_file.h"
#include "ratings/ratings_reader.h"
#include "tests/fuzz/targets.h"

namespace deeplora::fuzz {
namespace {

/// What every reader of ratings promises.
void check_ratings(const Ratings& ratings) {
  const size_t n = ratings.value.size();
  bool ok = ratings.row.size() == n && ratings.col.size() == n && (ratings.time.empty() || ratings.time.size() == n);
  for (size_t i = 0; ok && i < n; ++i)
    ok = ratings.row[i] >= 0 && ratings.row[i] < ratings.rows.size() && ratings.col[i] >= 0 &&
         ratings.col[i] < ratings.cols.size();
  if (!ok) throw std::logic_error("a rating lies outside its matrix");
}

}  // namespace

void safetensors(std::string_view input) {
  const MemoryFile file(input);
  try {
    const SafeTensorsFile read = SafeTensorsFile::read(file.path());
    unsigned sum = 0;
    for (const auto& [name, info] : read.tensors())
      for (const std::byte byte : read.data(name)) sum += std::to_integer<unsigned>(byte);
    volatile unsigned kept = sum;  // every byte is read
    (void)kept;
  } catch (const Error&) {
  }
}

void peft_folder(std::string_view input) {
  const auto parts = parts_of(input, 2);
  const auto folder = folder_with({{"adapter_config.json", parts[0]}, {"adapter_model.safetensors", parts[1]}});
  try {
    Config config = Config::parse("adapter: {path: " + folder.string() + "}");
    adopt_peft_settings(config);
    std::vector<std::string> targets;
    config.section("adapter").read("targets", targets, "");
    config.dump_all();
  } catch (const Error&) {
  }
}

void ratings(std::string_view input) {
  std::string_view content;
  const auto options = options_of(input, 3, content);
  const MemoryFile file(content);
  RatingsFormat format;
  for (auto [place, word] :
       {std::pair{&format.format, options[0]}, {&format.separator, options[1]}, {&format.header, options[2]}})
    if (!word.empty()) *place = word;
  try {
    check_ratings(read_ratings(file.path(), format));
  } catch (const Error&) {
  }
  try {
    read_pairs(file.path(), format);
  } catch (const Error&) {
  }
  try {
    read_ids(file.path());
  } catch (const Error&) {
  }
}

void matrix_market(std::string_view input) {
  try {
    check_ratings(read_matrix_market("m.mtx", input));
  } catch (const Error&) {
  }
}

void npy(std::string_view input) {
  for (const int as_triplets : {-1, 0, 1}) {
    try {
      check_ratings(read_npy("a.npy", input, as_triplets));
    } catch (const Error&) {
    }
  }
}

void ratings_model(std::string_view input) {
  const auto parts = parts_of(input, 4);
  const auto folder = folder_with({{"adapter.safetensors", parts[0]},
                                   {"seen.safetensors", parts[1]},
                                   {"rows.txt", parts[2]},
                                   {"cols.txt", parts[3]}});
  try {
    const NamedRatingsModel read = load_ratings_model(folder);
    for (int32_t row = -1; row < read.model.rows; ++row)
      for (int32_t col = -1; col < read.model.cols; ++col) read.model.predict(row, col);
    for (int64_t row = 0; row < read.model.rows; ++row)
      for (int64_t i = read.seen.begin[static_cast<size_t>(row)]; i < read.seen.begin[static_cast<size_t>(row) + 1];
           ++i)
        read.cols.name(read.seen.other.at(static_cast<size_t>(i)));
  } catch (const Error&) {
  }
}

void exported_program(std::string_view input) {
  const auto parts = parts_of(input, 2);
  try {
    const ExportedProgram program = ExportedProgram::parse("models/model.json", parts[0]);
    if (program.arguments.leaves() > parts[0].size()) throw std::logic_error("more arguments than text");
    for (const auto& guard : program.guards) SizeGuard::parse("guard", guard).holds({{"input_ids", {2, 7}}, {"x", {}}});
    for (const auto& [unused, tensor] : program.graph.tensors)
      for (const ExportedSize& size : tensor.sizes)
        if (const auto linear = linear_size(size.expression); linear && std::abs(linear->times) > int64_t{1} << 31)
          throw std::logic_error("a factor beyond 32 bits");
    for (const auto& [name, tensor] : program.graph.tensors) exported_extent(tensor, 4, name);
  } catch (const Error&) {
  }
  try {
    for (const auto& [name, payload] : parse_exported_payloads("weights", parts[1]))
      if (payload.tensor) exported_extent(*payload.tensor, 8, name);
  } catch (const Error&) {
  }
}

void tensor_pickle(std::string_view input) {
  try {
    for (const auto& [name, payload] : parse_pickled_tensors("weights", input)) {
      if (!payload.tensor) throw std::logic_error("a tensor without sizes");
      exported_extent(*payload.tensor, 8, name);
    }
  } catch (const Error&) {
  }
}

void zip_directory(std::string_view input) {
  const MemoryFile file(input);
  for (const uint64_t begin : {0, 7}) {
    try {
      if (begin == 0) read_zip_directory(file.path(), "model");
      else read_zip_directory(file.path(), "model", {begin, input.size()});
    } catch (const Error&) {
    }
  }
}

}  // namespace deeplora::fuzz
