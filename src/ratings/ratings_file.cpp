#include "ratings/ratings_file.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <cstring>

#include "core/csv_text.h"
#include "core/files.h"
#include "core/safetensors.h"
#include "text/text_lines.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

template <class T>
SafeTensorView view(std::string name, std::string dtype, std::vector<int64_t> shape, const std::vector<T>& values) {
  return {std::move(name), std::move(dtype), std::move(shape), std::as_bytes(std::span(values))};
}

std::string lines_of(const IdIndex& ids) {
  std::string text;
  for (const auto& id : ids.names()) text += id + "\n";
  return text;
}

IdIndex ids_of(const fs::path& file) {
  const std::string text = read_text_file(file);
  Lines lines(text);
  IdIndex ids;
  for (std::string_view line; lines.next(line);) ids.add(line);
  return ids;
}

/// Sizes of a tensor of `dimensions`.
const std::vector<int64_t>& shape_of(const SafeTensorsFile& file, const fs::path& path, const std::string& name,
                                     size_t dimensions) {
  const auto& shape = file.info(name).shape;
  check(shape.size() == dimensions, path.string(), ": tensor '", name, "' has ", shape.size(), " dimensions, expected ",
        dimensions);
  return shape;
}

template <class T>
std::vector<T> values_of(const SafeTensorsFile& file, const fs::path& path, const std::string& name,
                         const std::string& dtype, size_t count) {
  const auto& info = file.info(name);
  const auto bytes = file.data(name);
  check(info.dtype == dtype && bytes.size() % sizeof(T) == 0 && bytes.size() / sizeof(T) == count, path.string(),
        ": tensor '", name, "' is ", info.dtype, " of ", bytes.size(), " bytes; expected ", count, " values of ",
        dtype);
  std::vector<T> out(count);
  if (count > 0) std::memcpy(out.data(), bytes.data(), bytes.size());
  return out;
}

/// [n, r] <-> [r, n].
std::vector<double> transposed(const std::vector<double>& values, size_t rows, size_t cols) {
  std::vector<double> out(values.size());
  for (size_t i = 0; i < rows; ++i)
    for (size_t j = 0; j < cols; ++j) out[j * rows + i] = values[i * cols + j];
  return out;
}

/// Parts that only some models have.
const std::vector<std::pair<std::string, std::vector<double> RatingsModel::*>>& further_parts() {
  static const std::vector<std::pair<std::string, std::vector<double> RatingsModel::*>> parts{
      {"row_center", &RatingsModel::row_center},
      {"col_center", &RatingsModel::col_center},
      {"noise", &RatingsModel::noise},
      {"levels", &RatingsModel::levels},
      {"cutpoints", &RatingsModel::cutpoints}};
  return parts;
}

const std::vector<std::pair<std::string, std::vector<double> FitState::*>>& state_parts() {
  static const std::vector<std::pair<std::string, std::vector<double> FitState::*>> parts{
      {"state.row_penalty", &FitState::row_penalty},
      {"state.col_penalty", &FitState::col_penalty},
      {"state.row_center", &FitState::row_center},
      {"state.col_center", &FitState::col_center},
      {"state.col_bias_variance", &FitState::col_bias_variance}};
  return parts;
}

/// Single numbers: draws, the periods, and where there is a state its unit, precision, penalties of periods, sweeps.
std::vector<double> numbers_of(const RatingsModel& model) {
  std::vector<double> out{static_cast<double>(model.draws), model.row_periods.period, model.col_periods.period};
  if (model.state)
    out.insert(out.end(), {model.state->unit, model.state->precision, model.state->row_period_penalty,
                           model.state->col_period_penalty, static_cast<double>(model.state->sweeps)});
  return out;
}

std::string npy(const std::vector<double>& values, const std::vector<int64_t>& shape) {
  std::string header = "{'descr': '<f8', 'fortran_order': False, 'shape': (";
  for (const int64_t size : shape) header += cat(size, ", ");
  header += "), }";
  header.append(63 - (header.size() + 10) % 64, ' ');
  header += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(header.size() & 0xff);
  out += static_cast<char>(header.size() >> 8);
  out += header;
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(double));
  return out;
}

std::string factors_csv(const IdIndex& ids, const std::vector<double>& bias, const std::vector<double>& factor,
                        int64_t rank) {
  std::string text = bias.empty() ? "id" : "id,bias";
  for (int64_t k = 0; k < rank; ++k) text += cat(",factor_", k);
  text += "\n";
  for (int64_t i = 0; i < ids.size(); ++i) {
    text += id_field(ids.name(i));
    if (!bias.empty()) text += "," + exact_number(bias[static_cast<size_t>(i)]);
    for (int64_t k = 0; k < rank; ++k) text += "," + exact_number(factor[static_cast<size_t>(i * rank + k)]);
    text += "\n";
  }
  return text;
}

}  // namespace

std::string id_field(const std::string& text) {
  const bool blank_end = !text.empty() && (text.front() == ' ' || text.back() == ' ');
  std::string out = csv_field(text);
  return blank_end && out.size() == text.size() ? cat('"', out, '"') : out;
}

std::string exact_number(double value) {
  char buffer[32];
  const auto [end, failed] = std::to_chars(buffer, buffer + sizeof(buffer), value);
  return failed == std::errc() ? std::string(buffer, end) : "nan";
}

void save_ratings_factors(const fs::path& file, const RatingsModel& model,
                          const std::map<std::string, std::string>& metadata) {
  const int64_t m = model.rows, n = model.cols, r = model.rank;
  const std::vector<double> mean{model.mean};
  const std::vector<double> range =
      model.range ? std::vector<double>{model.range->first, model.range->second} : std::vector<double>{};
  const std::vector<double> a = transposed(model.col_factor, static_cast<size_t>(n), static_cast<size_t>(r));
  const auto length = [](const std::vector<double>& v) { return std::vector<int64_t>{static_cast<int64_t>(v.size())}; };
  std::vector<SafeTensorView> tensors{view("B", "F64", {m, r}, model.row_factor),
                                      view("A", "F64", {r, n}, a),
                                      view("mean", "F64", {1}, mean),
                                      view("range", "F64", length(range), range),
                                      view("row_bias", "F64", length(model.row_bias), model.row_bias),
                                      view("col_bias", "F64", length(model.col_bias), model.col_bias),
                                      view("row_penalty", "F64", length(model.row_penalty), model.row_penalty),
                                      view("row_link", "F64", length(model.row_link), model.row_link)};
  if (!model.col_covariance.empty())
    tensors.push_back(
        view("col_covariance", "F32", {static_cast<int64_t>(model.col_covariance.size())}, model.col_covariance));
  if (!model.everywhere.empty())
    tensors.push_back(view("everywhere", "F64", length(model.everywhere), model.everywhere));
  for (const auto& [name, member] : further_parts())
    if (!(model.*member).empty()) tensors.push_back(view(name, "F64", length(model.*member), model.*member));
  for (const auto& [name, effects] :
       {std::pair("row_periods", &model.row_periods), {"col_periods", &model.col_periods}}) {
    if (effects->id.empty()) continue;
    const auto count = static_cast<int64_t>(effects->id.size());
    tensors.push_back(view(cat(name, ".id"), "I32", {count}, effects->id));
    tensors.push_back(view(cat(name, ".number"), "I64", {count}, effects->number));
    tensors.push_back(view(cat(name, ".value"), "F64", {model.draws, count}, effects->value));
  }
  const std::vector<double> numbers = numbers_of(model);
  tensors.push_back(view("numbers", "F64", length(numbers), numbers));
  if (model.state)
    for (const auto& [name, member] : state_parts())
      tensors.push_back(view(name, "F64", length((*model.state).*member), (*model.state).*member));
  auto information = metadata;
  information["format"] = "deeplora-ratings";
  information["penalty_per_rating"] = model.penalty_per_rating ? "1" : "0";
  information["bias_first"] = model.bias_first ? "1" : "0";
  write_safetensors(file, tensors, information);
}

void save_ratings_model(const fs::path& folder, const RatingsModel& model, const Ratings& seen,
                        const std::map<std::string, std::string>& metadata) {
  const SparseSide by_row = SparseSide::make(model.rows, seen.row, seen.col, seen.value);
  const std::vector<double> times =
      seen.time.empty() ? seen.time : SparseSide::make(model.rows, seen.row, seen.col, seen.time).value;
  std::vector<SafeTensorView> tensors{view("begin", "I64", {model.rows + 1}, by_row.begin),
                                      view("col", "I32", {seen.size()}, by_row.other),
                                      view("value", "F64", {seen.size()}, by_row.value)};
  if (!times.empty()) tensors.push_back(view("time", "F64", {seen.size()}, times));
  write_safetensors(folder / "seen.safetensors", tensors,
                    {{"row_column", seen.row_column}, {"col_column", seen.col_column}});
  write_file_atomically(folder / "rows.txt", lines_of(seen.rows));
  write_file_atomically(folder / "cols.txt", lines_of(seen.cols));
  save_ratings_factors(folder / "adapter.safetensors", model, metadata);
}

namespace {

/// numbers_of() backwards.
void take_numbers(const SafeTensorsFile& file, const fs::path& path, RatingsModel& model) {
  const auto count = static_cast<size_t>(shape_of(file, path, "numbers", 1)[0]);
  check(count == 3 || count == 8, path.string(), ": tensor 'numbers' has ", count, " elements, expected 3 or 8");
  const auto numbers = values_of<double>(file, path, "numbers", "F64", count);
  for (const double v : numbers) check(std::isfinite(v), path.string(), ": tensor 'numbers' holds ", v);
  check(numbers[0] >= 1 && numbers[0] <= 1e6, path.string(), ": ", numbers[0], " draws");
  model.draws = static_cast<int64_t>(numbers[0]);
  model.row_periods.period = numbers[1];
  model.col_periods.period = numbers[2];
  if (count == 3) return;
  check(std::abs(numbers[7]) < 1e15, path.string(), ": ", numbers[7], " sweeps");
  model.state = FitState{.unit = numbers[3],
                         .precision = numbers[4],
                         .row_penalty = {},
                         .col_penalty = {},
                         .row_center = {},
                         .col_center = {},
                         .col_bias_variance = {},
                         .row_period_penalty = numbers[5],
                         .col_period_penalty = numbers[6],
                         .sweeps = static_cast<int64_t>(numbers[7])};
}

void check_further_parts(const fs::path& path, const RatingsModel& model) {
  const auto s = static_cast<size_t>(model.draws),
             width = static_cast<size_t>(model.draw_rank()) + (model.biases() ? 1 : 0);
  const auto expect = [&](const char* name, const std::vector<double>& part, size_t size) {
    check(part.empty() || part.size() == size, path.string(), ": tensor '", name, "' has ", part.size(),
          " elements, expected ", size);
  };
  expect("row_center", model.row_center, s * width);
  expect("col_center", model.col_center, s * width);
  expect("noise", model.noise, s);
  check(model.levels.empty() == model.cutpoints.empty() && model.levels.size() != 1, path.string(),
        ": tensors 'levels' and 'cutpoints' do not fit each other");
  if (!model.levels.empty()) expect("cutpoints", model.cutpoints, s * (model.levels.size() - 1));
  check(model.draws == 1 || !model.noise.empty(), path.string(), ": ", model.draws, " draws without their noise");
}

void take_periods(const SafeTensorsFile& file, const fs::path& path, const std::string& name, int64_t size,
                  int64_t draws, PeriodEffects& out) {
  const auto count = static_cast<size_t>(shape_of(file, path, name + ".id", 1)[0]);
  out.id = values_of<int32_t>(file, path, name + ".id", "I32", count);
  out.number = values_of<int64_t>(file, path, name + ".number", "I64", count);
  out.value = values_of<double>(file, path, name + ".value", "F64", static_cast<size_t>(draws) * count);
  check(out.period > 0 && std::all_of(out.id.begin(), out.id.end(), [&](int32_t id) { return id >= 0 && id < size; }),
        path.string(), ": tensor '", name, ".id' does not fit the model");
}

void take_state(const SafeTensorsFile& file, const fs::path& path, RatingsModel& model) {
  const auto width = static_cast<size_t>(model.draw_rank()) + (model.biases() ? 1 : 0);
  for (const auto& [name, member] : state_parts()) {
    const auto count = static_cast<size_t>(shape_of(file, path, name, 1)[0]);
    const size_t expected = member == &FitState::col_bias_variance ? static_cast<size_t>(model.cols) : width;
    check(count == 0 || count == expected, path.string(), ": tensor '", name, "' has ", count, " elements, expected ",
          expected);
    (*model.state).*member = values_of<double>(file, path, name, "F64", count);
  }
  check(model.state->row_penalty.size() == width && model.state->col_penalty.size() == width, path.string(),
        ": the state that a fit goes on from is not whole");
}

}  // namespace

RatingsModel load_ratings_factors(const fs::path& path, std::map<std::string, std::string>* metadata) {
  const SafeTensorsFile file = SafeTensorsFile::read(path);
  check(file.metadata().contains("format") && file.metadata().at("format") == "deeplora-ratings", path.string(),
        ": these factors are not a ratings model (a run on a synthetic target has no rows and columns with names)");
  RatingsModel model;
  model.rows = shape_of(file, path, "B", 2)[0];
  model.cols = shape_of(file, path, "A", 2)[1];
  model.rank = shape_of(file, path, "B", 2)[1];
  if (file.contains("numbers")) take_numbers(file, path, model);
  check(model.draws >= 1 && model.rank % model.draws == 0, path.string(), ": rank ", model.rank, " of ", model.draws,
        " draws");
  check(model.draw_rank() <= std::max(model.rows, model.cols), path.string(), ": rank ", model.rank, " of a ",
        model.rows, " x ", model.cols, " matrix");
  const auto m = static_cast<size_t>(model.rows), n = static_cast<size_t>(model.cols),
             r = static_cast<size_t>(model.draw_rank()), s = static_cast<size_t>(model.draws);
  const auto read = [&](const std::string& name, size_t count) {
    return values_of<double>(file, path, name, "F64", count);
  };
  const auto either = [&](const std::string& name, size_t count) {
    return read(name, shape_of(file, path, name, 1)[0] == 0 ? 0 : count);
  };
  model.row_factor = read("B", m * r * s);
  model.col_factor = transposed(read("A", r * s * n), r * s, n);
  model.mean = read("mean", 1)[0];
  model.row_bias = either("row_bias", s * m);
  model.col_bias = either("col_bias", s * n);
  model.row_penalty = either("row_penalty", s * (r + (model.biases() ? 1 : 0)));
  model.row_link = either("row_link", s * n * (r + 1));
  if (const auto range = either("range", 2); !range.empty()) model.range = {range[0], range[1]};
  for (const auto& [name, member] : further_parts())
    if (file.contains(name)) model.*member = read(name, static_cast<size_t>(shape_of(file, path, name, 1)[0]));
  check_further_parts(path, model);
  if (file.contains("row_periods.id"))
    take_periods(file, path, "row_periods", model.rows, model.draws, model.row_periods);
  if (file.contains("col_periods.id"))
    take_periods(file, path, "col_periods", model.cols, model.draws, model.col_periods);
  if (model.state) take_state(file, path, model);
  const size_t triangle = r * (r + 1) / 2;
  if (file.contains("col_covariance"))
    model.col_covariance =
        values_of<float>(file, path, "col_covariance", "F32", n * (triangle + (model.biases() ? r : 0)));
  if (file.contains("everywhere")) model.everywhere = read("everywhere", triangle);
  const auto marked = [&](const std::string& name) {
    const auto found = file.metadata().find(name);
    return found != file.metadata().end() && found->second == "1";
  };
  model.penalty_per_rating = marked("penalty_per_rating");
  model.bias_first = marked("bias_first");
  if (metadata) *metadata = file.metadata();
  return model;
}

Ratings NamedRatingsModel::ratings() const {
  Ratings out;
  out.rows = rows;
  out.cols = cols;
  out.row_column = row_column;
  out.col_column = col_column;
  out.col = seen.other;
  out.value = seen.value;
  out.time = seen_time;
  for (int64_t i = 0; i < seen.size(); ++i)
    out.row.insert(out.row.end(), static_cast<size_t>(seen.count(i)), static_cast<int32_t>(i));
  return out;
}

std::optional<int64_t> newest_update(const fs::path& run) {
  std::optional<int64_t> newest;
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(run / "updates", ignored)) {
    const std::string name = entry.path().filename().string();
    int64_t number = 0;
    const auto [end, failed] = std::from_chars(name.data(), name.data() + name.size(), number);
    if (failed == std::errc() && end == name.data() + name.size() && number > newest.value_or(0)) newest = number;
  }
  return newest;
}

fs::path model_folder(const fs::path& run) {
  const auto newest = newest_update(run);
  return newest ? run / "updates" / std::to_string(*newest) : run;
}

NamedRatingsModel load_ratings_model(const fs::path& run) {
  const fs::path folder = model_folder(run);
  const fs::path path = folder / "adapter.safetensors", seen_path = folder / "seen.safetensors";
  check(fs::exists(path), folder.string(),
        ": no adapter.safetensors; expected the folder of a finished run of deeplora complete");
  NamedRatingsModel out;
  out.model = load_ratings_factors(path);
  const RatingsModel& model = out.model;
  out.rows = ids_of(folder / "rows.txt");
  out.cols = ids_of(folder / "cols.txt");
  check(out.rows.size() == model.rows && out.cols.size() == model.cols, path.string(), ": a model of ", model.rows,
        " x ", model.cols, ", but rows.txt and cols.txt name ", out.rows.size(), " rows and ", out.cols.size(),
        " columns");
  check(static_cast<int64_t>(model.row_penalty.size()) == model.draws * (model.draw_rank() + (model.biases() ? 1 : 0)),
        path.string(), ": tensor 'row_penalty' is empty");
  const auto m = static_cast<size_t>(model.rows);
  const SafeTensorsFile seen = SafeTensorsFile::read(seen_path);
  const auto named = [&](const std::string& key) {
    const auto found = seen.metadata().find(key);
    return found == seen.metadata().end() ? std::string() : found->second;
  };
  out.row_column = named("row_column");
  out.col_column = named("col_column");
  out.seen.begin = values_of<int64_t>(seen, seen_path, "begin", "I64", m + 1);
  check(out.seen.begin.front() == 0 && std::is_sorted(out.seen.begin.begin(), out.seen.begin.end()), seen_path.string(),
        ": tensor 'begin' does not rise from 0");
  const auto count = static_cast<size_t>(out.seen.begin.back());
  out.seen.other = values_of<int32_t>(seen, seen_path, "col", "I32", count);
  check(std::all_of(out.seen.other.begin(), out.seen.other.end(),
                    [&](int32_t col) { return col >= 0 && col < model.cols; }),
        seen_path.string(), ": tensor 'col' names a column beyond the ", model.cols, " of the model");
  out.seen.value = values_of<double>(seen, seen_path, "value", "F64", count);
  if (seen.contains("time")) out.seen_time = values_of<double>(seen, seen_path, "time", "F64", count);
  return out;
}

void export_ratings_model(const fs::path& folder, const NamedRatingsModel& named) {
  const RatingsModel& model = named.model;
  write_folder_atomically(folder, [&](const fs::path& into) {
    write_file_atomically(into / "row_factors.npy", npy(model.row_factor, {model.rows, model.rank}));
    write_file_atomically(into / "col_factors.npy", npy(model.col_factor, {model.cols, model.rank}));
    const auto row_bias = mean_bias(model.row_bias, model.draws), col_bias = mean_bias(model.col_bias, model.draws);
    if (model.biases()) {
      write_file_atomically(into / "row_biases.npy", npy(row_bias, {model.rows}));
      write_file_atomically(into / "col_biases.npy", npy(col_bias, {model.cols}));
    }
    write_file_atomically(into / "mean.npy", npy({model.mean}, {1}));
    write_file_atomically(into / "rows.csv", factors_csv(named.rows, row_bias, model.row_factor, model.rank));
    write_file_atomically(into / "cols.csv", factors_csv(named.cols, col_bias, model.col_factor, model.rank));
  });
}

}  // namespace deeplora
