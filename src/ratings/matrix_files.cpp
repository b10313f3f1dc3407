#include "ratings/matrix_files.h"

#include <algorithm>
#include <cctype>
#include <cmath>
#include <cstring>

#include "ratings/delimited.h"

namespace deeplora {
namespace fs = std::filesystem;
namespace {

void name_by_number(IdIndex& index, int64_t count, int64_t first) {
  for (int64_t i = 0; i < count; ++i) index.add(std::to_string(first + i));
}

// ---- MatrixMarket ----

constexpr int64_t kMostEmpty = 1'000'000;  // rows that a file may have without naming them

struct MarketHeader {
  bool coordinate = false;
  bool mirrored = false;
  double mirror_sign = 1;
};

MarketHeader market_header(const fs::path& file, std::string line) {
  std::transform(line.begin(), line.end(), line.begin(),
                 [](unsigned char c) { return static_cast<char>(std::tolower(c)); });
  std::vector<std::string_view> words;
  FieldCutter cutter(" ");  // fields in quotes point into it
  cutter.cut(line, words);
  check(words.size() == 5 && words[0] == "%%matrixmarket" && words[1] == "matrix", file.string(),
        ":1: expected '%%MatrixMarket matrix coordinate|array real|integer|unsigned-integer "
        "general|symmetric|skew-symmetric', found '",
        line, "'");
  check(words[2] == "coordinate" || words[2] == "array", file.string(), ":1: expected coordinate or array, found '",
        words[2], "'");
  check(words[3] == "real" || words[3] == "integer" || words[3] == "unsigned-integer" || words[3] == "double",
        file.string(), ":1: a matrix of type '", words[3],
        "' holds no ratings; expected real, integer or unsigned-integer");
  check(words[4] == "general" || words[4] == "symmetric" || words[4] == "skew-symmetric", file.string(),
        ":1: expected general, symmetric or skew-symmetric, found '", words[4], "'");
  return {words[2] == "coordinate", words[4] != "general", words[4] == "skew-symmetric" ? -1.0 : 1.0};
}

class MarketReader {
 public:
  MarketReader(const fs::path& file, std::string_view text) : file_(file), lines_(text), text_size_(text.size()) {}

  Ratings read() {
    std::string_view first;
    check(lines_.next(first), file_.string(), ": the file is empty");
    header_ = market_header(file_, std::string(first));
    read_sizes();
    header_.coordinate ? read_entries() : read_array();
    errors_.throw_if_any();
    return std::move(out_);
  }

 private:
  bool next_fields() {
    for (std::string_view line; lines_.next(line);) {
      if (is_blank(line) || line.starts_with('%')) continue;
      cutter_.cut(line, fields_);
      return true;
    }
    return false;
  }
  std::string here() const { return cat(file_.string(), ":", lines_.number()); }

  int64_t whole(std::string_view field, std::string_view name) const {
    const auto value = as_number(field);
    check(value && *value == std::floor(*value) && *value >= 0 && *value < 2147483647.0, here(), ": expected ", name,
          ", found '", field, "'");
    return static_cast<int64_t>(*value);
  }

  void read_sizes() {
    const size_t wanted = header_.coordinate ? 3 : 2;
    check(next_fields() && fields_.size() == wanted, here(), ": expected the sizes '",
          header_.coordinate ? "rows columns entries" : "rows columns", "'");
    rows_ = whole(fields_[0], "a number of rows");
    cols_ = whole(fields_[1], "a number of columns");
    entries_ = header_.coordinate ? whole(fields_[2], "a number of entries") : 0;
    // Every row and column gets a name: a few bytes must not ask for gigabytes.
    const int64_t most = kMostEmpty + static_cast<int64_t>(text_size_);
    check(rows_ <= most && cols_ <= most, here(), ": a ", rows_, " x ", cols_, " matrix in a file of ", text_size_,
          " bytes; at most ", most, " rows or columns are read");
    check(!header_.mirrored || rows_ == cols_, here(), ": a symmetric matrix must be square, found ", rows_, " x ",
          cols_);
    name_by_number(out_.rows, rows_, 1);
    name_by_number(out_.cols, cols_, 1);
  }

  void put(int64_t row, int64_t col, std::string_view field) {
    const auto value = as_number(field);
    if (!value && !is_missing(field)) return errors_.add(here(), ": expected a number, found '", field, "'");
    if (!value || std::isnan(*value)) {
      ++missing_;
      return;
    }
    if (std::isinf(*value)) return errors_.add(here(), ": the value is infinite");
    push(row, col, *value);
    if (header_.mirrored && row != col) push(col, row, header_.mirror_sign * *value);
  }
  void push(int64_t row, int64_t col, double value) {
    out_.row.push_back(static_cast<int32_t>(row));
    out_.col.push_back(static_cast<int32_t>(col));
    out_.value.push_back(value);
  }

  void read_entries() {
    int64_t found = 0;
    for (; errors_.size() < 12 && next_fields(); ++found) {
      if (fields_.size() != 3) {
        errors_.add(here(), ": expected 'row column value', found ", fields_.size(), " fields");
        continue;
      }
      const int64_t row = whole(fields_[0], "a row number"), col = whole(fields_[1], "a column number");
      if (row < 1 || row > rows_ || col < 1 || col > cols_)
        errors_.add(here(), ": entry (", row, ", ", col, ") lies outside the ", rows_, " x ", cols_,
                    " matrix (numbers begin at 1)");
      else put(row - 1, col - 1, fields_[2]);
    }
    if (errors_.empty() && found != entries_)
      errors_.add(file_.string(), ": the header promises ", entries_, " entries, the file holds ", found);
    say_missing();
  }

  void read_array() {
    // Column by column; of a symmetric matrix only the lower triangle, of a skew-symmetric one without the diagonal.
    const int64_t skip = header_.mirrored ? (header_.mirror_sign < 0 ? 1 : 0) : 0;
    for (int64_t col = 0; col < cols_; ++col)
      for (int64_t row = header_.mirrored ? col + skip : 0; row < rows_; ++row) {
        check(next_fields(), file_.string(), ": the array ends before entry (", row + 1, ", ", col + 1, ") of a ",
              rows_, " x ", cols_, " matrix");
        check(fields_.size() == 1, here(), ": expected one value a line, found ", fields_.size());
        put(row, col, fields_[0]);
      }
    check(!next_fields(), here(), ": values after the end of the ", rows_, " x ", cols_, " matrix");
    say_missing();
  }

  void say_missing() {
    if (missing_ > 0)
      out_.remarks.push_back(cat(file_.string(), ": ", missing_, " NaN values were taken as not observed"));
  }

  const fs::path& file_;
  Lines lines_;
  size_t text_size_;
  FieldCutter cutter_{" "};
  std::vector<std::string_view> fields_;
  MarketHeader header_;
  int64_t rows_ = 0, cols_ = 0, entries_ = 0, missing_ = 0;
  Ratings out_;
  Errors errors_;
};

// ---- NPY ----

struct NpyArray {
  int64_t rows = 0, cols = 0;
  bool fortran = false;
  char kind = 'f';
  int width = 8;
  const char* data = nullptr;

  double at(int64_t row, int64_t col) const {
    const char* p = data + (fortran ? col * rows + row : row * cols + col) * width;
    const auto load = [p]<class T>(T value) {
      std::memcpy(&value, p, sizeof(T));
      return static_cast<double>(value);
    };
    if (kind == 'f') return width == 8 ? load(double{}) : load(float{});
    if (kind == 'i')
      return width == 8   ? load(int64_t{})
             : width == 4 ? load(int32_t{})
             : width == 2 ? load(int16_t{})
                          : load(int8_t{});
    return width == 8   ? load(uint64_t{})
           : width == 4 ? load(uint32_t{})
           : width == 2 ? load(uint16_t{})
                        : load(uint8_t{});
  }
};

/// The text after 'key': in the header's Python dictionary, up to `end`.
std::string header_value(const fs::path& file, std::string_view header, std::string_view key, std::string_view end) {
  const size_t at = header.find(cat("'", key, "':"));
  check(at != std::string_view::npos, file.string(), ": the NPY header has no '", key, "'");
  std::string_view rest = header.substr(at + key.size() + 3);
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  const size_t stop = rest.find(end, 1);
  check(stop != std::string_view::npos, file.string(), ": the NPY header is cut off after '", key, "'");
  return std::string(rest.substr(0, stop));
}

void parse_dtype(const fs::path& file, const std::string& descr, NpyArray& array) {
  const std::string type = descr.starts_with("'") ? descr.substr(1) : descr;  // a structured dtype begins with [
  static const std::vector<std::string> known{"<f8", "<f4", "<i8", "<i4", "<i2", "|i1", "<u8", "<u4", "<u2", "|u1"};
  check(std::find(known.begin(), known.end(), type) != known.end(), file.string(), ": NPY dtype '", type,
        "' is not read; expected one of ", join(known), " (save it with array.astype('<f8'))");
  array.kind = type[1];
  array.width = type[2] - '0';
}

NpyArray parse_npy(const fs::path& file, std::string_view bytes) {
  check(bytes.size() >= 12 && bytes.starts_with("\x93NUMPY"), file.string(),
        ": not an NPY file (it does not begin with \\x93NUMPY)");
  const int version = bytes[6];
  check(version >= 1 && version <= 3, file.string(), ": NPY version ", version, " is not known; expected 1 to 3");
  const auto byte = [&](size_t i) { return static_cast<size_t>(static_cast<unsigned char>(bytes[i])); };
  const size_t prefix = version == 1 ? 10 : 12;
  const size_t length =
      version == 1 ? byte(8) | byte(9) << 8 : byte(8) | byte(9) << 8 | byte(10) << 16 | byte(11) << 24;
  check(prefix + length <= bytes.size(), file.string(), ": the NPY header is longer than the file");
  const std::string_view header = bytes.substr(prefix, length);
  NpyArray array;
  parse_dtype(file, header_value(file, header, "descr", "'"), array);
  array.fortran = header_value(file, header, "fortran_order", ",") == "True";
  std::string shape = header_value(file, header, "shape", ")");
  check(shape.starts_with('('), file.string(), ": the NPY header's shape is no (rows, columns)");
  shape.erase(0, 1);
  std::vector<std::string_view> sizes;
  FieldCutter cutter(",");  // fields in quotes point into it
  cutter.cut(shape, sizes);
  if (!sizes.empty() && sizes.back().empty()) sizes.pop_back();
  check(sizes.size() == 2, file.string(), ": expected an array of 2 dimensions, found shape (", shape, ")");
  const double rows = as_number(sizes[0]).value_or(0), cols = as_number(sizes[1]).value_or(0);
  check(rows >= 1 && cols >= 1 && rows < 2147483647 && cols < 2147483647 && rows == std::floor(rows) &&
            cols == std::floor(cols),
        file.string(), ": the shape (", shape, ") holds no ratings");
  array.rows = static_cast<int64_t>(rows);
  array.cols = static_cast<int64_t>(cols);
  check(array.rows <= static_cast<int64_t>(bytes.size()) && array.cols <= static_cast<int64_t>(bytes.size()),
        file.string(), ": shape (", shape, ") needs more bytes of data than the file holds");
  const size_t wanted =
      static_cast<size_t>(array.rows) * static_cast<size_t>(array.cols) * static_cast<size_t>(array.width);
  check(bytes.size() - prefix - length == wanted, file.string(), ": shape (", shape, ") needs ", wanted,
        " bytes of data, the file holds ", bytes.size() - prefix - length);
  array.data = bytes.data() + prefix + length;
  return array;
}

Ratings npy_triplets(const fs::path& file, const NpyArray& array) {
  Ratings out;
  Errors errors;
  int64_t missing = 0;
  for (int64_t i = 0; i < array.rows && errors.size() < 12; ++i) {
    const double row = array.at(i, 0), col = array.at(i, 1), value = array.at(i, 2);
    const auto is_id = [](double id) { return id == std::floor(id) && std::abs(id) < 9007199254740992.0; };
    if (!is_id(row) || !is_id(col)) {
      errors.add(file.string(), ": row ", i, ": expected whole numbers as ids, found ", row, " and ", col,
                 " (a dense matrix of ", array.cols, " columns? set completion.format: dense)");
      continue;
    }
    if (std::isnan(value)) {
      ++missing;
      continue;
    }
    if (std::isinf(value)) errors.add(file.string(), ": row ", i, ": the value is infinite");
    out.row.push_back(out.rows.add(std::to_string(static_cast<int64_t>(row))));
    out.col.push_back(out.cols.add(std::to_string(static_cast<int64_t>(col))));
    out.value.push_back(value);
    if (array.cols == 4) out.time.push_back(array.at(i, 3));
  }
  errors.throw_if_any();
  out.remarks.push_back(cat(file.string(), ": an array of ", array.cols, " columns was read as row, column, value",
                            array.cols == 4 ? ", time" : "", " (completion.format: dense reads it as a matrix)"));
  if (missing > 0) out.remarks.push_back(cat(file.string(), ": ", missing, " ratings are NaN and were left out"));
  return out;
}

Ratings npy_dense(const fs::path& file, const NpyArray& array) {
  Ratings out;
  name_by_number(out.rows, array.rows, 0);
  name_by_number(out.cols, array.cols, 0);
  for (int64_t row = 0; row < array.rows; ++row)
    for (int64_t col = 0; col < array.cols; ++col) {
      const double value = array.at(row, col);
      if (std::isnan(value)) continue;
      check(!std::isinf(value), file.string(), ": entry [", row, ", ", col, "] is infinite");
      out.row.push_back(static_cast<int32_t>(row));
      out.col.push_back(static_cast<int32_t>(col));
      out.value.push_back(value);
    }
  return out;
}

}  // namespace

Ratings read_matrix_market(const fs::path& file, std::string_view text) { return MarketReader(file, text).read(); }

Ratings read_npy(const fs::path& file, std::string_view bytes, int as_triplets) {
  const NpyArray array = parse_npy(file, bytes);
  const bool shaped = array.cols == 3 || array.cols == 4;
  check(as_triplets != 1 || shaped, file.string(), ": triplets need shape [N, 3] or [N, 4], found [", array.rows, ", ",
        array.cols, "]");
  return as_triplets == 1 || (as_triplets < 0 && shaped) ? npy_triplets(file, array) : npy_dense(file, array);
}

}  // namespace deeplora
