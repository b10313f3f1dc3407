#include "text/table.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {

namespace fs = std::filesystem;

class TableTest : public ::testing::Test {
 protected:
  fs::path write(const std::string& name, const std::string& content) const { return folder_.write(name, content); }
  std::vector<Row> read(const std::string& name, const std::string& content,
                        const TableOptions& options = {}) const {
    return read_table(write(name, content), options);
  }
  /// The message of the error, without the path of the folder.
  std::string error(const std::string& name, const std::string& content,
                    const TableOptions& options = {}) const {
    try {
      read(name, content, options);
    } catch (const Error& e) {
      return folder_.without_path(e.what());
    }
    return "no error";
  }

  const testing::TempFolder folder_;
};

std::string dump(const std::vector<Row>& rows) {
  auto all = nlohmann::ordered_json::array();
  for (const auto& row : rows) all.push_back(row.fields);
  return all.dump();
}

#define EXPECT_CONTAINS(text, part) EXPECT_NE((text).find(part), std::string::npos) << (text)

TEST_F(TableTest, TsvKnowsNoQuotesAndNamesColumnsByIndex) {
  const auto rows = read("a.tsv", "1\tsay \"hi\"\r\n\r\n2\t\"open, quote\n");
  EXPECT_EQ(dump(rows), R"([{"0":"1","1":"say \"hi\""},{"0":"2","1":"\"open, quote"}])");
  EXPECT_EQ(rows[1].source, (folder_ / "a.tsv").string() + ":3");
}

// Oracle: the examples of RFC 4180, section 2.
TEST_F(TableTest, CsvFollowsRfc4180) {
  TableOptions options;
  options.header = "no";
  EXPECT_EQ(
      dump(read("a.csv", "aaa,\"b \r\nbb\",ccc\r\nzzz,yyy,\"b\"\"bb\"\r\n,\"\",x y", options)),
      R"([{"0":"aaa","1":"b \r\nbb","2":"ccc"},{"0":"zzz","1":"yyy","2":"b\"bb"},{"0":"","1":"","2":"x y"}])");
}

TEST_F(TableTest, LinesAreCountedAcrossQuotedLineEnds) {
  const auto rows = read("a.csv", "\xEF\xBB\xBFmr,ref\n\"a\n\nb\",c\n\n d,\"e\"\n", {"auto", "yes", {}});
  ASSERT_EQ(rows.size(), 2u);
  EXPECT_EQ(rows[0].source, (folder_ / "a.csv").string() + ":2");
  EXPECT_EQ(rows[1].source, (folder_ / "a.csv").string() + ":6");
  EXPECT_EQ(dump(rows), R"([{"mr":"a\n\nb","ref":"c"},{"mr":" d","ref":"e"}])");
}

TEST_F(TableTest, HeaderIsFoundByAWantedName) {
  const std::string content = "sentence\tlabel\ngood\t1\n";
  EXPECT_EQ(dump(read("a.tsv", content, {"auto", "auto", {"label"}})),
            R"([{"sentence":"good","label":"1"}])");
  EXPECT_EQ(read("a.tsv", content, {"auto", "auto", {"0"}}).size(), 2u);
  EXPECT_EQ(dump(read("a.tsv", content, {"auto", "yes", {"1"}})),
            R"([{"sentence":"good","label":"1","1":"1"}])");
}

TEST_F(TableTest, MissingColumnsAreListedTogetherWithWhatIsThere) {
  const std::string message =
      error("a.tsv", "sentence\tlabel\ngood\t1\n", {"auto", "auto", {"sentense", "label", "7"}});
  EXPECT_CONTAINS(
      message, "a.tsv: no column 'sentense' (did you mean 'sentence'?), '7'; columns there: sentence, label");
  const std::string headless = error("a.tsv", "good\t1\n", {"auto", "auto", {"text"}});
  EXPECT_CONTAINS(headless, "no column 'text'; columns there: 0, 1 (no header; the first line is good | 1)");
  EXPECT_CONTAINS(error("a.csv", "a\tb\n", {"auto", "auto", {"text"}}), "set data.format: tsv");
  EXPECT_CONTAINS(error("a.tsv", "x\tx\n1\t2\n", {"auto", "auto", {"x"}}),
                  "a.tsv:1: two columns are called 'x'");
}

TEST_F(TableTest, WrongColumnCountsAreAllNamedByLine) {
  const std::string message = error("a.tsv", "a\tb\nc\nd\te\nf\tg\th\n");
  EXPECT_CONTAINS(message, "a.tsv:2: 1 columns, expected 2 as in line 1");
  EXPECT_CONTAINS(message, "a.tsv:4: 3 columns, expected 2 as in line 1");
}

TEST_F(TableTest, JsonlKeepsValuesAndTheirOrder) {
  const auto rows = read("a.jsonl", "{\"z\": 1.5, \"a\": [1, {\"b\": null}]}\n  \n{\"a\": \"\\u00e9\"}");
  EXPECT_EQ(dump(rows), "[{\"z\":1.5,\"a\":[1,{\"b\":null}]},{\"a\":\"\xC3\xA9\"}]");
  EXPECT_EQ(rows[1].source, (folder_ / "a.jsonl").string() + ":3");
}

TEST_F(TableTest, BrokenJsonIsNamedByLineAndByte) {
  const std::string message = error(
      "a.jsonl", "{\"a\": 1}\n{\"a\": }\n[1]\n{\"a\": \"\\ud800\"}\n{\"b\": 1}\n", {"auto", "auto", {"a"}});
  EXPECT_CONTAINS(message, "a.jsonl:2: not valid JSON at byte 7");
  EXPECT_CONTAINS(message, "a.jsonl:3: expected a JSON object {...} on every line, found array");
  EXPECT_CONTAINS(message, "a.jsonl:4: not valid JSON");
  EXPECT_CONTAINS(message, "a.jsonl:5: no field 'a' (did you mean 'b'?); fields there: b");
}

TEST_F(TableTest, DeepJsonAndNumbersOutOfRangeAreNamedByLine) {
  const std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
  EXPECT_EQ(error("a.jsonl", "{\"text\": " + deep + "}\n{\"text\": 1e999}\n"), "a.jsonl:1: nests deeper than 200 levels; a.jsonl:2: a number is out of range");
}

TEST_F(TableTest, RowsWithTokenIdsNeedNoText) {
  const auto rows = read("a.jsonl", "{\"input_ids\": [1, 2]}\n", {"auto", "auto", {"text"}});
  EXPECT_EQ(dump(rows), R"([{"input_ids":[1,2]}])");
}

TEST_F(TableTest, OnlyLineFeedsEndALine) {
  const std::string odd =
      "a\xC2\x85"
      "b\xE2\x80\xA8"
      "c\x0B"
      "d\re";
  EXPECT_EQ(read("a.txt", odd + "\n\nf\r\n").size(), 3u);
  EXPECT_EQ(read("a.txt", odd)[0].fields["text"], odd);
  EXPECT_EQ(read("a.tsv", odd + "\tx\n").size(), 1u);
  EXPECT_EQ(read("a.jsonl", "{\"a\": \"b\xC2\x85\xE2\x80\xA8\"}\n").size(), 1u);
}

TEST_F(TableTest, UnreadableFilesAreErrors) {
  EXPECT_CONTAINS(error("a.tsv", ""), "a.tsv has no rows");
  EXPECT_CONTAINS(error("a.tsv", "\n \n"), "a.tsv has no rows");
  EXPECT_CONTAINS(error("a.tsv", "text\n", {"auto", "yes", {}}), "a.tsv has no rows");
  EXPECT_CONTAINS(error("a.tsv", "a\n\xFF\nb\n\xC3\n"), "a.tsv:2: not valid UTF-8");
  EXPECT_CONTAINS(error("a.tsv", "a\n\xFF\nb\n\xC3\n"), "a.tsv:4: not valid UTF-8");
  EXPECT_CONTAINS(error("a.tsv", std::string("a\nb\0c\n", 6)), "a.tsv:2: a NUL byte");
  EXPECT_CONTAINS(error("a.csv", "a,b\nc,\"d\ne\n"), "a.csv:2: a quote is opened and never closed");
  EXPECT_CONTAINS(error("a.csv", "a,\"b\"c\n"), "a.csv:1: text after the closing quote");
  EXPECT_CONTAINS(error("a.parquet", "a"), "the extension '.parquet' does not tell the format");
  EXPECT_CONTAINS(error("a.tsv", "a", {"csw", "auto", {}}), "found 'csw' (did you mean 'csv'?)");
  EXPECT_CONTAINS(error("a.jsonl", "{}", {"auto", "yes", {}}), "applies to TSV and CSV only");
  EXPECT_CONTAINS(error("a.tsv", "a", {"auto", "maybe", {}}), "expected one of auto, yes, no, found 'maybe'");
  EXPECT_THROW(read_table(folder_ / "missing.tsv", {}), Error);
  EXPECT_THROW(read_table(folder_.path(), {"tsv", "auto", {}}), Error);
  EXPECT_THROW(read_table("/dev/zero", {"text", "auto", {}}), Error);
}

TEST_F(TableTest, AMillionColumnsAreRefused) {
  EXPECT_CONTAINS(error("a.tsv", std::string(1000000, '\t')), "a.tsv:1: more than 10000 columns");
}

}  // namespace
}  // namespace deeplora
