#include "report/chart_parts.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

#include "core/error.h"
#include "report/escape.h"
#include "report/svg_chart.h"

namespace deeplora {

std::string coordinate(double value) {
  char text[32];
  std::snprintf(text, sizeof(text), "%.1f", std::isfinite(value) ? value : 0.0);
  return text;
}

double text_width(std::string_view text) {
  const auto characters = std::count_if(text.begin(), text.end(), [](char c) { return (c & 0xC0) != 0x80; });
  return 8.1 * static_cast<double>(characters);
}

std::string fitted_text(std::string_view text, double width) {
  if (text_width(text) <= width + 1e-6) return std::string(text);
  std::string out(text);
  while (!out.empty() && text_width(out) + 7 > width) {
    while (!out.empty() && (out.back() & 0xC0) == 0x80) out.pop_back();
    if (!out.empty()) out.pop_back();
  }
  return out + "…";
}

std::string svg_text(double x, double y, std::string_view anchor, std::string_view text) {
  return cat("<text x='", coordinate(x), "' y='", coordinate(y), "' text-anchor='", anchor, "'>", escape_html(text),
             "</text>");
}

std::string svg_line(double x1, double y1, double x2, double y2, std::string_view css_class) {
  return cat("<line x1='", coordinate(x1), "' y1='", coordinate(y1), "' x2='", coordinate(x2), "' y2='", coordinate(y2),
             "' class='", css_class, "'/>");
}

std::string svg_title(std::string_view text) { return cat("<title>", escape_html(text), "</title>"); }

std::string series_attributes(size_t index, std::string_view css_class) {
  constexpr const char* kDashes[] = {"", " stroke-dasharray='7 3'", " stroke-dasharray='2 3'",
                                     " stroke-dasharray='9 3 2 3'"};
  return cat(" class='", css_class, " s", index % kChartColors, "'", kDashes[index % 4]);
}

std::string marker(double x, double y, double radius, size_t index) {
  const std::string look = cat(" class='dot s", index % kChartColors, "'/>");
  const auto shape = [&](const std::vector<std::pair<double, double>>& corners) {
    std::string path;
    for (const auto& [right, down] : corners)
      path += cat(path.empty() ? "M" : "L", coordinate(x + right * radius), " ", coordinate(y + down * radius));
    return cat("<path d='", path, "Z'", look);
  };
  switch (index % 4) {
    case 1: return shape({{-0.9, -0.9}, {0.9, -0.9}, {0.9, 0.9}, {-0.9, 0.9}});
    case 2: return shape({{0, -1.2}, {1.15, 0.8}, {-1.15, 0.8}});
    case 3: return shape({{0, -1.3}, {1.3, 0}, {0, 1.3}, {-1.3, 0}});
    default: return cat("<circle cx='", coordinate(x), "' cy='", coordinate(y), "' r='", coordinate(radius), "'", look);
  }
}

Axis fitted_axis(const std::vector<double>& values, AxisOptions options, double width) {
  options.ticks = 7;
  Axis axis(values, options);
  const auto too_tight = [&] {
    double needed = 0;
    for (const Tick& tick : axis.ticks()) needed = std::max(needed, text_width(tick.label) + 14);
    for (size_t i = 1; i < axis.ticks().size(); ++i) {
      const double gap = axis.position(axis.ticks()[i].value) - axis.position(axis.ticks()[i - 1].value);
      if (gap * width < needed) return true;
    }
    return false;
  };
  while (options.ticks > 1 && too_tight()) {
    options.at_values ? void(options.at_values = false) : void(--options.ticks);
    axis = Axis(values, options);
  }
  return axis;
}

std::string horizontal_axis(const Axis& axis, const Box& box, std::string_view name) {
  std::string out;
  for (const Tick& tick : axis.ticks()) {
    const double x = box.left + axis.position(tick.value) * box.width();
    out += svg_line(x, box.top, x, box.bottom, "grid");
    out += svg_text(x, box.bottom + 16, "middle", tick.label);
  }
  out += svg_text((box.left + box.right) / 2, box.bottom + 34, "middle", name);
  return out;
}

std::string figure_html(const Figure& figure) {
  std::string out = cat("<figure>\n<figcaption>", escape_html(figure.title), "</figcaption>\n");
  if (!figure.legend.empty() && !figure.drawing.empty()) {
    out += "<div class='legend'>";
    for (const LegendEntry& entry : figure.legend)
      out += cat("<span><svg width='26' height='12' aria-hidden='true'>", entry.sample, "</svg>",
                 escape_html(entry.name), "</span> ");
    out += "</div>\n";
  }
  if (figure.drawing.empty()) out += "<p class='nothing'>No values to show.</p>\n";
  else
    out += cat("<svg viewBox='0 0 ", coordinate(kChartWidth), " ", coordinate(figure.height),
               "' role='img' aria-label='", escape_html(figure.title), "'>\n", figure.drawing, "\n</svg>\n");
  for (const std::string& note : figure.notes) out += cat("<p class='note'>", escape_html(note), "</p>\n");
  return out + "</figure>\n";
}

bool spans_more_than(const std::vector<double>& values, double factor) {
  double low = 0, high = 0;
  for (const double value : values) {
    if (!std::isfinite(value)) continue;
    if (value <= 0) return false;
    low = low == 0 ? value : std::min(low, value);
    high = std::max(high, value);
  }
  return low > 0 && high / low > factor;
}

}  // namespace deeplora
