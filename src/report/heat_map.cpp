#include <algorithm>
#include <cmath>
#include <stdexcept>

#include "core/error.h"
#include "report/chart_parts.h"
#include "report/escape.h"
#include "report/svg_chart.h"

namespace deeplora {
namespace {

constexpr double kCellHeight = 26, kTop = 6;
constexpr double kDarkest = 0.62;  // so that the number on it stays readable, on light and dark pages

void require_fit(const HeatMap& map) {
  if (map.values.size() != map.rows.size())
    throw std::invalid_argument(
        cat("heat map has ", map.values.size(), " rows of values for ", map.rows.size(), " names"));
  for (const auto& row : map.values)
    if (row.size() != map.columns.size())
      throw std::invalid_argument(cat("heat map row has ", row.size(), " values for ", map.columns.size(), " columns"));
}

std::string cell(const HeatMap& map, size_t r, size_t c, double x, double y, double width) {
  const double value = map.values[r][c];
  const std::string box = cat(" x='", coordinate(x), "' y='", coordinate(y), "' width='", coordinate(width),
                              "' height='", coordinate(kCellHeight), "'");
  const std::string hint =
      svg_title(cat(map.rows[r], ", ", map.column_label, " ", map.columns[c], ": ", number_text(value)));
  if (!std::isfinite(value)) return cat("<g>", hint, "<rect class='cell'", box, "/></g>");
  const double share = map.high > map.low ? std::clamp((value - map.low) / (map.high - map.low), 0.0, 1.0) : 0.5;
  std::string out = cat("<g>", hint, "<rect class='heat s0' fill-opacity='",
                        number_text(0.05 + share * (kDarkest - 0.05), 2), "'", box, "/><rect class='cell'", box, "/>");
  const std::string text = number_text(std::round(value * 10) / 10, 3);
  if (text_width(text) <= width)
    out += cat("<text class='value' x='", coordinate(x + width / 2), "' y='", coordinate(y + kCellHeight / 2 + 4.5),
               "' text-anchor='middle'>", escape_html(text), "</text>");
  return out + "</g>\n";
}

}  // namespace

Figure drawn(const HeatMap& map) {
  require_fit(map);
  double labels = 0;
  for (const std::string& row : map.rows) labels = std::max(labels, text_width(row));
  labels = std::min(labels, 150.0) + 8;
  double names = 0;
  for (const std::string& column : map.columns) names = std::max(names, text_width(column) + 6);
  const double width =
      map.columns.empty()
          ? 0
          : std::min(std::max(48.0, names), (kChartWidth - labels - 2) / static_cast<double>(map.columns.size()));
  const double bottom = kTop + kCellHeight * static_cast<double>(map.rows.size());
  std::string drawing;
  for (size_t r = 0; r < map.rows.size() && !map.columns.empty(); ++r) {
    const double y = kTop + kCellHeight * static_cast<double>(r);
    drawing += svg_text(labels - 6, y + kCellHeight / 2 + 4.5, "end", fitted_text(map.rows[r], labels - 8));
    for (size_t c = 0; c < map.columns.size(); ++c)
      drawing += cell(map, r, c, labels + width * static_cast<double>(c), y, width);
  }
  // As many column names as fit side by side.
  double widest = 1;
  for (const std::string& column : map.columns) widest = std::max(widest, text_width(column) + 4);
  const auto stride = static_cast<size_t>(std::max(1.0, std::ceil(widest / std::max(width, 1.0))));
  for (size_t c = 0; c < map.columns.size(); c += stride)
    drawing += svg_text(labels + width * (static_cast<double>(c) + 0.5), bottom + 16, "middle", map.columns[c]);
  if (!drawing.empty())
    drawing +=
        svg_text(labels + width * static_cast<double>(map.columns.size()) / 2, bottom + 33, "middle", map.column_label);
  return {.title = map.title, .legend = {}, .drawing = drawing, .height = bottom + 40, .notes = {}};
}

}  // namespace deeplora
