// Oracle: the files' own formats, entry by entry, and the message of every mistake.
#include "ratings/ratings_reader.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <sstream>

#include "support/temp_folder.h"

namespace deeplora {
namespace {
namespace fs = std::filesystem;

class RatingsReaderTest : public ::testing::Test {
 protected:
  fs::path write(const std::string& name, const std::string& content) const { return folder_.write(name, content); }
  Ratings read(const std::string& name, const std::string& content, const RatingsFormat& format = {}) const {
    return read_ratings(write(name, content), format);
  }
  /// "row,col,value[@time] ..." in the order of the file.
  static std::string entries(const Ratings& r) {
    std::ostringstream out;
    for (size_t i = 0; i < r.value.size(); ++i) {
      out << (i ? " " : "") << r.rows.name(r.row[i]) << "," << r.cols.name(r.col[i]) << "," << r.value[i];
      if (!r.time.empty()) out << "@" << static_cast<int64_t>(r.time[i]);
    }
    return out.str();
  }
  std::string text(const std::string& content, const RatingsFormat& format = {},
                   const std::string& name = "r.csv") const {
    return entries(read(name, content, format));
  }
  std::string error(const std::string& name, const std::string& content, const RatingsFormat& format = {}) const {
    try {
      read(name, content, format);
    } catch (const Error& e) {
      return folder_.without_path(e.what());
    }
    return "no error";
  }
  const testing::TempFolder folder_;
};

template <class T>
std::string npy(const std::string& descr, const std::string& shape, const std::vector<T>& values,
                bool fortran = false) {
  std::string header =
      "{'descr': '" + descr + "', 'fortran_order': " + (fortran ? "True" : "False") + ", 'shape': " + shape + ", }";
  header.append(63 - (header.size() + 10) % 64, ' ');
  header += '\n';
  std::string out("\x93NUMPY\x01\x00", 8);
  out += static_cast<char>(header.size());
  out += static_cast<char>(header.size() >> 8);
  out += header;
  out.append(reinterpret_cast<const char*>(values.data()), values.size() * sizeof(T));
  return out;
}

TEST_F(RatingsReaderTest, ReadsMovieLensFilesAsTheyCome) {
  EXPECT_EQ(text("userId,movieId,rating,timestamp\n1,31,2.5,1260759144\n1,1029,3.0,1260759179\n7,31,4,851866703\n"),
            "1,31,2.5@1260759144 1,1029,3@1260759179 7,31,4@851866703");
  EXPECT_EQ(text("196\t242\t3\t881250949\n186\t302\t3\t891717742\n", {}, "u.data"),
            "196,242,3@881250949 186,302,3@891717742");
  EXPECT_EQ(text("1::1193::5::978300760\r\n1::661::3::978302109\r\n", {}, "ratings.dat"),
            "1,1193,5@978300760 1,661,3@978302109");
  write("ratings.dat", "1::2::3::4\n");
  EXPECT_EQ(entries(read_ratings(folder_.path(), {})), "1,2,3@4");
}

TEST_F(RatingsReaderTest, ReadsAnyDelimitedTriplets) {
  EXPECT_EQ(text("ann,tea,1\nbob,coffee,2.5\nann,coffee,+3\n"), "ann,tea,1 bob,coffee,2.5 ann,coffee,3");
  EXPECT_EQ(text("0 1 4.5\n  2   1\t3e0\n\n", {}, "m.coo"), "0,1,4.5 2,1,3");
  EXPECT_EQ(
      text("\"User-ID\";\"ISBN\";\"Book-Rating\"\n\"276725\";\"034545104X\";\"0\"\n\"a;b\";\"say \"\"x\"\"\";\"7\"\n"),
      "276725,034545104X,0 a;b,say \"x\",7");
  EXPECT_EQ(text("rating,item,user\n5,i1,u1\n"), "u1,i1,5");
  EXPECT_EQ(text("a,b,c,2005-09-06\nd,b,1,1970-01-02 00:00:01\n", {.header = "yes"}), "d,b,1@86401");
}

TEST_F(RatingsReaderTest, TakesNamedColumns) {
  const RatingsFormat named{.row = "critic", .col = "film", .value = "stars", .time = "seen"};
  EXPECT_EQ(text("film,seen,note,critic,stars\nHeat,12,good,Kim,5\n", named), "Kim,Heat,5@12");
  EXPECT_EQ(read("r.csv", "film,seen,note,critic,stars\nHeat,12,good,Kim,5\n", named).remarks.size(), 1U);
  EXPECT_EQ(text("5,x,y\n", {.header = "no", .row = "1", .col = "2", .value = "0"}), "x,y,5");
}

TEST_F(RatingsReaderTest, LeavesOutAndSaysMissingRatings) {
  const Ratings r = read("r.csv", "u,i,r\na,b,nan\nc,b,2\nc,d,\nc,e,NA\n");
  EXPECT_EQ(entries(r), "c,b,2");
  ASSERT_EQ(r.remarks.size(), 1U);
  EXPECT_NE(r.remarks[0].find("3 ratings are NaN or blank and were left out (first at line 2)"), std::string::npos)
      << r.remarks[0];
}

TEST_F(RatingsReaderTest, ReadsDenseTables) {
  EXPECT_EQ(text("1,,3,4,5\n,2,NaN,na,-1\n"), "0,0,1 0,2,3 0,3,4 0,4,5 1,1,2 1,4,-1");
  EXPECT_EQ(text("name,x,y,z,w\nann,1,,,4\nbob,,2,,\n"), "ann,x,1 ann,w,4 bob,y,2");
  EXPECT_EQ(text("x,y,z,w\nann,1,,,4\nbob,,2,,\n"), "ann,x,1 ann,w,4 bob,y,2") << "no name above the rows' names";
  EXPECT_EQ(text("1,2,3\n,5,6\n", {.format = "dense", .header = "no"}), "0,0,1 0,1,2 0,2,3 1,1,5 1,2,6");
  EXPECT_EQ(text("1\t\t3\t4\t5\n\t\t\t\t\n\t2\t\t\t\n"), "0,0,1 0,2,3 0,3,4 0,4,5 2,1,2")
      << "tabs alone are a row without ratings";
}

TEST_F(RatingsReaderTest, ReadsJesterFilesAsTheyCome) {
  std::string counted, plain;
  for (int row = 0; row < 3; ++row) {
    std::string values;
    for (int joke = 0; joke < 100; ++joke) values += joke == row ? ",-7.82" : joke == 50 ? ",9.5" : ",99";
    counted += "2" + values + "\n";
    plain += values.substr(1) + "\n";
  }
  const std::string expected = "0,0,-7.82 0,50,9.5 1,1,-7.82 1,50,9.5 2,2,-7.82 2,50,9.5";
  const Ratings with_count = read("jester-data-1.csv", counted);
  EXPECT_EQ(entries(with_count), expected);
  EXPECT_EQ(with_count.cols.size(), 100);
  EXPECT_EQ(with_count.remarks.size(), 2U);
  EXPECT_EQ(text(plain), expected);
}

TEST_F(RatingsReaderTest, ReadsMatrixMarket) {
  const Ratings r = read("a.mtx", "%%MatrixMarket matrix coordinate real general\n% words\n3 4 2\n1 4 2.5\n3 1 -1\n");
  EXPECT_EQ(entries(r), "1,4,2.5 3,1,-1");
  EXPECT_EQ(r.rows.size(), 3);
  EXPECT_EQ(r.cols.size(), 4);
  EXPECT_EQ(text("%%MatrixMarket matrix coordinate integer symmetric\n3 3 2\n2 1 5\n3 3 1\n"), "2,1,5 1,2,5 3,3,1");
  EXPECT_EQ(text("%%MatrixMarket matrix coordinate real skew-symmetric\n2 2 1\n2 1 5\n"), "2,1,5 1,2,-5");
  EXPECT_EQ(text("%%MatrixMarket matrix coordinate unsigned-integer general\n3 3 2\n2 1 5\n3 3 1\n"), "2,1,5 3,3,1")
      << "SciPy's unsigned types";
  EXPECT_EQ(text("%%MatrixMarket matrix array real general\n2 2\n1\n2\n3\nnan\n"), "1,1,1 2,1,2 1,2,3");
  EXPECT_EQ(text("%%MatrixMarket matrix array real symmetric\n2 2\n1\n2\n3\n"), "1,1,1 2,1,2 1,2,2 2,2,3");
}

TEST_F(RatingsReaderTest, ReadsNpy) {
  EXPECT_EQ(text(npy<double>("<f8", "(2, 2)", {1, NAN, 3, 4}), {}, "a.npy"), "0,0,1 1,0,3 1,1,4");
  EXPECT_EQ(text(npy<float>("<f4", "(2, 2)", {1, 2, 3, 4}, true), {}, "a.npy"), "0,0,1 0,1,3 1,0,2 1,1,4");
  EXPECT_EQ(text(npy<int64_t>("<i8", "(2, 3)", {7, 9, 5, 8, 9, 4}), {}, "a.npy"), "7,9,5 8,9,4");
  EXPECT_EQ(text(npy<int64_t>("<i8", "(1, 3)", {7, 9, 5}), {.format = "dense"}, "a.npy"), "0,0,7 0,1,9 0,2,5");
  EXPECT_EQ(text(npy<uint8_t>("|u1", "(1, 4)", {7, 9, 5, 2}), {}, "a.npy"), "7,9,5@2");
}

TEST_F(RatingsReaderTest, BrokenMatrixFilesAreErrors) {
  const auto market = [&](const std::string& rest) { return error("m.mtx", "%%MatrixMarket " + rest); };
  EXPECT_NE(market("matrix ar\"ray integer skew-symmetric\n0 3\n").find("m.mtx:1: expected"), std::string::npos);
  EXPECT_NE(market("matrix coordinate real general\n2000000000 2 1\n1 1 1\n").find("in a file of"), std::string::npos);
  const auto array = [&](const std::string& shape) { return error("a.npy", npy<double>("<f8", shape, {1, 2})); };
  EXPECT_EQ(array("(\"2\", 1)"), "no error");  // the quotes are cut off into memory of their own
  for (const char* shape : {"(1e300, 1)", "(nan, 1)", "(0.5, 4)", ")", "", "(2147483646, 2147483646)"})
    EXPECT_NE(array(shape), "no error") << shape;
}

TEST_F(RatingsReaderTest, SaysWhatIsWrongWhere) {
  const RatingsFormat any;
  const std::vector<std::tuple<std::string, std::string, RatingsFormat, std::string>> cases{
      {"r.csv", "", any, "r.csv: the file holds no ratings"},
      {"r.csv", "u,i,r\n", any, "r.csv: the file holds no ratings"},
      {"r.csv", "1,2,3\n1,2\n", any, "r.csv:2: 2 columns, expected 3 as in the first line; found '1 | 2'"},
      {"r.csv", "1,2,3\n1,4,five\n2,2,x\n", any,
       "r.csv:2: expected a number as rating, found 'five'; r.csv:3: expected a number as rating, found 'x'"},
      {"r.csv", "1,2,3\n,4,5\n", any, "r.csv:2: the row id is empty; found ' | 4 | 5'"},
      {"r.csv", "1,2,inf\n", any, "r.csv:1: the rating is infinite"},
      {"r.csv",
       "1,2,3,then\n1,2,3,now\n",
       {.time = "3"},
       "r.csv:1: expected a number or a date like 2005-09-06 as time, found 'then'; "
       "r.csv:2: expected a number or a date like 2005-09-06 as time, found 'now'"},
      {"r.csv", "1,2,3\n\"1,2,3\n", any, "r.csv:2: a quote is opened and not closed on the line"},
      {"r.csv", "1,2\n", any,
       "r.csv: a line has 2 columns, expected row, column, value; found '1 | 2' (completion.separator says where a "
       "line is cut)"},
      {"r.csv",
       "user,item,rating\na,b,1\n",
       {.value = "ratng"},
       "r.csv: no column 'ratng' (completion.columns.value) (did you mean 'rating'?); columns there: user, item, "
       "rating"},
      {"r.csv",
       "1,2,3\n",
       {.separator = "pipe"},
       "completion.separator: expected one of auto, comma, tab, semicolon, space, ::, found 'pipe'"},
      {"r.csv",
       "1,2,3\n",
       {.format = "tripletts"},
       "completion.format: expected one of auto, triplets, dense, matrix-market, npy, found 'tripletts' (did you mean "
       "'triplets'?)"},
      {"r.csv",
       "1,2,3,4,5\n1,2,x,4,5\n",
       {.header = "no"},
       "r.csv:2: column 2: expected a number or a blank, found 'x'"},
      {"r.csv", "1.5,2,,4,5\n1,2,3,4\n", any, "r.csv:2: 4 columns, expected 5 as in the first line"},
      {"r.gz", std::string("\x1f\x8b\x08\x00", 4), any,
       "r.gz: the file is compressed with gzip; unpack it first (gunzip)"},
      {"r.xlsx", std::string("PK\x03\x04", 4), any,
       "r.xlsx: the file is a ZIP archive or an .xlsx table; unpack it, or save the table as CSV"},
      {"a.mtx", "%%MatrixMarket matrix coordinate pattern general\n", any,
       "a.mtx:1: a matrix of type 'pattern' holds no ratings; expected real, integer or unsigned-integer"},
      {"a.mtx", "%%MatrixMarket matrix coordinate real general\n2 2 1\n3 1 4\n", any,
       "a.mtx:3: entry (3, 1) lies outside the 2 x 2 matrix (numbers begin at 1)"},
      {"a.mtx", "%%MatrixMarket matrix coordinate real general\n2 2 2\n1 1 4\n", any,
       "a.mtx: the header promises 2 entries, the file holds 1"},
      {"a.mtx", "%%MatrixMarket matrix array real general\n2 2\n1\n2\n", any,
       "a.mtx: the array ends before entry (1, 2) of a 2 x 2 matrix"},
      {"a.npy", "no array", any, "a.npy: not an NPY file (it does not begin with \\x93NUMPY)"},
      {"a.npy", npy<double>("<f8", "(2, 2)", {1, 2}), any,
       "a.npy: shape (2, 2) needs 32 bytes of data, the file holds 16"},
      {"a.npy", npy<double>(">f8", "(1, 1)", {1}), any,
       "a.npy: NPY dtype '>f8' is not read; expected one of <f8, <f4, <i8, <i4, <i2, |i1, <u8, <u4, <u2, |u1 (save it "
       "with array.astype('<f8'))"},
      {"a.npy", npy<double>("<f8", "(1, 3)", {0.5, 1, 2}), any,
       "a.npy: row 0: expected whole numbers as ids, found 0.5 and 1 (a dense matrix of 3 columns? set "
       "completion.format: dense)"},
  };
  for (const auto& [name, content, format, expected] : cases)
    EXPECT_EQ(error(name, content, format), expected) << name << ": " << content;
  EXPECT_THROW(read_ratings(folder_ / "absent.csv", {}), Error);
}

TEST_F(RatingsReaderTest, ReadsPairsWithOrWithoutHeader) {
  EXPECT_EQ(read_pairs(write("p.csv", "userId,movieId\n1,31\n"), {}).col, std::vector<std::string>{"31"});
  EXPECT_EQ(read_pairs(write("p.csv", "ann\ttea\nbob\ttea\n"), {}).row, (std::vector<std::string>{"ann", "bob"}));
  EXPECT_THROW(read_pairs(write("p.csv", "ann\n"), {}), Error);
}

TEST_F(RatingsReaderTest, TakesNamesThatAreNumbersForNamesUnderACorner) {
  const std::string body = "1,4,,3,5\n2,,2,,1\n7,3,,,2\n";
  const std::string expected = "1,10,4 1,30,3 1,40,5 2,20,2 2,40,1 7,10,3 7,40,2";
  for (const char* corner : {"userId", "reader", ""})
    EXPECT_EQ(text(cat(corner, ",10,20,30,40\n", body)), expected) << corner;
  EXPECT_EQ(text(cat("userId,i1,i2,i3,i4\n", body)), "1,i1,4 1,i3,3 1,i4,5 2,i2,2 2,i4,1 7,i1,3 7,i4,2");
  EXPECT_EQ(text(cat("10,20,30,40\n", body)), expected) << "R's write.table";
  EXPECT_EQ(text("userId,10,11\n1,4,3\n2,,5\n"), "1,10,4 1,11,3 2,11,5")
      << "two columns are no triplets under such names";
  EXPECT_EQ(text("userId,10,11\nann,4,3\nbob,,5\n"), "ann,10,4 ann,11,3 bob,11,5");
  EXPECT_NE(
      read("r.csv", cat("userId,10,20,30,40\n", body))
          .remarks.at(0)
          .find("read as a dense table of 3 rows, named by the first column, and 4 columns, named by the first line"),
      std::string::npos);
  // Floating-point names, as pandas has them beside blanks.
  EXPECT_EQ(text(cat("userId,10.0,20.0,30.0,40.0\n", body)),
            "1,10.0,4 1,30.0,3 1,40.0,5 2,20.0,2 2,40.0,1 7,10.0,3 7,40.0,2");
}

TEST_F(RatingsReaderTest, RefusesWhatCouldBeReadInTwoWaysAndNamesTheWayOut) {
  const auto refused = [&](const std::string& content, const std::string& key) {
    EXPECT_NE(error("r.csv", content).find("; set completion." + key), std::string::npos)
        << content << error("r.csv", content);
  };
  refused("10,11,12,13,14\n4,,3,5,1\n2,1,,,3\n", "header: yes or no");       // to_csv(index=False)
  refused("1,4,,3,5\n2,,2,,1\n3,,1,2,\n7,3,,,2\n", "row_names: yes or no");  // to_csv(header=False)
  refused("reader,a,b,c,d\n1,4,,3,5\n2,,2,,1\n7,3,,,2\n", "row_names: yes or no");
  refused(",1,2,3,4\n5,4,3,2,\n5,3,,1,\n", "header: yes or no");
  refused("customer_no,article_no,points,store,week\n4,7,3,1,12\n4,9,5,1,13\n6,7,2,,13\n", "format: triplets");
  refused("customer,article,points,store,city\n4,7,3,1,Rome\n4,9,5,1,Oslo\n", "format: triplets");
  refused("userId,article,points,store,week\n4,7,3,1,12\n4,9,5,,13\n6,7,2,1,13\n", "format: triplets");
  refused("1,31,2.5,1260759144,7\n1,32,3,1260759145,7\n2,31,4,1260759146,7\n", "format: triplets");
  refused("reader,tea,milk\nann,4,5\nbob,3,1\n", "format: triplets");
  refused("4.5,3,2\n1,2.5,3\n", "format: triplets");
  refused("7;8;3,5;9,1\n7;9;4,5;9,2\n", "separator");
  EXPECT_NE(error("r.csv", "7;8;3,5\n7;9;4,5\n").find("(a decimal comma; write a point)"), std::string::npos);
  // And the ways out.
  const std::string five = "customer_no,article_no,points,store,week\n4,7,3,1,12\n4,9,5,1,13\n";
  EXPECT_EQ(text(five, {.format = "triplets"}), "4,7,3 4,9,5");
  EXPECT_EQ(text(five, {.format = "dense"}),
            "0,customer_no,4 0,article_no,7 0,points,3 0,store,1 0,week,12 1,customer_no,4 1,article_no,9 1,points,5 "
            "1,store,1 1,week,13");
  EXPECT_EQ(text("10,11,12\n4,,3\n", {.format = "dense", .header = "yes"}), "0,10,4 0,12,3");
  EXPECT_EQ(text("10,11,12\n4,,3\n", {.format = "dense", .header = "no", .row_names = "yes"}), "10,0,11 10,1,12 4,1,3");
  EXPECT_EQ(text("1,4,,3,5\n2,,2,,1\n", {.row_names = "no"}).substr(0, 11), "0,0,1 0,1,4");
}

TEST_F(RatingsReaderTest, CutsAllLinesAtOneSeparator) {
  EXPECT_EQ(text("a;b,x,3\nc,y;1,4\nd,z,5\n"), "a;b,x,3 c,y;1,4 d,z,5");
  EXPECT_EQ(text("ann::1,tea,3\nbob,milk::2,4\n"), "ann::1,tea,3 bob,milk::2,4");
  EXPECT_EQ(text("\"a;b\",\"x::y\",3\n\"c;d\",\"z\",4\n"), "a;b,x::y,3 c;d,z,4");
  EXPECT_EQ(text("Smith, Ann;tea;3\nDoe, Jo;milk, hot;4\n"), "Smith, Ann,tea,3 Doe, Jo,milk, hot,4");
  EXPECT_EQ(text("a,b x 3\nc y 4\n"), "a,b,x,3 c,y,4") << "spaces, where commas stand in an id alone";
  EXPECT_EQ(text("ann, tea, 3\nbob, milk, 4\n"), "ann,tea,3 bob,milk,4");
  EXPECT_EQ(error("t.tsv", "\"a\"\t\"x\"\t3\n\t\"x\"\t3\n"), "t.tsv:2: the row id is empty; found ' | x | 3'");
  EXPECT_EQ(text("\"a b\" \"c\"\t3\n"), "a b,c,3");
}

TEST_F(RatingsReaderTest, EqualNumbersAreOneId) {
  const Ratings r = read("r.csv", "user,item,rating\n1,7.50,3\n1.0,7.5,4\n01,x,5\n-0.0,1e3,2\n0,1000,1\n");
  EXPECT_EQ(r.rows.names(), (std::vector<std::string>{"1", "01", "-0.0"}));
  EXPECT_EQ(r.cols.names(), (std::vector<std::string>{"7.50", "x", "1e3", "1000"}));
  EXPECT_EQ(r.row, (std::vector<int32_t>{0, 0, 1, 2, 2}));
  EXPECT_EQ(r.remarks.size(), 2U);
  EXPECT_EQ(error("r.csv", "u,1,1.0,2,3\na,1,,3,4\nb,,,,1\n", {.format = "dense"}),
            "r.csv:1: two columns are called '1.0'");
}

TEST_F(RatingsReaderTest, ReadsTimesOfAllZones) {
  const auto time = [&](const std::string& at) { return text("a,b,1," + at + "\n"); };
  EXPECT_EQ(time("1970-01-02T00:00:01Z"), "a,b,1@86401");
  EXPECT_EQ(time("1970-01-02T02:00:01+02:00"), "a,b,1@86401");
  EXPECT_EQ(time("1970-01-01 18:30:01.75 -0530"), "a,b,1@86401");
  EXPECT_EQ(time("1970-01-02 01:00+01"), "a,b,1@86400");
  for (const char* bad : {"1970-01-02 25:00:00", "1970-01-02 00:00:01x", "1970-01-02 00:00:01+99:00",
                          "1970-01-02 00:00:01.", "1970-01-02 12"})
    EXPECT_NE(error("r.csv", cat("a,b,1,5\na,c,1,", bad, "\n"), {.time = "3"}).find("expected a number or a date"),
              std::string::npos)
        << bad;
}

TEST_F(RatingsReaderTest, ReadsOtherEncodingsByName) {
  const std::string latin = "Andr\xe9,caf\xe9,4\nBj\xf6rn,th\xe9,5\n";
  const std::string refused = error("r.csv", latin);
  EXPECT_EQ(refused.find("r.csv:1: not valid UTF-8"), 0U) << refused;
  EXPECT_NE(refused.find("(completion.encoding: cp1252)"), std::string::npos) << refused;
  EXPECT_EQ(text(latin, {.encoding = "latin-1"}), "Andr\xc3\xa9,caf\xc3\xa9,4 Bj\xc3\xb6rn,th\xc3\xa9,5");
  EXPECT_EQ(text("a,\x80 5,1\n", {.encoding = "cp1252"}), "a,\xe2\x82\xac 5,1");
  EXPECT_EQ(text("\xef\xbb\xbf"
                 "a,caf\xc3\xa9,1\n",
                 {.encoding = "latin-1"}),
            "a,caf\xc3\xa9,1")
      << "the mark says UTF-8";
  EXPECT_EQ(text(std::string("\xff\xfe"
                             "a\0,\0b\0,\0"
                             "1\0\n\0",
                             14)),
            "a,b,1")
      << "the mark says UTF-16";
}

TEST_F(RatingsReaderTest, TakesOfFourColumnsNoneTwice) {
  EXPECT_EQ(text(",userId,movieId,rating\n0,1,31,2.5\n1,1,32,3\n2,4,31,5\n"), "1,31,2.5 1,32,3 4,31,5")
      << "pandas' index, and no time";
}

TEST_F(RatingsReaderTest, TellsPairsFromUnusualNames) {
  IdIndex rows, cols;
  for (const char* id : {"c1", "c2", "3"}) rows.add(id);
  for (const char* id : {"a1", "a2", "4"}) cols.add(id);
  const KnownIds trained{&rows, &cols, "customer_no", "article_no"}, nameless{&rows, &cols, "", ""};
  const auto rows_of = [&](const std::string& content, const KnownIds& known, const RatingsFormat& format = {}) {
    return join(read_pairs(write("p.csv", content), format, known).row, " ");
  };
  EXPECT_EQ(rows_of("article_no,customer_no\na1,c1\n", trained), "c1");
  EXPECT_EQ(rows_of("buyer,thing\n3,4\n9,4\n", nameless), "3 9") << "texts over numbers";
  EXPECT_EQ(rows_of("c1,new\nc2,a2\n", nameless), "c1 c2");
  EXPECT_EQ(rows_of("new,new\nc2,other\n", nameless), "new c2");
  EXPECT_THROW(rows_of("buyer,thing\nc1,a1\nc2,a1\n", nameless), Error);
  EXPECT_EQ(rows_of("buyer,thing\nc1,a1\n", nameless, {.header = "yes"}), "c1");
  EXPECT_EQ(rows_of("buyer,thing\nc1,a1\n", nameless, {.header = "no"}), "buyer c1");
}

TEST_F(RatingsReaderTest, ReadsTitles) {
  using Titles = std::vector<std::pair<std::string, std::string>>;
  EXPECT_EQ(read_titles(write("m.csv", "movieId,title,genres\n1,\"Heat, The\",Drama|Crime\n2,Up,\n"), {}),
            (Titles{{"1", "Heat, The"}, {"2", "Up"}}));
  EXPECT_EQ(read_titles(write("m.dat", "1::Heat, The (1995)::Drama\n2::Up; Down::Fun\n"), {}),
            (Titles{{"1", "Heat, The (1995)"}, {"2", "Up; Down"}}));
  EXPECT_THROW(read_titles(write("m.csv", "1,Heat\n2\n"), {}), Error);
}

TEST_F(RatingsReaderTest, MergesDuplicatesByTheDeclaredRule) {
  const std::string twice = "a,x,1,10\nb,x,5,1\na,x,3,30\na,x,2,20\n";
  const auto merged = [&](Duplicates rule) {
    Ratings r = read("r.csv", twice);
    merge_duplicates(r, rule, "train");
    EXPECT_EQ(r.remarks.size(), 1U);
    EXPECT_NE(
        r.remarks.at(0).find("1 pairs of row and column are rated more than once (2 surplus ratings), e.g. (a, x)"),
        std::string::npos)
        << r.remarks[0];
    return entries(r);
  };
  EXPECT_EQ(merged(Duplicates::last), "a,x,3@30 b,x,5@1") << "the newest, which is not the one that stands last";
  EXPECT_EQ(merged(Duplicates::mean), "a,x,2@30 b,x,5@1");
  Ratings r = read("r.csv", twice);
  EXPECT_THROW(merge_duplicates(r, Duplicates::error, "train"), Error);
}

TEST_F(RatingsReaderTest, AppliesTheDeclaredRange) {
  const auto applied = [&](OutOfRange rule) {
    Ratings r = read("r.csv", "a,x,1\na,y,7\n");
    apply_range(r, 1, 5, rule, "train");
    EXPECT_EQ(r.remarks.size(), 1U);
    return entries(r);
  };
  EXPECT_EQ(applied(OutOfRange::clip), "a,x,1 a,y,5");
  EXPECT_EQ(applied(OutOfRange::drop), "a,x,1");
  EXPECT_THROW(applied(OutOfRange::error), Error);
}

TEST_F(RatingsReaderTest, SaysWhichIdsAreUnknown) {
  const Ratings train = read("r.csv", "a,x,1\nb,y,2\n");
  Ratings test = read("t.csv", "b,x,1\nc,y,2\nb,z,3\n");
  align(test, train.rows, train.cols, "test");
  EXPECT_EQ(test.row, (std::vector<int32_t>{1, -1, 1}));
  EXPECT_EQ(test.col, (std::vector<int32_t>{0, 1, -1}));
  ASSERT_EQ(test.remarks.size(), 2U);
  EXPECT_NE(test.remarks[0].find("1 entries of 1 rows that were not trained on (c)"), std::string::npos)
      << test.remarks[0];
}

TEST_F(RatingsReaderTest, UnitesPartsAndCountsWhatTheyShare) {
  const Ratings train = read("r.csv", "a,x,1\nb,y,2\n");
  const Ratings more = read("t.csv", "c,x,5\na,x,4\nb,z,3\n");
  const Ratings all = united(train, more);
  EXPECT_EQ(entries(all), "a,x,1 b,y,2 c,x,5 a,x,4 b,z,3");
  EXPECT_EQ(all.rows.names(), (std::vector<std::string>{"a", "b", "c"}));
  Ratings aligned = more;
  align(aligned, train.rows, train.cols, "test");
  EXPECT_EQ(overlap_of(train, aligned), 1);
}

TEST(IdIndex, KeepsManyNamesApart) {
  IdIndex ids;
  for (int i = 0; i < 5000; ++i) EXPECT_EQ(ids.add("id" + std::to_string(i * 7)), i);
  for (int i = 0; i < 5000; ++i) EXPECT_EQ(ids.find("id" + std::to_string(i * 7)), i);
  EXPECT_EQ(ids.find("id1"), -1);
  EXPECT_EQ(ids.add("id7"), 1);
}

}  // namespace
}  // namespace deeplora
