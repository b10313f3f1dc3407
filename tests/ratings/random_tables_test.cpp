// Random tables, written as people write them, against what they were written from. A table may be refused where its
// lines say nothing for sure; it is never read as another one.
#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <set>

#include "ratings/ratings_reader.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {

using Words = std::vector<std::string>;

/// Draws tables and writes them.
class Draw {
 public:
  explicit Draw(unsigned seed) : random_(seed) {}
  size_t below(size_t bound) { return std::uniform_int_distribution<size_t>(0, bound - 1)(random_); }
  bool coin(double share = 0.5) { return std::bernoulli_distribution(share)(random_); }
  std::string one_of(const Words& words) { return words[below(words.size())]; }

  /// Different ids: 1, 2, ...; rising numbers; large numbers in any order; texts; texts that hold separators and
  /// quotes.
  Words ids(size_t count, const std::string& kind) {
    std::set<std::string> known;
    Words out;
    size_t last = 0;
    while (out.size() < count) {
      std::string id;
      if (kind == "counted") id = std::to_string(out.size() + 1);
      else if (kind == "rising") id = std::to_string(last += 1 + below(9));
      else if (kind == "large") id = std::to_string(1000 + below(9000));
      else if (kind == "text") id = "id" + std::to_string(below(900));
      else id = "x" + one_of({";", ",", "::", "\"", " ", "a;b"}) + std::to_string(below(900));
      if (known.insert(id).second) out.push_back(id);
    }
    return out;
  }

  std::string number() { return one_of({"1", "2", "3", "4", "5", "3.5", "4.0", "0.5"}); }

  /// As csv.writer and pandas write a field.
  std::string field(const std::string& text, const std::string& separator) {
    const bool needed = text.find_first_of("\"\n") != std::string::npos || text.find(separator) != std::string::npos;
    if (!needed && (text.empty() || !quote_all_)) return text;
    std::string out = "\"";
    for (const char c : text) out += c == '"' ? "\"\"" : std::string(1, c);
    return out + "\"";
  }
  std::string line(const Words& fields, const std::string& separator) {
    std::string out;
    for (size_t i = 0; i < fields.size(); ++i) out += (i ? separator : "") + field(fields[i], separator);
    return out + (windows_ ? "\r\n" : "\n");
  }
  void choose_dialect() {
    quote_all_ = coin(0.2);
    windows_ = coin(0.2);
  }

 private:
  std::mt19937 random_;
  bool quote_all_ = false, windows_ = false;
};

struct Table {
  std::string text;
  Words entries;      ///< "row|col|value"
  bool sure = false;  ///< must be read, not refused
};

std::string entry(const std::string& row, const std::string& col, double value) {
  return cat(row, "|", col, "|", value);
}

Words entries_of(const Ratings& r) {
  Words out;
  for (size_t i = 0; i < r.value.size(); ++i)
    out.push_back(entry(r.rows.name(r.row[i]), r.cols.name(r.col[i]), r.value[i]));
  return out;
}

Table dense_table(Draw& draw) {
  const std::string col_kind = draw.one_of({"none", "counted", "rising", "large", "text", "hard"});
  const std::string row_kind = draw.one_of({"none", "counted", "rising", "large", "text", "hard"});
  const std::string separator = draw.one_of({",", ";", "\t"});
  const size_t m = 4 + draw.below(9), n = 5 + draw.below(8);
  const Words cols = col_kind == "none" ? Words() : draw.ids(n, col_kind),
              rows = row_kind == "none" ? Words() : draw.ids(m, row_kind);
  const bool names = !rows.empty(), header = !cols.empty(), short_header = names && header && draw.coin(0.2);
  const bool numbers_above = col_kind != "text" && col_kind != "hard",
             numbers_before = row_kind != "text" && row_kind != "hard";
  const std::string corner = draw.one_of({"", "userId", "reader"});
  Table out;
  if (header) {
    Words fields = cols;
    if (names && !short_header) fields.insert(fields.begin(), corner);
    out.text += draw.line(fields, separator);
  }
  bool third_has_blank = false;
  for (size_t i = 0; i < m; ++i) {
    Words fields;
    if (names) fields.push_back(rows[i]);
    for (size_t j = 0; j < n; ++j) {
      const std::string value =
          draw.coin(0.55) || (i == 0 && j == 0) ? draw.number() : draw.one_of({"", "", "nan", "NA"});
      fields.push_back(value);
      const bool missing = value.empty() || value == "nan" || value == "NA";
      third_has_blank |= missing && j < 3;
      if (!missing)
        out.entries.push_back(
            entry(names ? rows[i] : std::to_string(i), header ? cols[j] : std::to_string(j), std::stod(value)));
    }
    out.text += draw.line(fields, separator);
  }
  // Named above and before, or by texts: nothing is left to guess.
  const bool told_above =
      !header || !numbers_above || short_header || (names && (corner == "userId" || (corner == "" && numbers_before)));
  const bool told_before =
      !names || !numbers_before || (header && (short_header || corner != "reader" || numbers_above));
  const bool told_apart = header == names || (header && !numbers_above) || (names && !numbers_before);
  out.sure = told_above && told_before && told_apart && third_has_blank && (header || names || m > 4);
  return out;
}

Table triplet_table(Draw& draw) {
  const std::string separator = draw.one_of({",", ";", "\t", "::"});
  const Words rows = draw.ids(4, draw.one_of({"rising", "large", "text", "hard"})),
              cols = draw.ids(4, draw.one_of({"rising", "large", "text", "hard"}));
  const std::string naming = draw.one_of({"none", "movielens", "plain", "unusual", "indexed"});
  const bool time = naming != "indexed" && draw.coin(0.4), iso = draw.coin();
  Words names = naming == "plain"     ? Words{"user", "item", "rating"}
                : naming == "unusual" ? Words{"who", "what", "how much"}
                                      : Words{"userId", "movieId", "rating"};
  if (time) names.push_back("timestamp");
  if (naming == "indexed") names.insert(names.begin(), "");
  Table out;
  if (naming != "none") out.text += draw.line(names, separator);
  for (size_t k = 0; k < 14; ++k) {
    const size_t i = k < 4 ? k / 2 : draw.below(4), j = k < 4 ? k % 2 : draw.below(4);
    const std::string value = draw.number();
    Words fields{rows[i], cols[j], value};
    if (time)
      fields.push_back(iso ? "2024-01-0" + std::to_string(1 + k % 9) + " 10:00:00" : std::to_string(1700000000 + k));
    if (naming == "indexed") fields.insert(fields.begin(), std::to_string(k));
    out.text += draw.line(fields, separator);
    out.entries.push_back(entry(rows[i], cols[j], std::stod(value)));
  }
  // Four columns behind an index are row, column, value only by their names.
  out.sure = true;
  return out;
}

void check_tables(Table (*make)(Draw&), unsigned count, const std::string& what) {
  const testing::TempFolder folder;
  unsigned read = 0, sure = 0;
  for (unsigned seed = 1; seed <= count; ++seed) {
    Draw draw(seed);
    draw.choose_dialect();
    const Table table = make(draw);
    SCOPED_TRACE(cat(what, " ", seed, "\n", table.text));
    sure += table.sure;
    try {
      EXPECT_EQ(entries_of(read_ratings(folder.write("t.csv", table.text), {})), table.entries);
      ++read;
    } catch (const Error& e) {
      EXPECT_FALSE(table.sure) << e.what();
      EXPECT_NE(std::string(e.what()).find("set completion."), std::string::npos) << e.what();
    }
    if (::testing::Test::HasFailure()) return;
  }
  EXPECT_GE(read, sure);
  EXPECT_GT(sure, count / 4) << "most tables must be plain";
}

TEST(RandomTables, DenseOnesAreReadOrRefused) { check_tables(dense_table, 1500, "dense"); }

TEST(RandomTables, TripletsAreRead) { check_tables(triplet_table, 1000, "triplets"); }

}  // namespace
}  // namespace deeplora
