#include "report/html_page.h"

#include <algorithm>
#include <stdexcept>

#include "core/error.h"
#include "report/escape.h"

namespace deeplora {
namespace {

constexpr const char* kStyle =
    R"(:root{color-scheme:light dark;--paper:#fff;--card:#f6f7f9;--ink:#1b1f24;--soft:#59636e;--line:#dfe3e8;--accent:#0072b2;--shade:#1b1f2440}
@media (prefers-color-scheme:dark){:root{--paper:#14171b;--card:#1d2127;--ink:#e8ebee;--soft:#a2acb8;--line:#333a43;--accent:#56b4e9;--shade:#00000090}}
*{box-sizing:border-box}
body{margin:0;background:var(--paper);color:var(--ink);font:16px/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Noto Sans","DejaVu Sans",sans-serif}
main{padding:1.5rem clamp(1rem,2.5vw,3rem) 4rem}
h1{font-size:1.6rem;line-height:1.25;margin:.2rem 0;overflow-wrap:anywhere}
h2{font-size:1.15rem;margin:2.2rem 0 .8rem;padding-bottom:.3rem;border-bottom:1px solid var(--line)}
p{max-width:75ch;overflow-wrap:anywhere}
ul{max-width:80ch;padding-left:1.2rem}
li{margin:.3rem 0;overflow-wrap:anywhere}
.subtitle{color:var(--soft);margin:0 0 1rem}
.highlights{display:grid;grid-template-columns:repeat(auto-fit,minmax(8.5rem,1fr));gap:.7rem;margin:1.2rem 0}
.highlights div{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.6rem .8rem}
.highlights b{display:block;font-size:1.35rem;font-weight:650;line-height:1.25;overflow-wrap:anywhere;font-variant-numeric:tabular-nums}
.highlights span{font-size:.85rem;color:var(--soft)}
.charts{display:grid;grid-template-columns:repeat(auto-fill,minmax(min(100%,26rem),1fr));gap:1.8rem 2.2rem;margin:1rem 0}
dl{display:grid;grid-template-columns:minmax(8rem,auto) minmax(0,1fr);gap:.25rem 1.2rem;margin:.8rem 0}
dt{color:var(--soft)}
dd{margin:0;overflow-wrap:anywhere}
.scroll{overflow-x:auto;margin:.8rem 0;background:linear-gradient(to left,var(--paper) 40%,transparent) right/3rem 100% no-repeat local,linear-gradient(to left,var(--shade),transparent) right/1.1rem 100% no-repeat scroll}
details .scroll{background:linear-gradient(to left,var(--card) 40%,transparent) right/3rem 100% no-repeat local,linear-gradient(to left,var(--shade),transparent) right/1.1rem 100% no-repeat scroll}
table{border-collapse:collapse;font-size:.9rem;font-variant-numeric:tabular-nums}
th,td{padding:.32rem .7rem;border-bottom:1px solid var(--line);text-align:left;white-space:nowrap}
th{color:var(--soft);font-weight:600}
th:first-child,td:first-child{padding-left:0;position:sticky;left:0;background:var(--paper)}
details th:first-child,details td:first-child{background:var(--card)}
.texts td{white-space:normal;vertical-align:top}
.texts td:first-child{white-space:pre-wrap;overflow-wrap:anywhere;min-width:14rem;max-width:70ch;position:static}
.texts td:not(:first-child):not(.number){white-space:pre-wrap;overflow-wrap:anywhere;max-width:45ch}
.number{text-align:right}
tbody tr:hover{background:var(--card)}
details{background:var(--card);border:1px solid var(--line);border-radius:8px;padding:.5rem .9rem;margin:.8rem 0}
summary{cursor:pointer;font-weight:600}
pre{overflow-x:auto;font:.85rem/1.5 ui-monospace,"SFMono-Regular",Menlo,Consolas,"DejaVu Sans Mono",monospace;margin:.6rem 0}
@media (max-width:30rem){dl{grid-template-columns:1fr;gap:0}dd{margin-bottom:.5rem}td:first-child{white-space:normal;overflow-wrap:anywhere;min-width:8.5rem}}
@media print{.scroll{overflow:visible;background:none}th,td{white-space:normal}details,.highlights div{break-inside:avoid}figure{break-inside:avoid}}
)";

/// Digits with signs, points, exponents, units of a spread ("0.81 ± 0.02"), or a word for a missing number.
bool looks_numeric(const std::string& cell) {
  if (cell == "undefined" || cell == "infinite" || cell == "-infinite") return true;
  std::string rest = cell;
  for (size_t at = rest.find("±"); at != std::string::npos; at = rest.find("±"))
    rest.erase(at, std::string("±").size());
  return rest.find_first_of("0123456789") != std::string::npos &&
         rest.find_first_not_of("0123456789.,+-eE% ") == std::string::npos;
}

std::vector<bool> numeric_columns(size_t columns, const std::vector<std::vector<std::string>>& rows) {
  std::vector<bool> numeric(columns, true), filled(columns, false);
  for (const auto& row : rows)
    for (size_t i = 0; i < columns; ++i) {
      numeric[i] = numeric[i] && (row[i].empty() || looks_numeric(row[i]));
      filled[i] = filled[i] || !row[i].empty();
    }
  for (size_t i = 0; i < columns; ++i) numeric[i] = numeric[i] && filled[i];
  return numeric;
}

/// "Score against rank: 64 rows" as "score-against-rank-64-rows".
std::string file_name(std::string_view title) {
  constexpr size_t kLongest = 60;
  std::string out;
  for (const char c : title) {
    const bool plain = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
    if (plain) out += static_cast<char>(c >= 'A' && c <= 'Z' ? c - 'A' + 'a' : c);
    else if (!out.empty() && out.back() != '-') out += '-';
  }
  out.resize(std::min(out.size(), kLongest));
  while (out.ends_with('-')) out.pop_back();
  return out.empty() ? "figure" : out;
}

}  // namespace

Page::Page(std::string title, std::string subtitle) : title_(std::move(title)), subtitle_(std::move(subtitle)) {}

void Page::heading(std::string_view text) { add(cat("<h2>", escape_html(text), "</h2>\n")); }

void Page::paragraph(std::string_view text) { add(cat("<p>", escape_html(text), "</p>\n")); }

void Page::list(const std::vector<std::string>& items) {
  std::string out = "<ul>";
  for (const std::string& item : items) out += cat("<li>", escape_html(item), "</li>\n");
  add(out + "</ul>\n");
}

void Page::highlights(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string out = "<div class='highlights'>";
  for (const auto& [name, value] : items)
    out += cat("<div><b>", escape_html(value), "</b><span>", escape_html(name), "</span></div>");
  add(out + "</div>\n");
}

void Page::key_values(const std::vector<std::pair<std::string, std::string>>& items) {
  std::string out = "<dl>";
  for (const auto& [name, value] : items)
    out += cat("<dt>", escape_html(name), "</dt><dd>", escape_html(value), "</dd>");
  add(out + "</dl>\n");
}

void Page::table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  add_table("scroll", header, rows);
}

void Page::texts(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
  add_table("scroll texts", header, rows);
}

void Page::add_table(std::string_view css_class, const std::vector<std::string>& header,
                     const std::vector<std::vector<std::string>>& rows) {
  for (const auto& row : rows)
    if (row.size() != header.size())
      throw std::invalid_argument(cat("a table row has ", row.size(), " cells for ", header.size(), " columns"));
  const std::vector<bool> numeric = numeric_columns(header.size(), rows);
  const auto cells = [&](const std::vector<std::string>& row, const char* tag) {
    std::string out = "<tr>";
    for (size_t i = 0; i < row.size(); ++i)
      out += cat("<", tag, numeric[i] ? " class='number'>" : ">", escape_html(row[i]), "</", tag, ">");
    return out + "</tr>\n";
  };
  std::string out = cat("<div class='", css_class, "'><table>\n<thead>", cells(header, "th"), "</thead>\n<tbody>\n");
  for (const auto& row : rows) out += cells(row, "td");
  add(out + "</tbody></table></div>\n");
}

void Page::code(std::string_view title, std::string_view text, bool open) {
  add(cat("<details", open ? " open" : "", "><summary>", escape_html(title), "</summary><pre>", escape_html(text),
          "</pre></details>\n"));
}

void Page::begin_fold(std::string_view title) { add(cat("<details><summary>", escape_html(title), "</summary>\n")); }

void Page::end_fold() { add("</details>\n"); }

void Page::add(const std::string& element) {
  if (in_charts_) body_ += "</div>\n";
  in_charts_ = false;
  body_ += element;
}

void Page::figure(const Figure& figure) {
  if (!in_charts_) body_ += "<div class='charts'>\n";
  in_charts_ = true;
  body_ += figure_html(figure);
  const std::string name = file_name(figure.title);
  std::string own = name;
  const auto taken = [&] {
    return std::any_of(figures_.begin(), figures_.end(), [&](const auto& other) { return other.first == own; });
  };
  for (int number = 2; taken(); ++number) own = cat(name, "-", number);
  figures_.emplace_back(own, figure_svg(figure));
}

std::string Page::html() const {
  const std::string title = escape_html(title_);
  // The policy forbids every request: the page cannot reach a network even if a text smuggled in a link to
  // one.
  return cat(
      "<!DOCTYPE html>\n<html lang='en'>\n<head>\n<meta charset='utf-8'>\n"
      "<meta name='viewport' content='width=device-width, initial-scale=1'>\n"
      "<meta http-equiv='Content-Security-Policy' content=\"default-src 'none'; style-src "
      "'unsafe-inline'\">\n<title>",
      title, "</title>\n<style>\n", kStyle, chart_style(), "</style>\n</head>\n<body>\n<main>\n<h1>", title, "</h1>\n",
      subtitle_.empty() ? "" : cat("<p class='subtitle'>", escape_html(subtitle_), "</p>\n"), body_,
      in_charts_ ? "</div>\n" : "", "</main>\n</body>\n</html>\n");
}

}  // namespace deeplora
