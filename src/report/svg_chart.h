// Charts as SVG, inline in a Page or as files of their own: lines with bands, dots or bars with error bars, numbers in
// a grid. Series differ by colour, and by dashes, markers and shades as well, so that they survive black and white.
#pragma once

#include <optional>
#include <string>
#include <vector>

namespace deeplora {

/// One line. x and y have the same length N; low and high are empty or the N limits of a shaded band (mean +-
/// sd).
struct LineSeries {
  std::string name = {};
  std::vector<double> x = {}, y = {}, low = {}, high = {};
  bool scattered = false;  ///< points without a line between them
};

/// Lines over a common x. Values that cannot be shown (NaN, infinite, not positive on a logarithmic axis)
/// leave a gap and are counted in a note below the chart; a point without neighbours is drawn as a dot; a
/// spike between pixels is never lost.
struct LineChart {
  std::string title = {}, x_label = {}, y_label = {};  ///< labels with units, e.g. "learning rate", "samples/s"
  std::vector<LineSeries> series = {};                 ///< up to 28 can be told apart
  bool log_x = false, log_y = false;
  bool whiskers = false;  ///< low and high as error bars, the points set side by side: clearer than bands that overlap
  std::vector<double> marked_x = {};  ///< vertical lines, e.g. the best step
  std::string marked_name = {};       ///< what they mean, for the legend
};

/// Values of one series, one per category; NaN where there is none. low and high are empty or the ends of the
/// error bars.
struct CategorySeries {
  std::string name = {};
  std::vector<double> values = {}, low = {}, high = {};
  std::optional<size_t> color = {};  ///< place among the colours; absent: the series' own number
};

/// Horizontal dots or bars, a row per category and series, with the value written beside it.
struct CategoryChart {
  std::string title = {}, value_label = {};
  std::vector<std::string> categories = {};
  std::vector<CategorySeries> series = {};
  bool bars = false;  ///< bars start at zero, so they exclude `log`
  bool log = false;
  bool zero_line = false;  ///< the axis holds 0 and marks it (differences)
};

/// Numbers in a grid, darker where larger: values [rows][columns], NaN where there is none.
struct HeatMap {
  std::string title = {}, column_label = {};
  std::vector<std::string> rows = {}, columns = {};
  std::vector<std::vector<double>> values = {};
  double low = 0, high = 1;  ///< the palest and the darkest value; the same for maps that are to be compared
};

struct LegendEntry {
  std::string name;
  std::string sample;  ///< SVG within 26 x 12
};

/// A chart that is drawn.
struct Figure {
  std::string title;
  std::vector<LegendEntry> legend;
  std::string drawing;  ///< content of an SVG of the charts' width and this height; empty when there is nothing to show
  double height = 0;
  std::vector<std::string> notes;
};

/// Throws std::invalid_argument when lengths do not fit each other or bars are asked for on a logarithmic axis.
Figure drawn(const LineChart& chart);
Figure drawn(const CategoryChart& chart);
Figure drawn(const HeatMap& map);

/// A <figure> with caption, legend, drawing and notes; the page's style has its colours.
std::string figure_html(const Figure& figure);
template <class Chart>
std::string figure_html(const Chart& chart) {
  return figure_html(drawn(chart));
}

/// The same as an SVG file that needs nothing else: its own style, on white, title and legend drawn in.
std::string figure_svg(const Figure& figure);

/// The style rules that figures in a page need: colours for light and dark pages, both safe for colour-blind readers
/// (Okabe and Ito 2008).
std::string chart_style();

/// True when positive values span more than `factor`: then a linear axis would hide the small ones.
bool spans_more_than(const std::vector<double>& values, double factor);

}  // namespace deeplora
