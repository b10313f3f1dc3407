// Oracle: the files that CoNLL-2003, WNUT and Universal Dependencies publish, in small.
#include "text/conll_rows.h"

#include <gtest/gtest.h>

#include "core/error.h"
#include "support/errors.h"
#include "support/temp_folder.h"

namespace deeplora {
namespace {

using testing::error_of;

class ConllRows : public ::testing::Test {
 protected:
  std::vector<Row> read(const std::string& name, const std::string& content, TableOptions options = {}) const {
    options.wanted = {"tokens", "tags"};
    options.conll.needs_tags = true;
    return read_table(folder_.write(name, content), options).rows;
  }
  std::string refused(const std::string& content, const TableOptions& options = {}) const {
    return folder_.without_path(error_of([&] { read("a.conll", content, options); }));
  }

  const testing::TempFolder folder_;
};

std::string shown_rows(const std::vector<Row>& rows) {
  std::string out;
  for (const auto& row : rows) out += row.source.substr(row.source.rfind(':')) + row.fields.dump();
  return out;
}

TEST_F(ConllRows, DocumentsSentencesAndTheLastColumn) {
  EXPECT_EQ(shown_rows(read("a.conll",
                            "-DOCSTART- O\n\nEU NNP B-NP B-ORG\r\nrejects VBZ B-VP O\n\n\n-DOCSTART- -X- O O\n\n"
                            "Peter NNP B-NP B-PER\n")),
            R"(:3{"tokens":["EU","rejects"],"tags":["B-ORG","O"]}:9{"tokens":["Peter"],"tags":["B-PER"]})");
}

TEST_F(ConllRows, TabsMayStandBetweenAndThenBlanksArePartsOfWords) {
  EXPECT_EQ(shown_rows(read("a.iob", "New York\tB-LOC\n#1\tO\n\t \nx\tO")),
            R"(:1{"tokens":["New York","#1"],"tags":["B-LOC","O"]}:4{"tokens":["x"],"tags":["O"]})");
}

TEST_F(ConllRows, ConlluHasCommentsNamesRangesAndEmptyNodes) {
  const std::string text =
      "# global.columns = ID FORM UPOS\n# text = don't "
      "go\n1-2\tdon't\t_\n1\tdo\tAUX\n2\tn't\tPART\n2.1\tx\tX\n3\tgo\tVERB\n\n";
  TableOptions options;
  options.conll.word_column = "FORM";
  options.conll.tag_column = "UPOS";
  const std::string expected = R"(:3{"tokens":["do","n't","go"],"tags":["AUX","PART","VERB"]})";
  EXPECT_EQ(shown_rows(read("a.conllu", text, options)), expected);
  options.conll.word_column = "1";
  options.conll.tag_column = "2";
  EXPECT_EQ(shown_rows(read("a.conllu", text, options)), expected);
}

TEST_F(ConllRows, FilesOfAnotherNameAreReadSoWhereTheTaskHasSuchFiles) {
  TableOptions options;
  options.conll.usual = true;
  EXPECT_EQ(read("eng.train", "EU B-ORG\nsays O\n", options).size(), 1u);
  EXPECT_EQ(read("b.txt", "{\"tokens\": [\"a\"], \"tags\": [\"O\"]}\n", options).front().fields["tokens"].size(), 1u);
}

TEST_F(ConllRows, MistakesAreToldWithTheirLines) {
  EXPECT_EQ(refused("EU B-ORG\nrejects\n\nx O\n"),
            "a.conll:1: line 2 has 1 column, expected 2 as in line 1 (blanks between them)");
  EXPECT_EQ(refused("EU\n"), "a.conll:1: one column; expected a word and its tag, with a tab or blanks between");
  EXPECT_EQ(refused("\n\n"), "data file a.conll has no rows");
  TableOptions options;
  options.conll.tag_column = "5";
  EXPECT_EQ(refused("EU B-ORG\n", options),
            "data.label_column: 5 is beyond the 2 columns of a.conll:1; they count from 0");
  options.conll.tag_column = "ner";
  EXPECT_EQ(refused("EU B-ORG\n", options),
            "data.label_column: a.conll names no column 'ner'; give its number, from 0");
}

}  // namespace
}  // namespace deeplora
