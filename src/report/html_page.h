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
  /// The same, of texts as people write them: they are wrapped, and line breaks stay.
  void texts(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows);
  /// Text with its line breaks, folded under a title.
  void code(std::string_view title, std::string_view text, bool open = false);
  /// What is added until end_fold() is folded under a title.
  void begin_fold(std::string_view title);
  void end_fold();
  /// Charts called one after the other share rows where the page is wide enough.
  template <class Chart>
  void chart(const Chart& chart) {
    figure(drawn(chart));
  }

  std::string html() const;
  /// The charts as files: {name without extension, SVG}; the names are made of the titles, all different.
  const std::vector<std::pair<std::string, std::string>>& figures() const { return figures_; }

 private:
  void add(const std::string& element);
  void figure(const Figure& figure);
  void add_table(std::string_view css_class, const std::vector<std::string>& header,
                 const std::vector<std::vector<std::string>>& rows);
  std::string title_, subtitle_, body_;
  std::vector<std::pair<std::string, std::string>> figures_;
  bool in_charts_ = false;
};

}  // namespace deeplora
