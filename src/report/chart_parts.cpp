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
  return cat("<text x='", coordinate(x), "' y='", coordinate(y), "' text-anchor='", anchor, "'>",
             escape_html(text), "</text>");
}

std::string svg_line(double x1, double y1, double x2, double y2, std::string_view css_class) {
  return cat("<line x1='", coordinate(x1), "' y1='", coordinate(y1), "' x2='", coordinate(x2), "' y2='",
             coordinate(y2), "' class='", css_class, "'/>");
}

std::string svg_title(std::string_view text) {
  return cat("<title>", escape_html(text), "</title>");
}

std::string series_attributes(size_t index, std::string_view css_class) {
  constexpr const char* kDashes[] = {"", " stroke-dasharray='7 3'", " stroke-dasharray='2 3'",
                                     " stroke-dasharray='9 3 2 3'"};
  return cat(" class='", css_class, " s", index % kChartColors, "'", kDashes[index / kChartColors % 4]);
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

std::string assemble_figure(std::string_view title, const std::vector<LegendEntry>& legend,
                            const std::string& drawing, double height,
                            const std::vector<std::string>& notes) {
  std::string out = cat("<figure>\n<figcaption>", escape_html(title), "</figcaption>\n");
  if (!legend.empty() && !drawing.empty()) {
    out += "<div class='legend'>";
    for (const LegendEntry& entry : legend)
      out += cat("<span><svg width='26' height='12' aria-hidden='true'>", entry.sample, "</svg>",
                 escape_html(entry.name), "</span> ");
    out += "</div>\n";
  }
  if (drawing.empty())
    out += "<p class='nothing'>No values to show.</p>\n";
  else
    out += cat("<svg viewBox='0 0 ", coordinate(kChartWidth), " ", coordinate(height),
               "' role='img' aria-label='", escape_html(title), "'>\n", drawing, "\n</svg>\n");
  for (const std::string& note : notes) out += cat("<p class='note'>", escape_html(note), "</p>\n");
  return out + "</figure>\n";
}

std::string chart_style() {
  // Okabe and Ito's colours; darker on white and lighter on black where the contrast would fall below 3 to 1.
  return R"(:root{--s0:#0072b2;--s1:#d55e00;--s2:#00875f;--s3:#b5568f;--s4:#a87900;--s5:#3d3d3d;--s6:#2f8fd0}
@media (prefers-color-scheme:dark){:root{--s0:#56b4e9;--s1:#ff8a4c;--s2:#2cc39a;--s3:#e59ac5;--s4:#f0c93e;--s5:#d8d8d8;--s6:#8aa8ff}}
.s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}.s4{color:var(--s4)}.s5{color:var(--s5)}.s6{color:var(--s6)}
figure{margin:0;max-width:540px;min-width:0}
figure>svg{display:block;width:100%;height:auto;font-size:13px;font-family:inherit}
figure text{fill:var(--soft)}
figure text.value{fill:var(--ink)}
figcaption{font-weight:600;margin-bottom:.35rem}
.legend{display:flex;flex-wrap:wrap;gap:.1rem .9rem;font-size:.85rem;color:var(--soft);margin-bottom:.3rem}
.legend span{display:inline-flex;align-items:center;gap:.35rem}
.legend svg{flex:none}
.note,.nothing{font-size:.85rem;color:var(--soft);margin:.3rem 0}
.nothing{padding:3rem 1rem;text-align:center;border:1px dashed var(--line);border-radius:6px}
.grid{stroke:var(--line);stroke-width:1}
.axis{stroke:var(--soft);stroke-width:1}
.marked{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:3 3}
.curve{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round;stroke-linecap:round}
.band{fill:currentColor;fill-opacity:.16;stroke:none}
.dot,.bar{fill:currentColor;stroke:none}
.bar{fill-opacity:.85}
.error{fill:none;stroke:currentColor;stroke-width:1.6}
.bar+.error{color:var(--ink)}
.heat{fill:currentColor;stroke:none}
.cell{fill:none;stroke:var(--line);stroke-width:1}
.hit{fill:transparent;stroke:none}
.hit:hover{fill:currentColor;fill-opacity:.35}
)";
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
