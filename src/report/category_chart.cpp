#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/error.h"
#include "report/chart_parts.h"
#include "report/svg_chart.h"

namespace deeplora {
namespace {

constexpr double kRow = 17, kGap = 9, kTop = 8;

void require_fit(const CategoryChart& chart) {
  if (chart.bars && chart.log)
    throw std::invalid_argument("bars start at zero, which a logarithmic axis does not have");
  for (const CategorySeries& series : chart.series) {
    const size_t n = chart.categories.size();
    const bool ends = !series.low.empty() || !series.high.empty();
    if (series.values.size() != n || (ends && (series.low.size() != n || series.high.size() != n)))
      throw std::invalid_argument(cat("series '", series.name, "' has ", series.values.size(), " values, ",
                                      series.low.size(), " low and ", series.high.size(), " high for ", n,
                                      " categories"));
  }
}

std::vector<double> all_values(const CategoryChart& chart) {
  std::vector<double> out;
  for (const CategorySeries& series : chart.series)
    for (const auto* list : {&series.values, &series.low, &series.high})
      out.insert(out.end(), list->begin(), list->end());
  return out;
}

/// Which colour, marker and shade a series has.
size_t look_of(const CategoryChart& chart, size_t index) { return chart.series[index].color.value_or(index); }
size_t color_of(const CategoryChart& chart, size_t index) { return look_of(chart, index) % kChartColors; }
std::string bar_class(size_t look) {
  return cat("bar s", look % kChartColors, look % 4 > 0 ? cat(" t", look % 4) : std::string());
}

double widest(const std::vector<std::string>& texts) {
  double out = 0;
  for (const std::string& text : texts) out = std::max(out, text_width(text));
  return out;
}

/// Draws the rows of one chart.
class Rows {
 public:
  explicit Rows(const CategoryChart& chart) : chart_(chart), axis_({}, {}) {
    double values = 0;
    for (const CategorySeries& series : chart.series)
      for (const double value : series.values) values = std::max(values, text_width(number_text(value)));
    const double labels = std::min(widest(chart.categories), 175.0);
    const auto rows =
        static_cast<double>(chart.categories.size()) * (static_cast<double>(chart.series.size()) * kRow + kGap);
    box_ = {.left = labels + 14, .top = kTop, .right = kChartWidth - values - 14, .bottom = kTop + rows};
    axis_ = fitted_axis(all_values(chart),
                        {.log = chart.log, .from_zero = chart.bars || chart.zero_line, .padding = 0.05}, box_.width());
  }

  bool empty() const { return axis_.empty(); }
  double height() const { return box_.bottom + 42; }

  std::string draw() const {
    std::string out = horizontal_axis(axis_, box_, cat(chart_.value_label, chart_.log ? " (logarithmic)" : ""));
    const double group = static_cast<double>(chart_.series.size()) * kRow + kGap;
    for (size_t c = 0; c < chart_.categories.size(); ++c) {
      const double top = box_.top + static_cast<double>(c) * group;
      if (c > 0) out += svg_line(0, top, kChartWidth, top, "grid");
      out += cat("<g>", svg_title(chart_.categories[c]),
                 svg_text(2, top + group / 2 + 4, "start", fitted_text(chart_.categories[c], box_.left - 14)), "</g>");
      for (size_t s = 0; s < chart_.series.size(); ++s)
        out += "\n" + row(c, s, top + kGap / 2 + (static_cast<double>(s) + 0.5) * kRow);
    }
    if (chart_.bars || chart_.zero_line) out += svg_line(left_of(0), box_.top, left_of(0), box_.bottom, "axis");
    return out + svg_line(box_.left, box_.bottom, box_.right, box_.bottom, "axis");
  }

 private:
  double left_of(double value) const { return box_.left + axis_.position(value) * box_.width(); }

  std::string row(size_t category, size_t index, double y) const {
    const CategorySeries& series = chart_.series[index];
    const double value = series.values[category];
    std::string hint =
        cat(chart_.categories[category], "\n", series.name, series.name.empty() ? "" : ": ", number_text(value, 6));
    std::string out;
    if (axis_.can_show(value)) out += mark(index, value, y);
    if (!series.low.empty()) {
      hint += cat(" (", number_text(series.low[category]), " to ", number_text(series.high[category]), ")");
      out += error_bar(index, series.low[category], series.high[category], y);
    }
    return cat("<g>", svg_title(hint), out, "<text class='value' x='", coordinate(kChartWidth - 2), "' y='",
               coordinate(y + 4), "' text-anchor='end'>", number_text(value), "</text></g>");
  }

  std::string mark(size_t index, double value, double y) const {
    if (!chart_.bars) return marker(left_of(value), y, 4.2, look_of(chart_, index));
    const double from = std::min(left_of(0), left_of(value)), to = std::max(left_of(0), left_of(value));
    return cat("<rect x='", coordinate(from), "' y='", coordinate(y - 6), "' width='",
               coordinate(std::max(to - from, 0.5)), "' height='12' rx='1.5' class='",
               bar_class(look_of(chart_, index)), "'/>");
  }

  std::string error_bar(size_t index, double low, double high, double y) const {
    if (!axis_.can_show(low) || !axis_.can_show(high)) return {};
    const std::string a = coordinate(left_of(low)), b = coordinate(left_of(high));
    return cat("<path class='error s", color_of(chart_, index), "' d='M", a, " ", coordinate(y), "H", b, "M", a, " ",
               coordinate(y - 4), "v8M", b, " ", coordinate(y - 4), "v8'/>");
  }

  const CategoryChart& chart_;
  Axis axis_;
  Box box_;
};

std::vector<LegendEntry> legend(const CategoryChart& chart) {
  std::vector<LegendEntry> out;
  if (chart.series.size() > 1)
    for (size_t i = 0; i < chart.series.size(); ++i) {
      const size_t look = look_of(chart, i);
      out.push_back({chart.series[i].name,
                     chart.bars
                         ? cat("<rect x='3' y='0.5' width='20' height='11' rx='1.5' class='", bar_class(look), "'/>")
                         : marker(13, 6, 4.2, look)});
    }
  return out;
}

std::vector<std::string> notes(const CategoryChart& chart) {
  size_t left_out = 0, open = 0;
  const auto shown = [&](double v) { return std::isfinite(v) && (!chart.log || v > 0); };
  for (const CategorySeries& series : chart.series)
    for (size_t i = 0; i < series.values.size(); ++i) {
      left_out += shown(series.values[i]) ? 0 : 1;
      open +=
          !series.low.empty() && shown(series.values[i]) && !(shown(series.low[i]) && shown(series.high[i])) ? 1 : 0;
    }
  std::vector<std::string> out;
  if (left_out > 0)
    out.push_back(cat(left_out, left_out == 1 ? " value" : " values", " cannot be drawn and only written."));
  if (open > 0)
    out.push_back(cat(open, open == 1 ? " error bar" : " error bars", " cannot be drawn: an end is undefined."));
  return out;
}

}  // namespace

Figure drawn(const CategoryChart& chart) {
  require_fit(chart);
  const Rows rows(chart);
  return {.title = chart.title,
          .legend = legend(chart),
          .drawing = rows.empty() ? "" : rows.draw(),
          .height = rows.height(),
          .notes = notes(chart)};
}

}  // namespace deeplora
