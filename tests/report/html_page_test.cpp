// That the pages are well-formed and reach no network is checked by tests/python/test_report.py.
#include "report/html_page.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <regex>
#include <stdexcept>

#include "core/error.h"
#include "report/escape.h"
#include "report/run_report.h"
#include "report/svg_chart.h"

namespace deeplora {
namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

size_t count(const std::string& text, const std::string& what) {
  size_t found = 0;
  for (size_t at = text.find(what); at != std::string::npos; at = text.find(what, at + 1)) ++found;
  return found;
}

bool holds(const std::string& text, const std::string& what) { return text.find(what) != std::string::npos; }

/// Heights of a curve's points in the drawing, top down.
std::vector<double> curve_heights(const std::string& figure) {
  std::vector<double> out;
  const size_t start = figure.find("d='M", figure.find("class='curve"));
  const std::string path = figure.substr(start + 4, figure.find('\'', start + 4) - start - 4);
  const std::regex point(R"(([\d.]+) ([\d.]+))");
  for (auto it = std::sregex_iterator(path.begin(), path.end(), point); it != std::sregex_iterator(); ++it)
    out.push_back(std::stod((*it)[2]));
  return out;
}

LineChart line(std::vector<double> y) {
  LineChart chart{.title = "t", .x_label = "x", .y_label = "y"};
  LineSeries series;
  for (size_t i = 0; i < y.size(); ++i) series.x.push_back(static_cast<double>(i));
  series.y = std::move(y);
  chart.series = {series};
  return chart;
}

TEST(EscapeTest, MarkupBadBytesAndControlCharactersCannotPass) {
  EXPECT_EQ(escape_html("<a href='x'>\"&\"</a>"), "&lt;a href=&#39;x&#39;&gt;&quot;&amp;&quot;&lt;/a&gt;");
  EXPECT_EQ(escape_html("ä€😀\n"), "ä€😀\n");
  EXPECT_EQ(escape_html(std::string("a\xFF\xC3z\0", 5)), "a\xEF\xBF\xBD\xEF\xBF\xBDz\xEF\xBF\xBD");
}

TEST(PageTest, EveryTextIsEscaped) {
  const std::string evil = "<script>&'\"";
  Page page(evil, evil);
  page.heading(evil);
  page.paragraph(evil);
  page.highlights({{evil, evil}});
  page.key_values({{evil, evil}});
  page.table({evil}, {{evil}});
  page.code(evil, evil);
  LineChart chart = line({1, 2});
  chart.title = chart.x_label = chart.y_label = chart.series[0].name = chart.marked_name = evil;
  chart.marked_x = {1};
  page.chart(chart);
  page.chart(CategoryChart{
      .title = evil, .value_label = evil, .categories = {evil}, .series = {{.name = evil, .values = {1}}}});
  const std::string html = page.html();
  EXPECT_EQ(count(html, evil), 0u);
  EXPECT_EQ(count(html, "<script"), 0u);
  EXPECT_GE(count(html, "&lt;script&gt;&amp;&#39;&quot;"), 20u);
}

TEST(PageTest, ColumnsOfNumbersAreAlignedToTheRight) {
  Page page("t");
  page.table({"name", "score", "spread"}, {{"a", "0.5", "0.81 ± 0.02"}, {"b2", "undefined", ""}});
  const std::string html = page.html();
  EXPECT_TRUE(holds(html, "<td>a</td><td class='number'>0.5</td><td class='number'>0.81 ± 0.02</td>"));
  EXPECT_TRUE(holds(html, "<td>b2</td>"));
  EXPECT_THROW(page.table({"a", "b"}, {{"1"}}), std::invalid_argument);
}

TEST(PageTest, ChartsInARowShareOneGrid) {
  Page page("t");
  page.chart(line({1, 2}));
  page.chart(line({1, 2}));
  page.paragraph("p");
  page.chart(line({1, 2}));
  EXPECT_EQ(count(page.html(), "<div class='charts'>"), 2u);
}

TEST(LineChartTest, AConstantIsAFlatLineInTheMiddle) {
  const std::vector<double> heights = curve_heights(figure_html(line({0.3, 0.3, 0.3})));
  ASSERT_GE(heights.size(), 2u);
  for (const double height : heights) EXPECT_EQ(height, heights[0]);
  EXPECT_NEAR(heights[0], (24 + 290 - 42) / 2.0, 1);
}

TEST(LineChartTest, OnePointIsADotAndNoLine) {
  const std::string figure = figure_html(line({0.25}));
  EXPECT_EQ(count(figure, "class='dot"), 1u);
  EXPECT_EQ(count(figure, "<path"), 0u);
}

TEST(LineChartTest, UndefinedValuesLeaveAGapAndANote) {
  const std::string figure = figure_html(line({1, 2, kNan, 3, 4, std::numeric_limits<double>::infinity()}));
  EXPECT_EQ(count(figure, "class='curve"), 2u);
  EXPECT_TRUE(holds(figure, "2 values are undefined or infinite and left out."));
  EXPECT_FALSE(holds(figure, "nan"));
}

TEST(LineChartTest, WithoutAnyValueItSaysSo) {
  for (const LineChart& chart : {line({kNan, kNan}), line({}), LineChart{.title = "t"}}) {
    const std::string figure = figure_html(chart);
    EXPECT_TRUE(holds(figure, "No values to show."));
    EXPECT_FALSE(holds(figure, "<svg"));
  }
}

TEST(LineChartTest, NotPositiveValuesAreNamedOnALogarithmicAxis) {
  LineChart chart = line({1, 0.1, 0, -2});
  chart.log_y = true;
  const std::string figure = figure_html(chart);
  EXPECT_TRUE(holds(figure, "2 values are not positive and left out of the logarithmic axis."));
  EXPECT_TRUE(holds(figure, "y (logarithmic)"));
}

// Oracle: a spike of one step in 100 000 must reach the top of the drawing, and the drawing stay small.
TEST(LineChartTest, ASpikeBetweenPixelsIsNotLost) {
  std::vector<double> y(100000, 1.0);
  y[54321] = 9;
  y[54400] = -7;
  const std::string figure = figure_html(line(y));
  const std::vector<double> heights = curve_heights(figure);
  const auto [top, bottom] = std::minmax_element(heights.begin(), heights.end());
  EXPECT_LT(*top, 24 + 0.06 * (290 - 42 - 24));
  EXPECT_GT(*bottom, 290 - 42 - 0.06 * (290 - 42 - 24));
  EXPECT_LT(figure.size(), 80000u);
}

TEST(LineChartTest, BandsAreDrawnWithTheirLimitsInsideTheAxis) {
  LineChart chart = line({1, 2, 3});
  chart.series[0].low = {0, 1, 2};
  chart.series[0].high = {2, 3, 40};
  const std::string figure = figure_html(chart);
  EXPECT_EQ(count(figure, "class='band"), 1u);
  EXPECT_TRUE(holds(figure, ">40</text>")) << "the axis holds the band";
  EXPECT_TRUE(holds(figure, "(2 to 40)"));
  chart.series[0].high.pop_back();
  EXPECT_THROW(figure_html(chart), std::invalid_argument);
}

TEST(LineChartTest, SeriesDifferWithoutTheirColours) {
  LineChart chart = line({1, 2});
  for (int i = 0; i < 8; ++i) chart.series.push_back(chart.series[0]);
  const std::string figure = figure_html(chart);
  EXPECT_TRUE(holds(figure, "class='curve s0' d="));
  EXPECT_TRUE(holds(figure, "class='curve s1' stroke-dasharray='7 3'"));
  EXPECT_TRUE(holds(figure, "class='curve s2' stroke-dasharray='2 3'"));
  EXPECT_TRUE(holds(
      figure, "class='curve s0' stroke-dasharray='9 3 2 3'"));  // the eighth: the first colour again, with other dashes
  EXPECT_EQ(count(figure, "Z' class='dot s1'/>"), 2 + 1u);      // squares, one of them in the legend
}

TEST(LineChartTest, ScatteredPointsHaveNoLine) {
  LineChart chart = line({1, 3, 2, kNan});
  chart.series[0].scattered = true;
  const std::string figure = figure_html(chart);
  EXPECT_FALSE(holds(figure, "class='curve"));
  EXPECT_EQ(count(figure, "class='dot s0'/>"), 3u);
}

TEST(FigureFileTest, AFileNeedsNothingElse) {
  LineChart chart = line({1, 2});
  chart.title = "Loss & more of a title that is much too long for one line of a drawing, as some are";
  chart.series.push_back(chart.series[0]);
  chart.series[0].name = "<a>";
  chart.series[1].name = "b";
  const std::string svg = figure_svg(drawn(chart));
  EXPECT_TRUE(svg.starts_with("<svg xmlns='http://www.w3.org/2000/svg'"));
  EXPECT_FALSE(holds(svg, "var("));  // no page gives the colours
  EXPECT_TRUE(holds(svg, ".s0{color:#0072b2}"));
  EXPECT_TRUE(holds(svg, "&lt;a&gt;"));
  EXPECT_GE(count(svg, "class='title'"), 2u);
  EXPECT_TRUE(holds(figure_svg(drawn(LineChart{.title = "t"})), "No values to show."));
}

TEST(PageTest, FiguresHaveNamesOfTheirTitles) {
  Page page("t");
  for (const char* title : {"Score against rank: 64 rows", "Score against rank, 64 rows", "…"}) {
    LineChart chart = line({1, 2});
    chart.title = title;
    page.chart(chart);
  }
  ASSERT_EQ(page.figures().size(), 3u);
  EXPECT_EQ(page.figures()[0].first, "score-against-rank-64-rows");
  EXPECT_EQ(page.figures()[1].first, "score-against-rank-64-rows-2");
  EXPECT_EQ(page.figures()[2].first, "figure");
}

TEST(CategoryChartTest, BarsStartAtZeroAndRefuseALogarithmicAxis) {
  CategoryChart chart{
      .title = "t", .value_label = "v", .categories = {"a", "b"}, .series = {{.values = {100, 101}}}, .bars = true};
  const std::string figure = figure_html(chart);
  std::smatch first, second;
  const std::regex bar(R"(<rect x='[\d.]+' y='[\d.]+' width='([\d.]+)')");
  ASSERT_TRUE(std::regex_search(figure, first, bar));
  const std::string rest = first.suffix();
  ASSERT_TRUE(std::regex_search(rest, second, bar));
  EXPECT_NEAR(std::stod(first[1]) / std::stod(second[1]), 100.0 / 101, 2e-3);
  chart.log = true;
  EXPECT_THROW(figure_html(chart), std::invalid_argument);
}

TEST(CategoryChartTest, WhatCannotBeDrawnIsWrittenAndNoted) {
  const CategoryChart chart{.title = "t",
                            .value_label = "v",
                            .categories = {"a", "b"},
                            .series = {{.values = {0.5, kNan}, .low = {0.4, kNan}, .high = {kNan, kNan}}}};
  const std::string figure = figure_html(chart);
  EXPECT_TRUE(holds(figure, ">undefined</text>"));
  EXPECT_TRUE(holds(figure, "1 value cannot be drawn and only written."));
  EXPECT_TRUE(holds(figure, "1 error bar cannot be drawn: an end is undefined."));
  EXPECT_EQ(count(figure, "class='dot"), 1u);
}

TEST(CategoryChartTest, LengthsThatDoNotFitAreRefused) {
  EXPECT_THROW(figure_html(CategoryChart{.categories = {"a"}, .series = {{.values = {1, 2}}}}), std::invalid_argument);
  EXPECT_THROW(figure_html(CategoryChart{.categories = {"a"}, .series = {{.values = {1}, .low = {0}}}}),
               std::invalid_argument);
}

TEST(LineChartTest, WhiskersStandSideBySideInsteadOfBands) {
  LineChart chart{.x_label = "rank", .y_label = "score", .whiskers = true};
  for (const char* name : {"a", "b"})
    chart.series.push_back({.name = name, .x = {8, 16}, .y = {1, 2}, .low = {0.5, kNan}, .high = {1.5, kNan}});
  const std::string html = figure_html(chart);
  EXPECT_EQ(count(html, "class='error"), 2u);  // the undefined ends are left out
  EXPECT_FALSE(holds(html, "class='band"));
  const std::regex dot("cx='([0-9.]+)' cy='[0-9.]+' r='6.0'");
  std::vector<std::string> places;
  for (auto it = std::sregex_iterator(html.begin(), html.end(), dot); it != std::sregex_iterator(); ++it)
    places.push_back((*it)[1]);
  ASSERT_EQ(places.size(), 4u);
  EXPECT_NE(places[0], places[2]);
}

TEST(CategoryChartTest, ASeriesKeepsTheColourItIsGiven) {
  CategoryChart chart{.categories = {"x"}, .series = {{.name = "third", .values = {1}, .color = 3}}};
  EXPECT_TRUE(holds(figure_html(chart), "class='dot s3'"));
  chart.bars = true;
  EXPECT_TRUE(holds(figure_html(chart), "class='bar s3 t3'"));
}

TEST(HeatMapTest, EveryNumberStandsInItsCellAndLargerOnesAreDarker) {
  const HeatMap map{.title = "ranks",
                    .column_label = "layer",
                    .rows = {"query", "<key>"},
                    .columns = {"0", "1"},
                    .values = {{1, 8}, {kNan, 4}},
                    .low = 0,
                    .high = 8};
  const std::string html = figure_html(map);
  EXPECT_TRUE(holds(html, "&lt;key&gt;"));
  EXPECT_EQ(count(html, "class='heat"), 3u);  // the undefined one is an empty frame
  EXPECT_EQ(count(html, "class='cell'"), 4u);
  const size_t pale = html.find("fill-opacity='0.12'"), dark = html.find("fill-opacity='0.62'");
  EXPECT_LT(pale, dark);
  EXPECT_NE(dark, std::string::npos);
  HeatMap wrong = map;
  wrong.values.pop_back();
  EXPECT_THROW(figure_html(wrong), std::invalid_argument);
}

TEST(SpansMoreThanTest, LooksAtPositiveFiniteValuesOnly) {
  EXPECT_TRUE(spans_more_than({1, kNan, 101}, 100));
  EXPECT_FALSE(spans_more_than({1, 99}, 100));
  EXPECT_FALSE(spans_more_than({0, 1e9}, 100)) << "zero has no place on a logarithmic axis";
  EXPECT_FALSE(spans_more_than({}, 100));
}

TEST(RunReportTest, ScoresStandSideBySideAndAMissingOneIsUndefined) {
  RunReport report{.title = "run"};
  report.result = nlohmann::ordered_json::parse(
      R"({"task":"regression","best":{"step":4,"pearson":0.5},"test":{"pearson":null},"seconds":1.25})");
  const std::string html = run_report(report).html();
  EXPECT_TRUE(holds(html, "<th></th><th class='number'>best</th><th class='number'>test</th>"));
  EXPECT_TRUE(holds(html, "<td>pearson</td><td class='number'>0.5</td><td class='number'>undefined</td>"));
  EXPECT_TRUE(holds(html, "<td>step</td><td class='number'>4</td><td class='number'></td>"));
  EXPECT_TRUE(holds(html, "<dt>seconds</dt><dd>1.25</dd>"));
}

TEST(RunReportTest, DevLossIsDrawnWithTheTrainingLossAndOtherMetricsAlone) {
  RunReport report{.title = "run", .metric = "pearson", .best_step = 2};
  report.train_loss = {.name = "train", .steps = {1, 2}, .values = {1, 0.5}};
  report.dev = {{.name = "pearson", .steps = {2}, .values = {0.4}}, {.name = "loss", .steps = {2}, .values = {0.6}}};
  const std::string html = run_report(report).html();
  EXPECT_EQ(count(html, "<figure>"), 2u);
  EXPECT_TRUE(holds(html, "pearson on dev (chooses the best)"));
  EXPECT_TRUE(holds(html, "best on dev (step 2)"));
  EXPECT_FALSE(holds(html, "Adapted weights"));
  EXPECT_EQ(curves_csv(report), "step,training loss,dev pearson,dev loss,samples per second\n1,1,,,\n2,0.5,0.4,0.6,\n");
}

TEST(RunReportTest, SitesShowShapeSizeAndSpectrum) {
  RunReport report{.title = "run"};
  report.sites = {{.path = "a.weight",
                   .role = "query",
                   .out = 384,
                   .in = 128,
                   .parameters = 99,
                   .update_norm = 0.5,
                   .weight_norm = 20,
                   .numerical_rank = 3,
                   .singular_values = {0.4, 0.3}},
                  {.path = "b.weight", .role = "value", .out = 4, .in = 8, .update_norm = 0}};
  const std::string html = run_report(report).html();
  EXPECT_TRUE(holds(html,
                    "<td>a.weight</td><td>query</td><td class='number'>384</td><td "
                    "class='number'>128</td><td class='number'>99</td>"
                    "<td class='number'>0.5</td><td class='number'>0.025</td><td class='number'>3</td>"));
  EXPECT_TRUE(holds(html, "<td class='number'>0</td><td class='number'>undefined</td><td class='number'></td>"));
  EXPECT_TRUE(holds(html, "Spectrum of the learned updates"));
}

}  // namespace
}  // namespace deeplora
