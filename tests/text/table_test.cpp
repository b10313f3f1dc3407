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
  std::vector<Row> read(const std::string& name, const std::string& content, const TableOptions& options = {}) const {
    return read_table(write(name, content), options).rows;
  }
  /// The message of the error, without the path of the folder.
  std::string error(const std::string& name, const std::string& content, const TableOptions& options = {}) const {
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
  EXPECT_EQ(dump(read("a.csv", "aaa,\"b \r\nbb\",ccc\r\nzzz,yyy,\"b\"\"bb\"\r\n,\"\",x y", options)),
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
  EXPECT_EQ(dump(read("a.tsv", content, {"auto", "auto", {"label"}})), R"([{"sentence":"good","label":"1"}])");
  EXPECT_EQ(read("a.tsv", content, {"auto", "no", {"0"}}).size(), 2u);
  EXPECT_EQ(dump(read("a.tsv", content, {"auto", "yes", {"1"}})), R"([{"sentence":"good","label":"1","1":"1"}])");
}

TEST_F(TableTest, MissingColumnsAreListedTogetherWithWhatIsThere) {
  const std::string message =
      error("a.tsv", "sentence\tlabel\ngood\t1\n", {"auto", "auto", {"sentense", "label", "7"}});
  EXPECT_CONTAINS(message,
                  "a.tsv: no column 'sentense' (did you mean 'sentence'?), '7'; columns there: sentence, label");
  const std::string headless = error("a.tsv", "good\t1\n", {"auto", "auto", {"text"}});
  EXPECT_CONTAINS(headless, "no column 'text'; columns there: 0, 1 (no header; the first line is good | 1)");
  EXPECT_CONTAINS(error("a.tsv", "a;b\n", {"auto", "auto", {"text"}}), "the line holds ;: set data.separator");
  EXPECT_CONTAINS(error("a.tsv", "x\tx\n1\t2\n", {"auto", "auto", {"x"}}), "a.tsv:1: two columns are called 'x'");
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
  const std::string message =
      error("a.jsonl", "{\"a\": 1}\n{\"a\": }\n[1]\n{\"a\": \"\\ud800\"}\n{\"b\": 1}\n", {"auto", "auto", {"a"}});
  EXPECT_CONTAINS(message, "a.jsonl:2: not valid JSON at byte 7");
  EXPECT_CONTAINS(message, "a.jsonl:3: expected a JSON object {...} for every row, found array");
  EXPECT_CONTAINS(message, "a.jsonl:4: not valid JSON");
  EXPECT_CONTAINS(message, "a.jsonl:5: no field 'a' (did you mean 'b'?); fields there: b");
}

TEST_F(TableTest, DeepJsonAndNumbersOutOfRangeAreNamedByLine) {
  const std::string deep = std::string(1000000, '[') + std::string(1000000, ']');
  EXPECT_EQ(error("a.jsonl", "{\"text\": " + deep + "}\n{\"text\": 1e999}\n"),
            "a.jsonl:1: nests deeper than 200 levels; a.jsonl:2: a number is out of range");
}

TEST_F(TableTest, RowsWithTokenIdsNeedNoText) {
  const auto rows = read("a.jsonl", "{\"input_ids\": [1, 2]}\n", {"auto", "auto", {"text"}});
  EXPECT_EQ(dump(rows), R"([{"input_ids":[1,2]}])");
}

TEST_F(TableTest, OnlyLineFeedsEndALineWhereThereAreAny) {
  const std::string odd =
      "a\xC2\x85"
      "b\xE2\x80\xA8"
      "c\x0B"
      "d\re";
  EXPECT_EQ(read("a.txt", odd + "\n\nf\r\n").size(), 3u);
  EXPECT_EQ(read("a.txt", odd + "\n")[0].fields["text"], odd);
  EXPECT_EQ(read("a.txt", "a\rb\r\rc").size(), 4u);
  EXPECT_EQ(dump(read("a.csv", "text,n\ra,1\r\"b\nc\",2\r", {"auto", "auto", {"text"}})),
            R"([{"text":"a","n":"1"},{"text":"b\nc","n":"2"}])");
  EXPECT_EQ(dump(read("a.tsv", "text\tn\ra\t1\r", {"auto", "auto", {"text"}})), R"([{"text":"a","n":"1"}])");
  EXPECT_EQ(read("a.tsv", odd + "\tx\n").size(), 1u);
  EXPECT_EQ(read("a.jsonl", "{\"a\": \"b\xC2\x85\xE2\x80\xA8\"}\n").size(), 1u);
}

TEST_F(TableTest, UnreadableFilesAreErrors) {
  EXPECT_CONTAINS(error("a.tsv", ""), "a.tsv has no rows");
  EXPECT_CONTAINS(error("a.tsv", "\n \n"), "a.tsv has no rows");
  EXPECT_CONTAINS(error("a.tsv", "text\n", {"auto", "yes", {}}), "a.tsv has no rows");
  EXPECT_CONTAINS(
      error("a.tsv", "a\n\xFF\nb\n\xC3\n"),
      "a.tsv:2: not valid UTF-8 (2 rows, the last a.tsv:4); as cp1252 it could be read (data.encoding: cp1252)");
  EXPECT_CONTAINS(error("a.tsv", "a\n\x81\n"), "as latin-1 it could be read (data.encoding: latin-1)");
  EXPECT_CONTAINS(error("a.tsv", std::string("a\0b\0\n\0", 6)),
                  "a.tsv:1: a NUL byte; expected text (as UTF-16 it could be read: data.encoding: utf-16)");
  EXPECT_CONTAINS(error("a.tsv", std::string("a\nb\0c\n", 6)), "a.tsv:2: a NUL byte");
  EXPECT_CONTAINS(error("a.csv", "a,b\nc,\"d\ne\n"), "a.csv:2: a quote is opened and never closed");
  EXPECT_CONTAINS(error("a.csv", "a,\"b\"c\n"), "a.csv:1: text after the closing quote");
  EXPECT_CONTAINS(error("a.parquet", "PAR1"),
                  "set data.format to one of jsonl, json, tsv, csv, conll, text: neither its extension '.parquet' nor "
                  "its content tells");
  EXPECT_CONTAINS(error("a.tsv", "a", {"csw", "auto", {}}), "found 'csw' (did you mean 'csv'?)");
  EXPECT_CONTAINS(error("a.jsonl", "{}", {"auto", "yes", {}}), "applies to TSV and CSV only");
  EXPECT_CONTAINS(error("a.tsv", "a", {"auto", "maybe", {}}),
                  "expected one of auto, yes, no, true, false, found 'maybe'");
  EXPECT_THROW(read_table(folder_ / "missing.tsv", {}), Error);
  EXPECT_THROW(read_table(folder_.path(), {"tsv", "auto", {}}), Error);
  EXPECT_THROW(read_table("/dev/zero", {"text", "auto", {}}), Error);
}

// Columns by number: a header must not become a row, and what may be either is asked for.
TEST_F(TableTest, AHeaderIsSeenByWhatStandsBelowIt) {
  const TableOptions by_number{"auto", "auto", {"1", "2"}};
  const std::string plain = "id,class name,words\n1,b,yes it is\n2,a,no it is not\n3,a,well then\n4,b,oh no\n";
  EXPECT_EQ(dump(read("a.csv", plain, by_number)).find("class name\":\"class name"), std::string::npos);
  EXPECT_EQ(read("a.csv", plain, by_number).size(), 4u);                               // "id" above numbers
  EXPECT_EQ(read("a.csv", "text,kind\na b,x\n", {"auto", "auto", {"0"}}).size(), 1u);  // a usual name
  EXPECT_EQ(read("a.csv", "gj04,1,,it is\ngj04,0,*,it are\n", {"auto", "auto", {"1", "3"}}).size(), 2u);
  EXPECT_EQ(read("a.csv", "b,yes it is\na,no it is not\nb,well then\na,oh no\n", {"auto", "auto", {"0"}}).size(), 4u);
  const std::string either = "kind,phrase\nb,yes it is\na,no it is not\nb,well then\na,oh no\n";
  EXPECT_CONTAINS(
      error("a.csv", either, {"auto", "auto", {"0"}}),
      "a.csv:1: set data.header: true or false: the first line (kind | phrase) may be one of column names or a row");
  EXPECT_EQ(read("a.csv", either, {"auto", "true", {"0"}}).size(), 4u);
  EXPECT_EQ(read("a.csv", either, {"auto", "false", {"0"}}).size(), 5u);
}

TEST_F(TableTest, SeparatorsAreToldByTheContent) {
  const TableOptions wanted{"auto", "auto", {"text", "label"}};
  const std::string expected = R"([{"text":"a, b","label":"c;d"}])";
  EXPECT_EQ(dump(read("a.csv", "text;label\na, b;\"c;d\"\n", wanted)), expected);
  EXPECT_EQ(dump(read("a.csv", "text|label\na, b|c;d\n", wanted)), expected);
  EXPECT_EQ(dump(read("a.csv", "text\tlabel\na, b\tc;d\n", wanted)), expected);
  EXPECT_EQ(dump(read("a.csv", "sep=;\r\ntext;label\r\na, b;\"c;d\"\r\n", wanted)), expected);
  TableOptions open{"auto", "no", {}};
  EXPECT_EQ(dump(read("a.csv", "a;b\nc;d\n", open)), R"([{"0":"a","1":"b"},{"0":"c","1":"d"}])");
  EXPECT_CONTAINS(error("a.csv", "a;b,c\nd;e,f\n", open),
                  "a.csv: set data.separator to one of ,, ;: the rows can be told apart by each of them");
  open.separator = "semicolon";
  EXPECT_EQ(dump(read("a.csv", "a;b,c\nd;e,f\n", open)), R"([{"0":"a","1":"b,c"},{"0":"d","1":"e,f"}])");
  EXPECT_CONTAINS(error("a.csv", "sep=,\na,b\n", open), "a.csv:1: the file says sep=,, but data.separator is ;");
  open.separator = "x";
  EXPECT_CONTAINS(error("a.csv", "a", open), "data.separator: expected auto, comma");
}

TEST_F(TableTest, QuotesOfATsvCountWhereTheyBalance) {
  TableOptions options{"auto", "auto", {"text"}};
  EXPECT_EQ(dump(read("a.tsv", "text\tn\n\"a \"\"b\"\"\"\t1\nc\t2\n", options)),
            R"([{"text":"a \"b\"","n":"1"},{"text":"c","n":"2"}])");
  const std::string glue = "text\tn\n\"a\" b\t1\n\"c\"\t2\n";
  EXPECT_EQ(dump(read("a.tsv", glue, options)), R"([{"text":"\"a\" b","n":"1"},{"text":"\"c\"","n":"2"}])");
  options.quoting = "double";
  EXPECT_CONTAINS(error("a.tsv", glue, options),
                  "a.tsv:2: text after the closing quote of a field; write \"\" for a quote inside a field, or set "
                  "data.quoting: none");
  options.quoting = "none";
  EXPECT_EQ(dump(read("a.csv", "text,n\n\"a,1\n", options)), R"([{"text":"\"a","n":"1"}])");
}

TEST_F(TableTest, FormatsAreToldByTheContentWhereTheExtensionDoesNot) {
  const TableOptions wanted{"auto", "auto", {"text"}};
  EXPECT_EQ(read_table(write("a.data", " {\"text\": \"a\"}\n"), wanted).format, "jsonl");
  EXPECT_EQ(read_table(write("a.data", "[\n {\"text\": \"a\"}]"), wanted).format, "json");
  EXPECT_EQ(read_table(write("a", "text;n\na;1\n"), wanted).format, "csv");
  EXPECT_EQ(read_table(write("a", "n\ttext\n1\ta\n"), wanted).format, "tsv");
  EXPECT_EQ(read_table(write("a", "one, two\nthree\n"), wanted).format, "text");
  EXPECT_EQ(read_table(write("a.txt", "n\ttext\n1\ta\n"), {"auto", "auto", {"text", "n"}}).format, "tsv");
}

TEST_F(TableTest, AJsonListIsReadRowByRow) {
  const TableOptions wanted{"auto", "auto", {"a"}};
  const auto rows = read("a.json", "[\n  {\"a\": \"], \\\"\"},\n  {\"b\": [1, {}],\n   \"a\": 2}\n]\n", wanted);
  EXPECT_EQ(dump(rows), R"([{"a":"], \""},{"b":[1,{}],"a":2}])");
  EXPECT_EQ(rows[1].source, (folder_ / "a.json").string() + ":3");
  EXPECT_EQ(dump(read("a.json", "{\n\"a\": 1\n}\n", wanted)), R"([{"a":1}])");
  EXPECT_CONTAINS(error("a.json", "[{\"a\": 1},\n {\"a\": }, 3]", wanted), "a.json:2: not valid JSON at byte 7");
  EXPECT_CONTAINS(error("a.json", "[{\"a\": 1},\n {\"a\": }, 3]", wanted),
                  "a.json:2: expected a JSON object {...} for every row, found number");
  EXPECT_CONTAINS(error("a.json", "[{\"a\": 1}\n", wanted), "a.json:2: the list of rows is never closed");
  EXPECT_CONTAINS(error("a.json", "[{\"a\": 1}] x", wanted), "a.json:1: text behind the list of rows");
  EXPECT_CONTAINS(error("a.json", "[]", wanted), "a.json has no rows");
}

TEST_F(TableTest, OneMistakeInManyRowsIsSaidOnceAndItsRemedyFirst) {
  std::string rows;
  for (int i = 0; i < 50; ++i) rows += "{\"review\": \"a\", \"stars\": 2}\n";
  TableOptions options{"auto", "auto", {"text", "label"}};
  options.keys = {{"text", "data.text"}, {"label", "data.label"}};
  EXPECT_EQ(error("a.jsonl", rows, options),
            "a.jsonl:1: set data.text: ... and data.label: ...; no field 'text', 'label'; fields there: review, stars "
            "(50 rows, the last a.jsonl:50)");
  EXPECT_EQ(error("a.csv", "txt,label\na,b\n", options),
            "a.csv: set data.text: txt; no column 'text'; columns there: txt, label");
}

TEST_F(TableTest, BadRowsMayBeSkippedUpToAShare) {
  std::string rows = "text,n\n";
  for (int i = 0; i < 200; ++i) rows += i == 7 || i == 9 ? "a\n" : "a,1\n";
  TableOptions options{"auto", "auto", {"text"}};
  EXPECT_CONTAINS(error("a.csv", rows, options),
                  "a.csv:9: 1 columns, expected 2 as in line 1 (2 rows, the last a.csv:11); or leave such rows out "
                  "with data.bad_rows: skip");
  options.bad_rows = "skip";
  const Table table = read_table(write("a.csv", rows), options);
  EXPECT_EQ(table.rows.size(), 198u);
  EXPECT_EQ(table.skipped, 2u);
  EXPECT_CONTAINS(table.skipped_rows, "2 of 200 rows were skipped: ");
  EXPECT_EQ(table.summary(), "198 rows, columns text, n; separator ,; 2 skipped");
  options.bad_rows_share = 0.005;
  EXPECT_CONTAINS(error("a.csv", rows, options), "2 of 200 rows cannot be read, more than data.bad_rows_share: 0.005");
}

TEST_F(TableTest, RowsOfNoUseMayBeSkippedToo) {
  std::string rows = "text,n\n";
  for (int i = 0; i < 200; ++i) rows += i == 7 ? "a\n" : i == 9 ? ",1\n" : "a,1\n";
  TableOptions options{"auto", "auto", {"text"}};
  options.check_row = [](const Row& row) { check(row.fields["text"] != "", row.source, ": no text"); };
  options.bad_rows = "skip";
  const Table table = read_table(write("a.csv", rows), options);
  EXPECT_EQ(table.rows.size(), 198u);
  EXPECT_EQ(table.skipped, 2u);
  EXPECT_CONTAINS(table.skipped_rows, "a.csv:11: no text");
  options.bad_rows_share = 0.005;
  EXPECT_CONTAINS(error("a.csv", rows, options), "2 of 200 rows cannot be used, more than data.bad_rows_share: 0.005");
  options.bad_rows = "error";  // the task says it with its other mistakes
  EXPECT_EQ(read_table(write("b.csv", "text,n\n,1\n"), options).rows.size(), 1u);
}

TEST_F(TableTest, ColumnsMayGoByTheirPublishedNames) {
  TableOptions options{"auto", "auto", {"sentence", "label"}};
  options.aliases = {{"sentence", {"3", "#1 String"}}, {"label", {"1", "Quality"}}};
  EXPECT_EQ(dump(read("a.tsv", "Quality\t#1 String\n1\ta\n", options)),
            R"([{"Quality":"1","#1 String":"a","sentence":"a","label":"1"}])");
  EXPECT_EQ(dump(read("a.tsv", "x\t1\t\ta\n", options)),
            R"([{"0":"x","1":"1","2":"","3":"a","sentence":"a","label":"1"}])");
  EXPECT_EQ(dump(read("a.jsonl", "{\"Quality\": 0, \"sentence\": \"b\"}\n", options)),
            R"([{"Quality":0,"sentence":"b","label":0}])");
  EXPECT_CONTAINS(error("a.tsv", "label\tb\tc\td\n1\ta\tb\tc\n", options),
                  "no column 'sentence'");  // a header: no columns by number
}

TEST_F(TableTest, PublishedFilesMayHaveAnotherExtension) {
  TableOptions options{"auto", "auto", {"sentence1", "sentence2", "label"}};
  options.aliases = {{"sentence1", {"#1 String"}}, {"sentence2", {"#2 String"}}, {"label", {"Quality"}}};
  const Table table = read_table(write("train.txt",
                                       "\xEF\xBB\xBFQuality\t#1 ID\t#2 ID\t#1 String\t#2 String\r\n1\t70\t71\tHe said "
                                       "\"no\" .\t\"No , \" he said .\r\n0\t7\t8\t\"Yes\tno\r\n"),
                                 options);
  EXPECT_EQ(table.summary(), "2 rows, columns Quality, #1 ID, #2 ID, #1 String, #2 String; separator tab");
  EXPECT_EQ(table.rows[0].fields["sentence2"], "\"No , \" he said .");
  EXPECT_EQ(table.rows[1].fields["sentence1"], "\"Yes");
  EXPECT_EQ(table.rows[1].fields["label"], "0");
}

TEST_F(TableTest, EncodingsAreReadAsTold) {
  TableOptions options{"auto", "no", {}};
  options.encoding = "cp1252";
  EXPECT_EQ(dump(read("a.csv", "\x80,\xE9\n", options)), "[{\"0\":\"\xE2\x82\xAC\",\"1\":\"\xC3\xA9\"}]");
  EXPECT_CONTAINS(error("a.csv", "a\n\x81\n", options),
                  "a.csv:2: byte 0x81 is no character of cp1252; set data.encoding: latin-1");
  options.encoding = "utf-16";
  EXPECT_EQ(dump(read("a.csv", std::string("a\0\n\0\x3D\xD8\x00\xDE", 8), options)),
            "[{\"0\":\"a\"},{\"0\":\"\xF0\x9F\x98\x80\"}]");
  EXPECT_CONTAINS(error("a.csv", std::string("a\0\n\0\x3D\xD8", 6), options), "a.csv:2: not valid UTF-16");
  EXPECT_CONTAINS(error("a.csv", "abc", options), "3 bytes are no whole number of UTF-16 units");
  options.encoding = "utf-8";
  EXPECT_EQ(dump(read("a.csv", std::string("\xFE\xFF\0a", 4), options)), R"([{"0":"a"}])");
  options.encoding = "utf8";
  EXPECT_CONTAINS(
      error("a.csv", "a", options),
      "data.encoding: expected one of utf-8, latin-1, cp1252, utf-16, found 'utf8' (did you mean 'utf-8'?)");
}

TEST_F(TableTest, AMillionColumnsAreRefused) {
  EXPECT_CONTAINS(error("a.tsv", std::string(1000000, '\t')), "a.tsv:1: more than 10000 columns");
}

}  // namespace
}  // namespace deeplora
