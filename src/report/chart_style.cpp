// What charts look like, in a page and as files of their own.
#include <algorithm>
#include <string_view>

#include "core/error.h"
#include "report/chart_parts.h"
#include "report/escape.h"

namespace deeplora {
namespace {

/// Rules of what is drawn; a page says what the variables mean, a file has their values put in.
constexpr std::string_view kDrawing =
    R"(.s0{color:var(--s0)}.s1{color:var(--s1)}.s2{color:var(--s2)}.s3{color:var(--s3)}.s4{color:var(--s4)}.s5{color:var(--s5)}.s6{color:var(--s6)}
.grid{stroke:var(--line);stroke-width:1}
.axis{stroke:var(--soft);stroke-width:1}
.marked{stroke:var(--soft);stroke-width:1.2;stroke-dasharray:3 3}
.curve{fill:none;stroke:currentColor;stroke-width:2;stroke-linejoin:round;stroke-linecap:butt}
.band{fill:currentColor;fill-opacity:.16;stroke:none}
.dot{fill:currentColor;stroke:none}
.scattered .dot{fill-opacity:.45}
.bar{fill:currentColor;fill-opacity:.85;stroke:currentColor;stroke-width:1}
.t1{fill-opacity:.4}.t2{fill-opacity:.12}.t3{fill-opacity:.62}
.error{fill:none;stroke:currentColor;stroke-width:1.6}
.bar+.error{color:var(--ink)}
.heat{fill:currentColor;stroke:none}
.cell{fill:none;stroke:var(--line);stroke-width:1}
)";

struct Variable {
  std::string_view name, light, dark;
};
// Okabe and Ito's colours; darker on white and lighter on black where the contrast would fall below 3 to 1.
constexpr Variable kColors[] = {{"--s0", "#0072b2", "#56b4e9"}, {"--s1", "#d55e00", "#ff8a4c"},
                                {"--s2", "#00875f", "#2cc39a"}, {"--s3", "#b5568f", "#e59ac5"},
                                {"--s4", "#a87900", "#f0c93e"}, {"--s5", "#3d3d3d", "#d8d8d8"},
                                {"--s6", "#2f8fd0", "#8aa8ff"}};
// What a page defines for itself, as it is on white.
constexpr Variable kOfPage[] = {{"--line", "#dfe3e8", ""}, {"--soft", "#4a545e", ""}, {"--ink", "#1b1f24", ""}};

std::string with_values(std::string rules) {
  const auto put = [&](const Variable& one) {
    const std::string use = cat("var(", one.name, ")");
    for (size_t at; (at = rules.find(use)) != std::string::npos;) rules.replace(at, use.size(), one.light);
  };
  for (const Variable& one : kColors) put(one);
  for (const Variable& one : kOfPage) put(one);
  return rules;
}

constexpr double kMargin = 12, kLineHeight = 18;

/// Words in lines of at most `width`.
std::vector<std::string> wrapped(std::string_view text, double width) {
  std::vector<std::string> lines{""};
  for (size_t begin = 0; begin <= text.size();) {
    const size_t end = std::min(text.find(' ', begin), text.size());
    const std::string word(text.substr(begin, end - begin));
    std::string& line = lines.back();
    if (!line.empty() && text_width(line) + text_width(word) > width) lines.push_back(word);
    else line += (line.empty() ? "" : " ") + word;
    begin = end + 1;
  }
  return lines;
}

/// The legend in rows from `top` on; `top` moves below it.
std::string legend_rows(const std::vector<LegendEntry>& legend, double& top) {
  std::string out;
  double left = 0;
  for (const LegendEntry& entry : legend) {
    const double width = 32 + text_width(entry.name) * 0.9;
    if (left > 0 && left + width > kChartWidth) {
      left = 0;
      top += kLineHeight;
    }
    out += cat("<g transform='translate(", coordinate(left), " ", coordinate(top), ")'>", entry.sample,
               svg_text(31, 10.5, "start", entry.name), "</g>\n");
    left += width + 14;
  }
  if (!legend.empty()) top += kLineHeight + 6;
  return out;
}

}  // namespace

std::string figure_svg(const Figure& figure) {
  double top = 0;
  std::string body;
  const auto line = [&](const std::string& text, std::string_view look) {
    body += cat("<text x='0' y='", coordinate(top + 13), "'", look, ">", escape_html(text), "</text>\n");
    top += kLineHeight;
  };
  for (const std::string& text : wrapped(figure.title, kChartWidth)) line(text, " class='title'");
  top += 4;
  if (figure.drawing.empty()) {
    line("No values to show.", "");
  } else {
    body += legend_rows(figure.legend, top);
    body += cat("<g transform='translate(0 ", coordinate(top), ")'>\n", figure.drawing, "\n</g>\n");
    top += figure.height;
  }
  for (const std::string& note : figure.notes)
    for (const std::string& text : wrapped(note, kChartWidth)) line(text, "");
  const double width = kChartWidth + 2 * kMargin, height = top + 2 * kMargin;
  return cat("<svg xmlns='http://www.w3.org/2000/svg' width='", coordinate(width), "' height='", coordinate(height),
             "' viewBox='0 0 ", coordinate(width), " ", coordinate(height),
             "' font-family='Helvetica, Arial, \"DejaVu Sans\", sans-serif' font-size='13'>\n<title>",
             escape_html(figure.title), "</title>\n<style>\n", with_values(std::string(kDrawing)),
             with_values("text{fill:var(--soft)}text.value,text.title{fill:var(--ink)}text.title{font-weight:bold}.hit{"
                         "fill:none;stroke:none}\n"),
             "</style>\n<rect width='", coordinate(width), "' height='", coordinate(height),
             "' fill='#ffffff'/>\n<g transform='translate(", coordinate(kMargin), " ", coordinate(kMargin), ")'>\n",
             body, "</g>\n</svg>\n");
}

std::string chart_style() {
  std::string light, dark;
  for (const Variable& one : kColors) {
    light += cat(light.empty() ? "" : ";", one.name, ":", one.light);
    dark += cat(dark.empty() ? "" : ";", one.name, ":", one.dark);
  }
  return cat(":root{", light, "}\n@media (prefers-color-scheme:dark){:root{", dark, "}}\n", kDrawing,
             R"(figure{margin:0;max-width:640px;min-width:0}
figure>svg{display:block;width:100%;height:auto;font-size:13px;font-family:inherit}
figure text{fill:var(--soft)}
figure text.value{fill:var(--ink)}
figcaption{font-weight:600;margin-bottom:.35rem}
.legend{display:flex;flex-wrap:wrap;gap:.1rem .9rem;font-size:.85rem;color:var(--soft);margin-bottom:.3rem}
.legend span{display:inline-flex;align-items:center;gap:.35rem}
.legend svg{flex:none}
.note,.nothing{font-size:.85rem;color:var(--soft);margin:.3rem 0}
.nothing{padding:3rem 1rem;text-align:center;border:1px dashed var(--line);border-radius:6px}
.hit{fill:transparent;stroke:none}
.hit:hover{fill:currentColor;fill-opacity:.35}
)");
}

}  // namespace deeplora
