#include "compare/page.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <functional>
#include <limits>
#include <map>
#include <set>

#include "core/error.h"
#include "core/progress.h"
#include "report/html_page.h"

namespace deeplora {
namespace {

constexpr double kNaN = std::numeric_limits<double>::quiet_NaN();

double rounded(double value, double unit) { return std::round(value / unit) * unit; }

/// One place in the comparison: a rank and a number of training rows.
struct Place {
  int64_t rank = 0, samples = 0;
  auto operator<=>(const Place&) const = default;
};

class Report {
 public:
  Report(const ComparePage& page, const std::vector<ComparisonRow>& rows, const Comparison& comparison)
      : input_(page),
        rows_(rows),
        comparison_(comparison),
        plan_(comparison.plan()),
        page_(page.title, subtitle(comparison)) {}

  Page page() {
    add_verdict();
    add_table();
    add_scores();
    add_learning_rates();
    add_learning_curves();
    add_cost();
    add_updates();
    add_background();
    return std::move(page_);
  }

 private:
  static std::string subtitle(const Comparison& comparison) {
    const ComparePlan& plan = comparison.plan();
    std::vector<std::string> names;
    for (const MethodPlan& method : plan.methods) names.push_back(method.name);
    return cat(join(names), "; ", plan.seeds.size(), plan.seeds.size() == 1 ? " seed" : " seeds",
               "; baseline: ", plan.methods.at(plan.baseline).name);
  }

  std::vector<Place> places() const {
    std::vector<Place> out;
    for (const int64_t samples : plan_.samples)
      for (const int64_t rank : plan_.ranks) out.push_back({rank, samples});
    return out;
  }
  const std::string& name(size_t method) const { return plan_.methods.at(method).name; }
  std::string in_place(const Place& place) const {
    std::string out = place.rank > 0 ? cat("rank ", place.rank) : "";
    if (place.samples > 0) out += cat(out.empty() ? "" : ", ", place.samples, " rows");
    return out;
  }
  std::string titled(const std::string& what, const Place& place) const {
    const std::string where = in_place(place);
    return where.empty() ? what : cat(what, ": ", where);
  }
  size_t row_at(size_t method, const Place& place) const {
    const Group group = comparison_.group_at(method, place.rank, place.samples),
                beside = comparison_.group_at(plan_.baseline, place.rank, place.samples);
    for (size_t i = 0; i < rows_.size(); ++i)
      if (rows_[i].group == group && rows_[i].baseline == beside) return i;
    throw std::logic_error("no such row");
  }

  void add_verdict() {
    const size_t all = comparison_.cells().size(), done = comparison_.count(CellState::done),
                 dropped = comparison_.count(CellState::dropped);
    double seconds = 0;
    for (size_t i = 0; i < all; ++i)
      if (comparison_.outcome(i).state == CellState::done) seconds += comparison_.outcome(i).seconds;
    page_.highlights({{"runs finished", cat(done, " of ", all)},
                      {"given up early", cat(dropped)},
                      {"diverged / failed",
                       cat(comparison_.count(CellState::diverged), " / ", comparison_.count(CellState::failed))},
                      {"training time in all", duration_text(seconds)}});
    page_.heading("Verdict");
    page_.paragraph(overall_verdict(rows_, comparison_, input_.metric));
    add_differences();
    std::vector<std::string> sentences;
    for (const ComparisonRow& row : rows_)
      if (row.difference) sentences.push_back(verdict(row, comparison_, input_.metric));
    if (!sentences.empty()) page_.list(sentences);
    const auto missing = missing_cells(comparison_);
    if (missing.empty()) return;
    page_.heading("Runs without a result");
    page_.list(missing);
  }

  void add_table() {
    page_.heading("Scores");
    add_split_table(table_header(input_.metric), table_cells(rows_, comparison_));
  }

  /// A table, and below it what is the same in all of its rows.
  void add_split_table(const std::vector<std::string>& header, const std::vector<std::vector<std::string>>& rows) {
    const SplitTable table = without_equal_columns(header, rows);
    page_.table(table.header, table.rows);
    std::vector<std::string> same;
    for (const auto& [column, value] : table.equal) same.push_back(cat(column, " ", value));
    if (!same.empty()) page_.paragraph(cat("The same in all rows: ", join(same), "."));
  }

  /// A chart of one number per row of the table: methods in their colours, grouped by place where there are several.
  void add_row_chart(CategoryChart chart, bool with_baseline,
                     const std::function<std::array<double, 3>(const ComparisonRow&)>& value, bool ends) {
    const auto all = places();
    const bool grouped = all.size() > 1;
    for (size_t m = 0; m < plan_.methods.size(); ++m) {
      if (!with_baseline && m == plan_.baseline) continue;
      if (grouped || chart.series.empty()) chart.series.push_back({.name = grouped ? name(m) : std::string()});
      CategorySeries& series = chart.series.back();
      if (grouped) series.color = m;
      else chart.categories.push_back(name(m));
      for (const Place& place : all) {
        const auto [middle, low, high] = value(rows_[row_at(m, place)]);
        series.values.push_back(middle);
        if (ends) series.low.push_back(low), series.high.push_back(high);
      }
    }
    if (grouped)
      for (const Place& place : all) chart.categories.push_back(in_place(place));
    if (!chart.series.empty()) page_.chart(chart);
  }

  void add_differences() {
    CategoryChart chart{.title = cat("Difference to ", name(plan_.baseline), " in test ", input_.metric),
                        .value_label = "difference, 95 % interval"};
    chart.zero_line = true;
    const auto value = [](const ComparisonRow& row) {
      const bool known = row.difference && row.difference->pairs > 0;
      return known ? std::array{rounded(row.difference->mean, 1e-3), row.difference->low, row.difference->high}
                   : std::array{kNaN, kNaN, kNaN};
    };
    if (plan_.methods.size() > 1) add_row_chart(std::move(chart), false, value, true);
  }

  /// Score over one of the varied numbers, the other held at each of its values.
  void add_score_chart(const std::string& title, const std::string& x_label, const std::vector<int64_t>& xs,
                       const std::function<Place(int64_t)>& place) {
    LineChart chart{
        .title = title, .x_label = x_label, .y_label = cat("test ", input_.metric), .log_x = true, .whiskers = true};
    for (size_t m = 0; m < plan_.methods.size(); ++m) {
      LineSeries line{.name = name(m)};
      for (const int64_t x : xs) {
        const Summary& test = rows_[row_at(m, place(x))].test;
        line.x.push_back(static_cast<double>(x));
        line.y.push_back(test.mean);
        line.low.push_back(test.n > 1 ? test.mean - test.sd : test.mean);
        line.high.push_back(test.n > 1 ? test.mean + test.sd : test.mean);
      }
      chart.series.push_back(std::move(line));
    }
    page_.chart(chart);
  }

  void add_scores() {
    const bool ranks = plan_.ranks.size() > 1, samples = plan_.samples.size() > 1;
    if (!ranks && !samples) return;
    page_.heading(ranks && samples ? "Score against rank and number of training rows"
                  : ranks          ? "Score against rank"
                                   : "Score against number of training rows");
    page_.paragraph(
        "Mean over seeds at the chosen learning rates; the bars reach one standard deviation to each side.");
    if (samples)
      for (const int64_t rank : plan_.ranks)
        add_score_chart(titled("Score against rows", {rank, 0}), "training rows", plan_.samples,
                        [&](int64_t x) { return Place{rank, x}; });
    if (ranks)
      for (const int64_t n : plan_.samples)
        add_score_chart(titled("Score against rank", {0, n}), "rank", plan_.ranks,
                        [&](int64_t x) { return Place{x, n}; });
  }

  void add_learning_rates() {
    page_.heading("Learning rates");
    page_.paragraph(cat("Mean dev ", input_.metric,
                        " of every learning rate that was tried, with one standard deviation over its seeds. Test rows "
                        "play no part here."));
    for (const Place& place : places()) {
      LineChart chart{.title = titled("Learning rates", place),
                      .x_label = "learning rate",
                      .y_label = cat("dev ", input_.metric),
                      .log_x = true,
                      .whiskers = true};
      for (size_t m = 0; m < plan_.methods.size(); ++m) {
        LineSeries line{.name = name(m)};
        for (const LrOutcome& tried : rows_[row_at(m, place)].choice.tried) {
          line.x.push_back(tried.lr);
          line.y.push_back(tried.summary.mean);
          line.low.push_back(tried.summary.n > 1 ? tried.summary.mean - tried.summary.sd : tried.summary.mean);
          line.high.push_back(tried.summary.n > 1 ? tried.summary.mean + tried.summary.sd : tried.summary.mean);
        }
        chart.series.push_back(std::move(line));
      }
      page_.chart(chart);
    }
    add_split_table(rates_header(), rates_cells(comparison_));
  }

  /// Mean over the seeds at every step that all of them evaluated.
  LineSeries mean_curve(size_t row) const {
    LineSeries out{.name = name(rows_[row].group.method)};
    std::map<double, std::vector<double>> at;
    for (const LearningCurve& curve : input_.evidence[row].curves)
      for (size_t i = 0; i < curve.steps.size(); ++i) at[curve.steps[i]].push_back(curve.values[i]);
    for (const auto& [step, values] : at) {
      if (values.size() != input_.evidence[row].curves.size()) continue;
      const Summary s = summarize(values);
      out.x.push_back(step);
      out.y.push_back(s.mean);
      out.low.push_back(s.n > 1 ? s.mean - s.sd : s.mean);
      out.high.push_back(s.n > 1 ? s.mean + s.sd : s.mean);
    }
    return out;
  }

  void add_learning_curves() {
    page_.heading("Learning curves");
    page_.paragraph(cat("Dev ", input_.metric,
                        " over the optimizer steps at the chosen learning rates: mean over seeds, one standard "
                        "deviation to each side."));
    for (const Place& place : places()) {
      LineChart chart{.title = titled("Learning curves", place),
                      .x_label = "optimizer step",
                      .y_label = cat("dev ", input_.metric),
                      .whiskers = true};
      for (size_t m = 0; m < plan_.methods.size(); ++m) chart.series.push_back(mean_curve(row_at(m, place)));
      page_.chart(chart);
    }
  }

  /// Means over seeds, with one standard deviation to each side.
  void add_bars(const std::string& title, const std::string& label, double unit,
                const std::function<Summary(const ComparisonRow&)>& value) {
    const auto with_ends = [&](const ComparisonRow& row) {
      if (row.seeds.empty()) return std::array{kNaN, kNaN, kNaN};
      const Summary s = value(row);
      const double sd = s.n > 1 ? s.sd : 0;
      return std::array{rounded(s.mean, unit), s.mean - sd, s.mean + sd};
    };
    add_row_chart({.title = title, .value_label = label, .bars = true}, true, with_ends, plan_.seeds.size() > 1);
  }

  void add_cost() {
    page_.heading("Cost");
    page_.paragraph(
        "Mean over seeds, with one standard deviation to each side; each run in a process of its own. Runs that share "
        "the machine slow "
        "each other down, so compare times within this page only.");
    add_bars("Wall-clock time of a run", "seconds", 0.1, [](const ComparisonRow& row) { return row.seconds; });
    add_bars("Speed of training", "samples/s", 0.1, [](const ComparisonRow& row) { return row.samples_per_second; });
    add_bars("Peak memory of a run", "MB", 1, [](const ComparisonRow& row) { return row.peak_rss_mb; });
    add_bars("Trained parameters", "parameters", 1,
             [](const ComparisonRow& row) { return summarize(std::vector<double>{row.parameters}); });
  }

  /// Mean numerical rank by role and layer; "" roles and layers without a number get a place of their own.
  HeatMap rank_map(size_t row, double highest) const {
    std::map<std::string, std::map<int64_t, std::vector<double>>> ranks;
    std::set<int64_t> layers;
    std::vector<std::string> roles;
    for (const LearnedUpdate& update : input_.evidence[row].updates) {
      if (ranks.count(update.role) == 0) roles.push_back(update.role);
      ranks[update.role][update.layer].push_back(static_cast<double>(update.numerical_rank));
      layers.insert(update.layer);
    }
    HeatMap map{.title = row_title(rows_[row], comparison_), .column_label = "layer", .low = 0, .high = highest};
    for (const int64_t layer : layers) map.columns.push_back(layer < 0 ? "–" : cat(layer));
    for (const std::string& role : roles) {
      map.rows.push_back(role);
      map.values.emplace_back();
      for (const int64_t layer : layers) {
        const auto& here = ranks.at(role);
        const auto found = here.find(layer);
        map.values.back().push_back(found == here.end() ? kNaN : summarize(found->second).mean);
      }
    }
    return map;
  }

  /// Singular values over each update's largest: median over weights and seeds, with the quartiles as band.
  LineSeries spectrum(size_t row) const {
    LineSeries out{.name = name(rows_[row].group.method)};
    std::vector<std::vector<double>> at;
    for (const LearnedUpdate& update : input_.evidence[row].updates) {
      if (update.singular_values.empty() || !(update.singular_values[0] > 0)) continue;
      if (at.size() < update.singular_values.size()) at.resize(update.singular_values.size());
      for (size_t i = 0; i < update.singular_values.size(); ++i)
        at[i].push_back(update.singular_values[i] / update.singular_values[0]);
    }
    constexpr double kFloor = 1e-6;  // below, float32 says nothing
    for (size_t i = 0; i < at.size(); ++i) {
      std::sort(at[i].begin(), at[i].end());
      const auto part = [&](double share) {
        return std::max(at[i][static_cast<size_t>(share * static_cast<double>(at[i].size() - 1) + 0.5)], kFloor);
      };
      out.x.push_back(static_cast<double>(i + 1));
      out.y.push_back(part(0.5));
      out.low.push_back(part(0.25));
      out.high.push_back(part(0.75));
    }
    return out;
  }

  /// Where learned updates are drawn: every rank at the largest number of rows, every number of rows at the smallest
  /// rank.
  std::vector<Place> update_places() const {
    std::vector<Place> out;
    for (const Place& place : places())
      if (place.samples == plan_.samples.back() || place.rank == plan_.ranks.front()) out.push_back(place);
    return out;
  }

  void add_updates() {
    double highest = 0;
    for (const RowEvidence& evidence : input_.evidence)
      for (const LearnedUpdate& update : evidence.updates)
        highest = std::max(highest, static_cast<double>(update.numerical_rank));
    if (highest == 0) return;
    page_.heading("Learned updates");
    page_.paragraph(
        "Singular values of every learned update, divided by its largest: median over the adapted weights and seeds, "
        "with the "
        "quartiles as band; values below 1e-6 are drawn "
        "there. Every update's own values are in updates.csv.");
    for (const Place& place : update_places()) {
      LineChart chart{.title = titled("Spectrum of the learned updates", place),
                      .x_label = "index of the singular value",
                      .y_label = "relative to the largest",
                      .log_y = true};
      for (size_t m = 0; m < plan_.methods.size(); ++m)
        if (const size_t row = row_at(m, place); !input_.evidence[row].updates.empty())
          chart.series.push_back(spectrum(row));
      if (!chart.series.empty()) page_.chart(chart);
    }
    page_.table(updates_header(), updates_cells(input_.evidence, rows_, comparison_));
    page_.paragraph(
        "Numerical rank (singular values above 1 % of the largest) of the learned updates by layer and role, mean over "
        "seeds:");
    std::set<size_t> drawn;  // a method without a rank has one row at several places
    for (const Place& place : update_places())
      for (size_t m = 0; m < plan_.methods.size(); ++m)
        if (const size_t row = row_at(m, place); !input_.evidence[row].updates.empty() && drawn.insert(row).second)
          page_.chart(rank_map(row, highest));
  }

  void add_background() {
    page_.heading("How this was made");
    for (const std::string& note : method_notes(rows_, comparison_, input_.metric)) page_.paragraph(note);
    if (!input_.facts.empty()) page_.key_values(input_.facts);
    if (!input_.config_yaml.empty()) page_.code("Configuration", input_.config_yaml);
  }

  const ComparePage& input_;
  const std::vector<ComparisonRow>& rows_;
  const Comparison& comparison_;
  const ComparePlan& plan_;
  Page page_;
};

}  // namespace

Page comparison_page(const ComparePage& page, const std::vector<ComparisonRow>& rows, const Comparison& comparison) {
  return Report(page, rows, comparison).page();
}

}  // namespace deeplora
