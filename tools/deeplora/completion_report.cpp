#include "completion_report.h"

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <map>
#include <set>
#include <sstream>

#include "core/error.h"
#include "core/files.h"
#include "core/json_file.h"
#include "report/axis.h"
#include "report/html_page.h"

namespace deeplora {
namespace {

using Json = nlohmann::ordered_json;
constexpr double kNothing = std::numeric_limits<double>::quiet_NaN();
constexpr size_t kMostLines = 24;

double number(const Json& value) { return value.is_number() ? value.get<double>() : kNothing; }

std::optional<double> as_number(const std::string& text) {
  double value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

/// What a row of metrics.jsonl says of W and its factors.
struct Track {
  struct Factor {
    std::string name;
    std::vector<double> singular_values;
    double smallest, tail_change, angle;  ///< the last two NaN where no subspace is watched
  };
  std::vector<double> singular_values;
  double numerical_rank, effective_rank;
  std::vector<Factor> factors;
};

Track read_track(const OrderedJsonFile& row) {
  const OrderedJsonFile json = row.section("track");
  Track out{.singular_values = json.at<std::vector<double>>("singular_values"),
            .numerical_rank = json.value("numerical_rank", kNothing),
            .effective_rank = json.value("effective_rank", kNothing),
            .factors = {}};
  for (const Json& item : json_member(json.root, "factors", json.name)) {
    const OrderedJsonFile factor{json.name + ": factors", item};
    out.factors.push_back({.name = json_at<std::string>(item, "name", factor.name),
                           .singular_values = factor.at<std::vector<double>>("singular_values"),
                           .smallest = factor.value("smallest", kNothing),
                           .tail_change = factor.value("tail_change", kNothing),
                           .angle = factor.value("angle", kNothing)});
  }
  check(!out.factors.empty(), json.name, ": factors: expected at least one, found none");
  return out;
}

/// What a line or row is called whose settings are nothing special.
std::string named(const std::string& settings) { return settings.empty() ? "run" : settings; }

/// The rows of a member's metrics.jsonl.
struct Course {
  std::string name;
  std::vector<double> eval_steps, eval_seconds, error, loss_steps, loss, track_steps;
  std::vector<Track> track;
};

Course read_course(const CompletionMember& member) {
  Course out;
  out.name = named(member.name);
  const auto file = member.folder / "metrics.jsonl";
  std::error_code ignored;
  if (!std::filesystem::exists(file, ignored)) return out;
  std::istringstream lines(read_file(file));
  double seconds = 0;
  size_t number_of_line = 0;
  for (std::string line; std::getline(lines, line);) {
    ++number_of_line;
    const Json row = Json::parse(line, nullptr, /*allow_exceptions=*/false);
    if (!row.is_object() || !row.contains("step")) continue;
    const double step = number(row["step"]);
    if (row.contains("seconds")) seconds = number(row["seconds"]);
    if (row.contains("loss")) {
      out.loss_steps.push_back(step);
      out.loss.push_back(number(row["loss"]));
    }
    if (row.contains("eval") && row["eval"].contains("recovery_error")) {
      out.eval_steps.push_back(step);
      out.eval_seconds.push_back(seconds);
      out.error.push_back(number(row["eval"]["recovery_error"]));
    }
    if (row.contains("track")) {
      out.track_steps.push_back(step);
      out.track.push_back(read_track({cat(file.string(), ":", number_of_line), row}));
    }
  }
  return out;
}

/// Charts read better with a few hundred points a line.
LineSeries thinned(const std::string& name, const std::vector<double>& x, const std::vector<double>& y) {
  constexpr size_t kPoints = 400;
  LineSeries out{.name = name};
  const size_t every = std::max<size_t>(1, x.size() / kPoints);
  for (size_t i = 0; i < x.size(); ++i)
    if (i % every == 0 || i + 1 == x.size()) {
      out.x.push_back(x[i]);
      out.y.push_back(y[i]);
    }
  return out;
}

/// Iterations are better seen on a logarithmic axis when some runs end ten times before others.
bool lengths_differ(const std::vector<LineSeries>& series) {
  constexpr double kMuch = 10;
  double shortest = std::numeric_limits<double>::infinity(), longest = 0;
  for (const auto& one : series)
    if (!one.x.empty()) shortest = std::min(shortest, one.x.back()), longest = std::max(longest, one.x.back());
  return shortest > 0 && longest > kMuch * shortest;
}

void add_course_charts(Page& page, const std::vector<Course>& courses) {
  std::vector<LineSeries> by_step, by_time, losses;
  for (const Course& c : courses) {
    if (by_step.size() == kMostLines) break;
    by_step.push_back(thinned(c.name, c.eval_steps, c.error));
    by_time.push_back(thinned(c.name, c.eval_seconds, c.error));
    losses.push_back(thinned(c.name, c.loss_steps, c.loss));
  }
  page.heading("Course");
  if (courses.size() > kMostLines)
    page.paragraph(cat("The first ", kMostLines, " of ", courses.size(), " runs are drawn."));
  const bool log_steps = lengths_differ(by_step), log_time = lengths_differ(by_time);
  page.chart(LineChart{.title = "Recovery error by iteration",
                       .x_label = "iteration",
                       .y_label = "recovery error",
                       .series = std::move(by_step),
                       .log_x = log_steps,
                       .log_y = true});
  page.chart(LineChart{.title = "Recovery error by time",
                       .x_label = "seconds of iterations",
                       .y_label = "recovery error",
                       .series = std::move(by_time),
                       .log_x = log_time,
                       .log_y = true});
  page.chart(LineChart{.title = "Training loss",
                       .x_label = "iteration",
                       .y_label = "loss",
                       .series = std::move(losses),
                       .log_x = log_steps,
                       .log_y = true});
}

/// Lines of one number per entry of the tracked rows.
LineSeries tracked(const Course& course, const std::string& name, const std::function<double(const Track&)>& value) {
  LineSeries out{.name = name};
  for (size_t i = 0; i < course.track.size(); ++i) {
    out.x.push_back(course.track_steps[i]);
    out.y.push_back(value(course.track[i]));
  }
  return out;
}

/// NaN where a row has fewer values than the first.
double entry(const std::vector<double>& values, size_t k) { return k < values.size() ? values[k] : kNothing; }

void add_spectra(Page& page, const Course& course) {
  constexpr size_t kValues = 12;
  const Track& first = course.track.front();
  std::vector<LineSeries> values;
  for (size_t k = 0; k < std::min(kValues, first.singular_values.size()); ++k)
    values.push_back(
        tracked(course, cat("value ", k + 1), [k](const Track& t) { return entry(t.singular_values, k); }));
  page.chart(LineChart{.title = cat("Singular values of W: ", course.name),
                       .x_label = "iteration",
                       .y_label = "singular value",
                       .series = std::move(values),
                       .log_y = true});
  std::vector<LineSeries> tails, angles, of_factor;
  for (size_t f = 0; f < first.factors.size(); ++f) {
    if (std::isnan(first.factors[f].tail_change)) continue;
    const auto watched = [&course, &first, f](double Track::Factor::* what) {
      return tracked(course, first.factors[f].name,
                     [f, what](const Track& t) { return f < t.factors.size() ? t.factors[f].*what : kNothing; });
    };
    tails.push_back(watched(&Track::Factor::tail_change));
    angles.push_back(watched(&Track::Factor::angle));
  }
  for (size_t k = 0; k < std::min(kValues, first.factors[0].singular_values.size()); ++k)
    of_factor.push_back(
        tracked(course, cat("value ", k + 1), [k](const Track& t) { return entry(t.factors[0].singular_values, k); }));
  of_factor.push_back(tracked(course, "smallest", [](const Track& t) { return t.factors[0].smallest; }));
  page.chart(LineChart{.title = cat("Singular values of the first factor: ", course.name),
                       .x_label = "iteration",
                       .y_label = "singular value",
                       .series = std::move(of_factor),
                       .log_y = true});
  if (tails.empty()) return;
  page.chart(LineChart{.title = cat("Change outside the invariant subspace: ", course.name),
                       .x_label = "iteration",
                       .y_label = "relative to the start",
                       .series = std::move(tails),
                       .log_y = true});
  page.chart(LineChart{.title = cat("Angle between the subspace's image and its start: ", course.name),
                       .x_label = "iteration",
                       .y_label = "degrees",
                       .series = std::move(angles)});
}

void add_tracks(Page& page, const std::vector<Course>& courses) {
  std::vector<LineSeries> ranks, effective;
  std::vector<const Course*> with;
  for (const Course& c : courses)
    if (!c.track.empty() && with.size() < kMostLines) {
      with.push_back(&c);
      ranks.push_back(tracked(c, c.name, [](const Track& t) { return t.numerical_rank; }));
      effective.push_back(tracked(c, c.name, [](const Track& t) { return t.effective_rank; }));
    }
  if (with.empty()) return;
  page.heading("Spectra over training");
  page.paragraph(
      "Numerical rank: singular values above 1 % of the largest. For full-width chains, the invariant subspace is the "
      "one that the gradient at the start picks "
      "out (2 x rank directions); outside it a factor is to stay as it started.");
  page.chart(
      LineChart{.title = "Numerical rank of W", .x_label = "iteration", .y_label = "rank", .series = std::move(ranks)});
  page.chart(LineChart{
      .title = "Effective rank of W", .x_label = "iteration", .y_label = "rank", .series = std::move(effective)});
  constexpr size_t kMostSpectra = 4;
  for (size_t i = 0; i < std::min(kMostSpectra, with.size()); ++i) add_spectra(page, *with[i]);
}

/// Of values that rise: the middle one, or the mean of the two middle ones.
double median_of(const std::vector<double>& rising) {
  const size_t half = rising.size() / 2;
  return rising.size() % 2 ? rising[half] : (rising[half - 1] + rising[half]) / 2;
}

struct Spread {
  double mean = kNothing, deviation = 0;
  size_t count = 0;
};

Spread spread_of(const std::vector<double>& values) {
  Spread out;
  double sum = 0, squares = 0;
  for (const double v : values)
    if (std::isfinite(v)) {
      sum += v;
      squares += v * v;
      ++out.count;
    }
  if (out.count == 0) return out;
  const auto n = static_cast<double>(out.count);
  out.mean = sum / n;
  if (out.count > 1) out.deviation = std::sqrt(std::max(0.0, (squares - n * out.mean * out.mean) / (n - 1)));
  return out;
}

/// The settings of a member as one text, without its trial and without `key`.
std::string setting_of(const CompletionMember& member, const std::string& key = {}) {
  std::string out;
  for (const auto& [name, value] : member.values)
    if (name != "trial" && name != key) out += cat(out.empty() ? "" : ", ", name == "variant" ? "" : name + "=", value);
  return out;
}

/// Median and range of `field` (one trial that gets nowhere moves a mean by orders of magnitude) by the swept number
/// `key`, a line for each combination of the other values.
LineChart chart_by(const std::vector<CompletionMember>& members, const std::string& key, const std::string& field,
                   const std::string& title, bool log_y) {
  std::map<std::string, std::map<double, std::vector<double>>> lines;
  std::vector<std::string> order;
  for (const CompletionMember& member : members) {
    const std::string name = setting_of(member, key);
    std::optional<double> x;
    for (const auto& [k, value] : member.values)
      if (k == key) x = as_number(value);
    if (!x || member.result.is_null()) continue;
    const double value = number(member.result.value(field, Json()));
    if (!std::isfinite(value)) continue;
    if (!lines.count(name)) order.push_back(name);
    lines[name][*x].push_back(value);
  }
  LineChart out{.title = title, .x_label = key, .y_label = field, .series = {}, .log_x = false, .log_y = log_y};
  for (const std::string& name : order) {
    LineSeries series{.name = name.empty() ? field : name};
    for (auto& [x, values] : lines[name]) {
      std::sort(values.begin(), values.end());
      series.x.push_back(x);
      series.y.push_back(median_of(values));
      series.low.push_back(values.front());
      series.high.push_back(values.back());
    }
    if (out.series.size() < kMostLines) out.series.push_back(std::move(series));
  }
  return out;
}

void add_swept_charts(Page& page, const std::vector<CompletionMember>& members) {
  std::map<std::string, std::set<std::string>> seen;
  std::vector<std::string> order;
  for (const auto& member : members)
    for (const auto& [key, value] : member.values) {
      if (!seen.count(key)) order.push_back(key);
      seen[key].insert(value);
    }
  bool first = true;
  for (const std::string& key : order) {
    const bool numbers =
        key != "trial" && seen[key].size() > 1 &&
        std::all_of(seen[key].begin(), seen[key].end(), [](const std::string& v) { return as_number(v).has_value(); });
    if (!numbers) continue;
    if (std::exchange(first, false)) page.heading("By what was varied");
    page.chart(
        chart_by(members, key, "iterations", cat("Iterations by ", key, " (median and range over trials)"), false));
    page.chart(chart_by(members, key, "recovery_error",
                        cat("Final recovery error by ", key, " (median and range over trials)"), true));
  }
}

/// Recovery error of a model without factors ("mean", "bias"); no number where there is none.
double baseline_error(const Json& result, const std::string& name) {
  if (!result.contains("baselines") || !result["baselines"].contains(name)) return kNothing;
  const double rmse = number(result["baselines"][name]["rmse"]);
  return rmse * rmse / 2;
}

bool has_trials(const std::vector<CompletionMember>& members) {
  return std::any_of(members.front().values.begin(), members.front().values.end(),
                     [](const auto& value) { return value.first == "trial"; });
}

/// One row for each setting: what came out over its trials.
void add_trials(Page& page, const std::vector<CompletionMember>& members) {
  std::vector<std::string> order;
  std::map<std::string, std::vector<const CompletionMember*>> groups;
  for (const auto& member : members) {
    auto& group = groups[setting_of(member)];
    if (group.empty()) order.push_back(setting_of(member));
    group.push_back(&member);
  }
  std::vector<std::vector<std::string>> rows;
  for (const auto& name : order) {
    std::vector<double> iterations, errors;
    int64_t reached = 0;
    for (const CompletionMember* member : groups[name]) {
      if (member->result.is_null()) continue;
      reached += member->result.value("stopped", Json()) == "tolerance";
      iterations.push_back(number(member->result.value("iterations", Json())));
      errors.push_back(number(member->result.value("recovery_error", Json())));
    }
    std::sort(errors.begin(), errors.end());
    const Spread spread = spread_of(iterations);
    rows.push_back({named(name), cat(groups[name].size()), cat(reached), number_text(spread.mean),
                    number_text(spread.deviation), errors.empty() ? "" : number_text(errors.front()),
                    errors.empty() ? "" : number_text(median_of(errors)),
                    errors.empty() ? "" : number_text(errors.back())});
  }
  page.heading("Over trials");
  page.table({"setting", "trials", "reached the tolerance", "iterations, mean", "standard deviation", "error, least",
              "median", "most"},
             rows);
}

void add_table(Page& page, const std::vector<CompletionMember>& members) {
  const std::vector<std::string> fields = {
      "iterations",       "stopped", "recovery_error",      "loss", "seconds_per_iteration",
      "training_seconds", "width",   "trainable_parameters"};
  std::vector<std::string> header;
  for (const auto& [key, value] : members.front().values) header.push_back(key);
  header.insert(header.end(), fields.begin(), fields.end());
  header.insert(header.end(), {"error of the mean alone", "of mean and biases"});
  std::vector<std::vector<std::string>> rows;
  for (const auto& member : members) {
    std::vector<std::string> row;
    for (const auto& [key, value] : member.values) row.push_back(value);
    for (const auto& field : fields) {
      if (member.result.is_null()) {
        row.push_back(field == "stopped" ? member.failure : "");
        continue;
      }
      const Json value = member.result.value(field, Json());
      row.push_back(value.is_string()           ? value.get<std::string>()
                    : value.is_number_integer() ? value.dump()
                                                : number_text(number(value), 4));
    }
    for (const char* name : {"mean", "bias"})
      row.push_back(member.result.is_null() ? "" : number_text(baseline_error(member.result, name), 4));
    rows.push_back(std::move(row));
  }
  page.heading(members.size() > 1 ? "Every run" : "Result");
  page.table(header, rows);
}

}  // namespace

Page completion_report(const std::vector<CompletionMember>& members, const std::string& title,
                       const std::string& config_yaml) {
  if (members.empty()) throw std::invalid_argument("a report of no runs");
  const Json& first = members.front().result;
  Page page(title, members.size() > 1 ? cat(members.size(), " runs") : std::string());
  if (members.size() == 1 && !first.is_null())
    page.highlights({{"recovery error", number_text(number(first["recovery_error"]), 3)},
                     {"iterations", first["iterations"].dump()},
                     {"seconds of iterations", number_text(number(first["training_seconds"]), 3)},
                     {"microseconds an iteration", number_text(1e6 * number(first["seconds_per_iteration"]), 3)}});
  page.paragraph(
      "Recovery error: the mean over the unobserved entries of 1/2 (W - M)^2 (over all entries where everything is "
      "observed, or measurements replace entries).");
  const bool trials = has_trials(members);
  if (trials) add_trials(page, members);
  add_swept_charts(page, members);
  std::vector<Course> courses;
  std::set<std::string> drawn;
  for (const auto& member : members) {
    if (!drawn.insert(trials ? setting_of(member) : member.name).second) continue;
    courses.push_back(read_course(member));
    if (trials) courses.back().name = named(setting_of(member));
  }
  if (trials) page.paragraph("Below, the first trial of each setting is drawn.");
  add_course_charts(page, courses);
  add_tracks(page, courses);
  add_table(page, members);
  page.heading("Configuration");
  page.code("config.yaml", config_yaml);
  return page;
}

}  // namespace deeplora
