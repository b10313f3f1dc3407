#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/error.h"
#include "report/chart_parts.h"
#include "report/svg_chart.h"

namespace deeplora {
namespace {

constexpr double kHeight = 290;
constexpr size_t kMostDots = 60;   // more of them hide the line
constexpr size_t kMostHits = 150;  // places that show their value under the pointer

struct Point {
  double x = 0, y = 0;
};

void require_lengths(const LineChart& chart) {
  for (const LineSeries& series : chart.series) {
    const size_t n = series.x.size();
    const bool band = !series.low.empty() || !series.high.empty();
    if (series.y.size() != n || (band && (series.low.size() != n || series.high.size() != n)))
      throw std::invalid_argument(cat("line '", series.name, "' has ", n, " x for ", series.y.size(), " y, ",
                                      series.low.size(), " low and ", series.high.size(), " high"));
  }
}

/// The drawing area and both axes of a chart.
class Plot {
 public:
  explicit Plot(const LineChart& chart)
      : y_(all_y(chart), {.log = chart.log_y, .padding = 0.05, .ticks = 5}),
        x_(all_x(chart), {.log = chart.log_x}),
        series_(chart.series.size()),
        whiskers_(chart.whiskers) {
    double labels = 0;
    for (const Tick& tick : y_.ticks()) labels = std::max(labels, text_width(tick.label));
    box_ = {.left = labels + 10, .top = 24, .right = kChartWidth - 16, .bottom = kHeight - 42};
    // On a logarithmic axis ranks such as 8, 16, 32 say more than 10 and 20.
    const double beside = chart.whiskers ? 0.06 : 0;  // room for the points beside the outermost
    x_ = fitted_axis(all_x(chart), {.log = chart.log_x, .padding = beside, .at_values = chart.log_x}, box_.width());
    if (!x_.ticks().empty()) {
      // The last label is centred below its tick and must not leave the drawing.
      const double past =
          text_width(x_.ticks().back().label) / 2 + 2 - (1 - x_.position(x_.ticks().back().value)) * box_.width();
      box_.right = std::min(box_.right, kChartWidth - past);
    }
  }

  bool empty() const { return x_.empty() || y_.empty(); }
  bool can_show(double x, double y) const { return x_.can_show(x) && y_.can_show(y); }
  bool in_sight(double x) const { return x_.can_show(x) && x >= x_.low() && x <= x_.high(); }
  double left_of(double x) const { return box_.left + x_.position(x) * box_.width(); }
  /// Where a point of series `index` stands: with whiskers, beside those of the other series.
  double left_of(double x, size_t index) const {
    const double middle = (static_cast<double>(series_) - 1) / 2;
    return left_of(x) +
           (whiskers_ ? (static_cast<double>(index) - middle) * std::min(5.0, 24.0 / static_cast<double>(series_))
                      : 0.0);
  }
  double top_of(double y) const { return box_.bottom - y_.position(y) * box_.height(); }
  /// A limit of a band: on a logarithmic axis what lies at or below zero reaches the bottom.
  double limit(double y) const { return std::isfinite(y) && !y_.can_show(y) ? y_.low() : y; }
  const Box& box() const { return box_; }

  std::string axes(const LineChart& chart) const {
    std::string out = horizontal_axis(x_, box_, chart.x_label);
    for (const Tick& tick : y_.ticks()) {
      const double y = top_of(tick.value);
      out += svg_line(box_.left, y, box_.right, y, "grid");
      out += svg_text(box_.left - 6, y + 4, "end", tick.label);
    }
    out += svg_line(box_.left, box_.bottom, box_.right, box_.bottom, "axis");
    return out + svg_text(2, 13, "start", cat(chart.y_label, chart.log_y ? " (logarithmic)" : ""));
  }

 private:
  static std::vector<double> all_x(const LineChart& chart) {
    std::vector<double> out;
    for (const LineSeries& series : chart.series)
      for (size_t i = 0; i < series.x.size(); ++i)
        if (std::isfinite(series.y[i])) out.push_back(series.x[i]);
    return out;
  }
  static std::vector<double> all_y(const LineChart& chart) {
    std::vector<double> out;
    for (const LineSeries& series : chart.series)
      for (const auto* list : {&series.y, &series.low, &series.high}) out.insert(out.end(), list->begin(), list->end());
    return out;
  }

  Axis y_, x_;
  size_t series_;
  bool whiskers_;
  Box box_;
};

/// Of all points that fall on one pixel column only the first, lowest, highest and last are kept: the drawn
/// line is the same.
std::vector<Point> thinned(const std::vector<Point>& points) {
  std::vector<Point> out;
  for (size_t begin = 0, end = 0; begin < points.size(); begin = end) {
    const double column = std::floor(points[begin].x);
    while (end < points.size() && std::floor(points[end].x) == column) ++end;
    const auto first = points.begin() + static_cast<ptrdiff_t>(begin),
               last = points.begin() + static_cast<ptrdiff_t>(end);
    const auto [low, high] = std::minmax_element(first, last, [](const Point& a, const Point& b) { return a.y < b.y; });
    std::vector<ptrdiff_t> kept = {0, low - first, high - first, last - first - 1};
    std::sort(kept.begin(), kept.end());
    kept.erase(std::unique(kept.begin(), kept.end()), kept.end());
    for (const ptrdiff_t i : kept) out.push_back(first[i]);
  }
  return out;
}

/// "x y L x y L ..." for a path.
std::string path_points(const std::vector<Point>& points) {
  std::string out;
  for (const Point& point : points) out += cat(out.empty() ? "" : "L", coordinate(point.x), " ", coordinate(point.y));
  return out;
}

std::string band(const LineSeries& series, const Plot& plot, size_t index) {
  std::string out;
  std::vector<Point> upper, lower;
  const auto close = [&] {
    std::vector<Point> back = thinned(lower);
    std::reverse(back.begin(), back.end());
    if (upper.size() > 1)
      out += cat("<path", series_attributes(index, "band"), " d='M", path_points(thinned(upper)), "L",
                 path_points(back), "Z'/>");
    upper.clear();
    lower.clear();
  };
  for (size_t i = 0; i < series.low.size(); ++i) {
    const double low = plot.limit(series.low[i]), high = plot.limit(series.high[i]);
    if (!plot.can_show(series.x[i], low) || !plot.can_show(series.x[i], high)) {
      close();
      continue;
    }
    lower.push_back({plot.left_of(series.x[i]), plot.top_of(low)});
    upper.push_back({plot.left_of(series.x[i]), plot.top_of(high)});
  }
  close();
  return out;
}

std::string whiskers(const LineSeries& series, const Plot& plot, size_t index) {
  std::string out;
  for (size_t i = 0; i < series.low.size(); ++i) {
    const double low = plot.limit(series.low[i]), high = plot.limit(series.high[i]);
    if (!plot.can_show(series.x[i], low) || !plot.can_show(series.x[i], high)) continue;
    const double x = plot.left_of(series.x[i], index);
    const std::string bottom = coordinate(plot.top_of(low)), top = coordinate(plot.top_of(high));
    out += cat("<path class='error s", index % kChartColors, "' d='M", coordinate(x - 3), " ", bottom, "h6M",
               coordinate(x), " ", bottom, "V", top, "M", coordinate(x - 3), " ", top, "h6'/>");
  }
  return out;
}

/// A place that shows its value under the pointer.
std::string hit(Point at, size_t index, const std::string& text) {
  return cat("<circle cx='", coordinate(at.x), "' cy='", coordinate(at.y), "' r='6.0' class='hit s",
             index % kChartColors, "'>", svg_title(text), "</circle>");
}

std::string scatter(const LineSeries& series, const Plot& plot, size_t index) {
  std::string out = "<g class='scattered'>";
  for (size_t i = 0; i < series.x.size(); ++i)
    if (plot.can_show(series.x[i], series.y[i]))
      out += marker(plot.left_of(series.x[i], index), plot.top_of(series.y[i]), 2.6, index);
  return out + "</g>";
}

std::string curve(const LineSeries& series, const Plot& plot, size_t index) {
  if (series.scattered) return scatter(series, plot, index);
  std::string out;
  std::vector<Point> points;
  const bool with_dots = series.x.size() <= kMostDots;
  const auto close = [&] {
    if (points.size() == 1) out += marker(points[0].x, points[0].y, 3.5, index);
    if (points.size() > 1) {
      out += cat("<path", series_attributes(index, "curve"), " d='M", path_points(thinned(points)), "'/>");
      if (with_dots)
        for (const Point& point : points) out += marker(point.x, point.y, 2.8, index);
    }
    points.clear();
  };
  for (size_t i = 0; i < series.x.size(); ++i) {
    if (plot.can_show(series.x[i], series.y[i]))
      points.push_back({plot.left_of(series.x[i], index), plot.top_of(series.y[i])});
    else close();
  }
  close();
  return out;
}

std::string hits(const LineChart& chart, const Plot& plot, size_t index) {
  const LineSeries& series = chart.series[index];
  const size_t stride = (series.x.size() + kMostHits - 1) / kMostHits;
  std::string out;
  for (size_t i = 0; i < series.x.size(); ++i) {
    if (!plot.can_show(series.x[i], series.y[i]) || (i % stride != 0 && i + 1 != series.x.size())) continue;
    std::string text = cat(series.name, series.name.empty() ? "" : "\n", chart.x_label, ": ",
                           number_text(series.x[i], 6), "\n", chart.y_label, ": ", number_text(series.y[i], 6));
    if (!series.low.empty()) text += cat(" (", number_text(series.low[i]), " to ", number_text(series.high[i]), ")");
    out += hit({plot.left_of(series.x[i], index), plot.top_of(series.y[i])}, index, text);
  }
  return out;
}

std::vector<LegendEntry> legend(const LineChart& chart) {
  std::vector<LegendEntry> out;
  if (chart.series.size() > 1)
    for (size_t i = 0; i < chart.series.size(); ++i)
      out.push_back({chart.series[i].name, chart.series[i].scattered ? marker(13, 6, 3.2, i)
                                                                     : cat("<path", series_attributes(i, "curve"),
                                                                           " d='M1 6H25'/>", marker(13, 6, 2.8, i))});
  if (!chart.marked_x.empty()) out.push_back({chart.marked_name, "<path class='marked' fill='none' d='M1 6H25'/>"});
  return out;
}

std::vector<std::string> notes(const LineChart& chart, const Plot& plot) {
  size_t undefined = 0, not_positive = 0;
  for (const LineSeries& series : chart.series)
    for (size_t i = 0; i < series.x.size(); ++i) {
      const bool finite = std::isfinite(series.x[i]) && std::isfinite(series.y[i]);
      undefined += finite ? 0 : 1;
      not_positive += finite && ((chart.log_x && series.x[i] <= 0) || (chart.log_y && series.y[i] <= 0)) ? 1 : 0;
    }
  std::vector<std::string> out;
  if (undefined > 0)
    out.push_back(cat(undefined, undefined == 1 ? " value is" : " values are", " undefined or infinite and left out."));
  if (not_positive > 0)
    out.push_back(cat(not_positive, not_positive == 1 ? " value is" : " values are",
                      " not positive and left out of the logarithmic axis."));
  return out;
}

}  // namespace

Figure drawn(const LineChart& chart) {
  require_lengths(chart);
  const Plot plot(chart);
  std::string drawing;
  if (!plot.empty()) {
    drawing = plot.axes(chart);
    for (const double x : chart.marked_x)
      if (plot.in_sight(x))
        drawing += svg_line(plot.left_of(x), plot.box().top, plot.left_of(x), plot.box().bottom, "marked");
    for (size_t i = 0; i < chart.series.size(); ++i)
      drawing += chart.whiskers ? whiskers(chart.series[i], plot, i) : band(chart.series[i], plot, i);
    for (size_t i = 0; i < chart.series.size(); ++i) drawing += "\n" + curve(chart.series[i], plot, i);
    for (size_t i = 0; i < chart.series.size(); ++i) drawing += "\n" + hits(chart, plot, i);
  }
  return {.title = chart.title,
          .legend = legend(chart),
          .drawing = drawing,
          .height = kHeight,
          .notes = notes(chart, plot)};
}

}  // namespace deeplora
