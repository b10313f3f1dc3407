// What both kinds of charts are drawn with. Lengths are in the units of the drawing's viewBox, about a pixel
// on a telephone.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "report/axis.h"
#include "report/svg_chart.h"

namespace deeplora {

constexpr double kChartWidth = 460;
constexpr int kChartColors = 7;

struct Box {
  double left = 0, top = 0, right = 0, bottom = 0;
  double width() const { return right - left; }
  double height() const { return bottom - top; }
};

/// A coordinate with one decimal.
std::string coordinate(double value);
/// Width of text in the charts' font, estimated generously.
double text_width(std::string_view text);
/// Text cut to a width, with an ellipsis.
std::string fitted_text(std::string_view text, double width);

/// anchor: start, middle or end; y is the baseline.
std::string svg_text(double x, double y, std::string_view anchor, std::string_view text);
std::string svg_line(double x1, double y1, double x2, double y2, std::string_view css_class);
/// A child that browsers show while the pointer rests on its parent.
std::string svg_title(std::string_view text);

/// " class='...' stroke-dasharray='...'" of series `index`: its colour and its dashes, the same pair again after 28
/// series.
std::string series_attributes(size_t index, std::string_view css_class);
/// The mark of series `index` at a point: a circle, square, triangle or diamond in its colour.
std::string marker(double x, double y, double radius, size_t index);

/// Horizontal axis below the box: grid lines, tick labels, and the axis' name.
std::string horizontal_axis(const Axis& axis, const Box& box, std::string_view name);
/// The axis whose labels fit side by side into the box.
Axis fitted_axis(const std::vector<double>& values, AxisOptions options, double width);

}  // namespace deeplora
