// A self-contained HTML page: no script, no network, light and dark, readable on a telephone and on a wide
// screen.
#pragma once

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "report/svg_chart.h"

namespace deeplora {

/// Elements appear in the order of the calls; every text is escaped.
class Page {
 public:
  explicit Page(std::string title, std::string subtitle = {});

  void heading(std::string_view text);
  void paragraph(std::string_view text);
  /// Large numbers with a word each, e.g. {"test pearson", "0.86"}.
  void highlights(const std::vector<std::pair<std::string, std::string>>& items);
  /// A list of sentences.
  void list(const std::vector<std::string>& items);
  void key_values(const std::vector<std::pair<std::string, std::string>>& items);
  /// Columns in which every filled cell is a number are aligned to the right. Throws std::invalid_argument
  /// when a row is not as long as the header.
  void table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);
  /// Text with its line breaks, folded under a title.
  void code(std::string_view title, std::string_view text, bool open = false);
  /// Charts called one after the other share rows where the page is wide enough.
  void chart(const LineChart& chart) { figure(figure_html(chart)); }
  void chart(const CategoryChart& chart) { figure(figure_html(chart)); }
  void chart(const HeatMap& map) { figure(figure_html(map)); }

  std::string html() const;

 private:
  void add(const std::string& element);
  void figure(const std::string& element);
  std::string title_, subtitle_, body_;
  bool in_charts_ = false;
};

}  // namespace deeplora
