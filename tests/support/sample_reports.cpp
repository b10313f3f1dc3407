#include "tests/support/sample_reports.h"

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "core/error.h"
#include "report/html_page.h"
#include "report/run_report.h"
#include "tasks/label_report.h"

namespace deeplora {

namespace {

/// Rows of a classification, with a label that is never predicted.
void add_labels(RunRows& rows) {
  rows.split = "test";
  rows.details =
      label_report({"anger <!>", "joy", "fear", "none"}, std::vector<int64_t>{0, 1, 1, 0, 1, 3, 0, 1, 3, 3, 0, 1},
                   std::vector<int64_t>{0, 1, 0, 0, 1, 3, 2, 1, 3, 1, 0, 2},
                   std::vector<double>{.9, .8, .55, .7, .99, .6, .41, .83, .75, .52, .97, .66});
  rows.trained = {{"anger <!>", 120}, {"joy", 340}, {"fear", 12}, {"none", 88}};
  rows.mistakes = {
      {.text = "I <b>cannot</b> believe it\nsecond line", .label = "fear", .prediction = "joy", .number = 0.66},
      {.text = std::string(300, 'x') + " long", .label = "anger <!>", .prediction = "joy", .number = 0.55}};
  rows.uncertain = {{.text = "hm", .label = "fear", .prediction = "anger <!>", .number = 0.41}};
}

/// The same page also shows what a regression and generated text have.
void add_numbers(RunRows& rows) {
  for (int i = 0; i < 300; ++i) {
    rows.expected.push_back(i % 51 / 10.0);
    rows.predicted.push_back(i % 51 / 10.0 + 0.6 * std::sin(i * 12.9898) * std::cos(i * 78.233));
  }
  rows.errors = {{.text = "A man plays.\nA woman runs.", .label = "4.2", .prediction = "3.1", .number = -1.1}};
  rows.generated = {
      {.text = "Name three fruits.", .label = "Apple, pear, plum.", .prediction = "Apple, apple & apple."}};
}

}  // namespace

Page sample_report() {
  RunReport report{.title = "sts <b>\"few & shot\"</b>", .subtitle = "deep-lora on MiniLM, 2026-01-31T23:59:59Z"};
  report.highlights = {{"test pearson", "0.7253"},
                       {"trained parameters", "184 320 (0.8 %)"},
                       {"training time", "1:23"},
                       {"samples/s", "212"}};
  report.result = nlohmann::ordered_json::parse(
      R"({"task":"regression","method":"deep-lora","best":{"step":400,"pearson":0.731,"spearman":0.719,"loss":0.41},
          "last":{"step":600,"pearson":0.722,"spearman":null,"loss":0.44},"test":{"pearson":0.7253,"spearman":0.71},
          "trainable_parameters":184320,"seconds":83.2,"peak_rss_mb":912.4})");
  report.metric = "pearson";
  report.best_step = 400;
  report.train_loss.name = "train";
  RunCurve dev{.name = "pearson"}, dev_loss{.name = "loss"}, rate{.name = "adapter"}, head{.name = "head"};
  report.samples_per_second.name = "samples/s";
  for (int step = 1; step <= 600; ++step) {
    const double t = step / 600.0, noise = std::sin(step * 12.9898) * std::cos(step * 78.233);
    report.train_loss.steps.push_back(step);
    report.train_loss.values.push_back(step == 350 ? 3.9 : 0.35 + 2 * std::exp(-6 * t) + 0.15 * noise);
    rate.steps.push_back(step);
    rate.values.push_back(1e-3 * std::min(t * 10, (1 - t) / 0.9));
    head.steps.push_back(step);
    head.values.push_back(5e-3 * std::min(t * 10, (1 - t) / 0.9));
    if (step % 10 == 0) {
      report.samples_per_second.steps.push_back(step);
      report.samples_per_second.values.push_back(212 + 9 * noise);
    }
    if (step % 50 != 0) continue;
    dev.steps.push_back(step);
    dev.values.push_back(step == 50 ? std::nan("") : 0.74 - 0.4 * std::exp(-5 * t) - 0.05 * t);
    dev_loss.steps.push_back(step);
    dev_loss.values.push_back(0.42 + 1.6 * std::exp(-5 * t));
  }
  report.dev = {dev, dev_loss};
  report.learning_rates = {rate, head};
  report.config_yaml = "model: {path: model.pt}\nadapter:\n  method: deep-lora  # <r> & depth\n  rank: 8\n";
  for (int layer = 0; layer < 6; ++layer)
    for (const char* role : {"query", "value"}) {
      RunSite site{.path = cat("encoder.layer.", layer, ".attention.self.", role, ".weight"),
                   .role = role,
                   .out = 384,
                   .in = 384};
      site.parameters = 6208;
      site.update_norm = 0.31 + 0.07 * layer;
      site.weight_norm = 21.5;
      site.numerical_rank = 3 + layer % 2;
      for (int i = 0; i < 8; ++i) site.singular_values.push_back(std::exp(-(0.9 + 0.1 * layer) * i));
      report.sites.push_back(site);
    }
  add_labels(report.rows);
  add_numbers(report.rows);
  report.facts = {{"command", "deeplora finetune sts.yaml --run 'runs/a b'"},
                  {"training rows", "data/<train>.tsv: 1,200 rows"}};
  report.next = {"deeplora evaluate 'runs/a b'", "deeplora predict 'runs/a b' --text \"...\"",
                 "deeplora export 'runs/a b' --to torchscript --output merged.pt"};
  return run_report(report);
}

namespace {

constexpr double kNan = std::numeric_limits<double>::quiet_NaN();

void add_awkward_lines(Page& page) {
  const std::vector<double> five = {0, 1, 2, 3, 4};
  page.chart(LineChart{.title = "Constant",
                       .x_label = "step",
                       .y_label = "accuracy",
                       .series = {{.name = "a", .x = five, .y = {.5, .5, .5, .5, .5}}}});
  page.chart(LineChart{.title = "One point",
                       .x_label = "step",
                       .y_label = "accuracy",
                       .series = {{.name = "a", .x = {7}, .y = {0.25}}}});
  page.chart(LineChart{.title = "Gaps",
                       .x_label = "step",
                       .y_label = "pearson",
                       .series = {{.name = "a", .x = five, .y = {1, kNan, 3, kNan, 2.5}}}});
  page.chart(LineChart{.title = "Nothing",
                       .x_label = "step",
                       .y_label = "pearson",
                       .series = {{.name = "a", .x = five, .y = {kNan, kNan, kNan, kNan, kNan}}}});
  page.chart(LineChart{.title = "Huge range, linear",
                       .x_label = "step",
                       .y_label = "loss",
                       .series = {{.name = "a", .x = five, .y = {1e-9, 1, 1e9, 10, -1e300}}}});
  page.chart(LineChart{.title = "Huge range, logarithmic",
                       .x_label = "iterations",
                       .y_label = "recovery error",
                       .series = {{.name = "full", .x = {1, 100, 10000, 1e6}, .y = {1, 1e-3, 1e-9, 1e-13}},
                                  {.name = "gamma = 0", .x = {1, 100, 10000, 1e6}, .y = {1, 1e-2, 5e-4, 0}}},
                       .log_x = true,
                       .log_y = true});
  page.chart(
      LineChart{.title = "Large offset",
                .x_label = "step",
                .y_label = "value",
                .series = {{.name = "a", .x = five, .y = {1000000.1, 1000000.2, 1000000.15, 1000000.3, 1000000.25}}}});
  page.chart(LineChart{.title = "Tiny values",
                       .x_label = "step",
                       .y_label = "norm",
                       .series = {{.name = "a", .x = five, .y = {1e-9, 2e-9, 3e-9, 2e-9, 4e-9}}}});
}

void add_bands(Page& page) {
  LineChart bands{
      .title = "Mean and standard deviation over seeds", .x_label = "rank", .y_label = "pearson", .log_x = true};
  for (int i = 0; i < 9; ++i) {
    LineSeries series{.name = cat("method ", i), .x = {8, 16, 32, 64}};
    for (int k = 0; k < 4; ++k) {
      series.y.push_back(0.5 + 0.04 * i + 0.01 * k);
      if (i > 2) continue;
      series.low.push_back(series.y.back() - 0.02);
      series.high.push_back(series.y.back() + 0.02);
    }
    bands.series.push_back(series);
  }
  page.chart(bands);
}

void add_categories(Page& page) {
  CategoryChart dots{.title = "Test pearson, mean and 95 % interval",
                     .value_label = "pearson",
                     .categories = {"16 samples", "64 samples", "256 samples with a rather long name"}};
  dots.series = {
      {.name = "lora", .values = {.53, .735, .814}, .low = {.45, .70, .80}, .high = {.61, .76, .82}},
      {.name = "deep-lora", .values = {.60, kNan, .828}, .low = {.55, kNan, .82}, .high = {.65, kNan, .835}}};
  page.chart(dots);
  CategoryChart bars{.title = "Seconds per iteration",
                     .value_label = "seconds",
                     .categories = {"full", "compressed", "narrow"},
                     .bars = true};
  bars.series = {{.name = "",
                  .values = {0.0123, 0.0017, 0.0015},
                  .low = {0.0119, 0.0016, 0.0014},
                  .high = {0.0128, 0.0019, 0.0016}}};
  page.chart(bars);
  CategoryChart signs{.title = "Difference to lora", .value_label = "points", .categories = {"a", "b"}, .bars = true};
  signs.series = {{.name = "", .values = {-1.5, 2.5}}};
  page.chart(signs);
}

}  // namespace

Page hard_charts() {
  Page page("Hard charts");
  add_awkward_lines(page);
  add_bands(page);
  add_categories(page);
  return page;
}

}  // namespace deeplora
