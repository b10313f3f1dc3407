// Predictions, recommendations, folded-in rows and exported factors of a finished run on ratings.
#include <algorithm>
#include <iostream>

#include "complete_ratings.h"
#include "completion_sweep.h"
#include "core/files.h"
#include "core/log.h"
#include "ratings/ratings_file.h"

namespace deeplora {
namespace {
namespace fs = std::filesystem;

/// A row as predictions need it: trained, folded in, or unknown.
struct RatedRow {
  bool known = false;
  int32_t index = -1;  ///< where it was trained on and is not folded in
  std::vector<double> coordinates;
  std::vector<int32_t> seen;
};

class RatingsUser {
 public:
  RatingsUser(const fs::path& run, const RatingsUse& use, const std::vector<std::string>& overrides)
      : use_(use), named_(load_ratings_model(run)) {
    const RatingsConfig ratings = settings_of_finished(run, use, overrides);
    format_ = ratings.format;
    if (!use.titles.empty()) take_titles();
    if (!use.fold_in.empty()) fold(ratings);
  }

  void run() {
    if (!use_.predict.empty()) put(predictions());
    if (use_.top > 0) put(recommendations());
    if (!use_.export_to.empty()) export_factors();
    if (!use_.fold_in.empty() && use_.predict.empty() && use_.top == 0 && use_.export_to.empty()) put(folded_factors());
  }

 private:
  void put(const std::string& text) {
    if (use_.output.empty()) std::cout << text;
    else write_file_atomically(use_.output, text);
  }

  void take_titles() {
    const auto titles = read_titles(use_.titles, format_);
    titles_.resize(static_cast<size_t>(named_.cols.size()));
    for (const auto& [id, title] : titles)
      if (const int32_t col = named_.cols.find(id); col >= 0 && titles_[static_cast<size_t>(col)].empty())
        titles_[static_cast<size_t>(col)] = title;
    const auto without = std::count(titles_.begin(), titles_.end(), "");
    if (without > 0)
      log_warning("--titles ", use_.titles, ": ", without, " of ", titles_.size(), " columns have no title there");
  }

  /// The training run's reader serves other files too, unless those are laid out otherwise: named columns that they
  /// lack are then an error.
  void fold(const RatingsConfig& config) {
    Ratings given = read_ratings(use_.fold_in, config.format, "--fold-in");
    merge_duplicates(given, config.duplicates, "--fold-in");
    if (config.range) apply_range(given, config.range->first, config.range->second, config.out_of_range, "--fold-in");
    const IdIndex rows = given.rows;
    align(given, rows, named_.cols, "--fold-in");
    for (const auto& remark : given.remarks) log_warning(remark);
    const SparseSide side = SparseSide::make(rows.size(), given.row, given.col, given.value);
    const std::vector<double> times =
        given.time.empty() ? given.time : SparseSide::make(rows.size(), given.row, given.col, given.time).value;
    int64_t trained = 0;
    for (int64_t i = 0; i < rows.size(); ++i) {
      const auto begin = static_cast<size_t>(side.begin[static_cast<size_t>(i)]),
                 count = static_cast<size_t>(side.count(i));
      RatedRow row{true,
                   -1,
                   {},
                   {side.other.begin() + static_cast<std::ptrdiff_t>(begin),
                    side.other.begin() + static_cast<std::ptrdiff_t>(begin + count)}};
      row.coordinates = fold_in(named_.model, row.seen, {side.value.data() + begin, count},
                                times.empty() ? std::span<const double>{} : std::span(times).subspan(begin, count));
      trained += named_.rows.find(rows.name(i)) >= 0;
      folded_.push_back(std::move(row));
    }
    folded_names_ = rows;
    for (const auto& name : rows.names()) known_rows_.add(name);
    log_info(
        "folded in ", rows.size(), " rows",
        trained > 0 ? cat("; ", trained, " of them were trained on and are replaced by what --fold-in holds") : "");
  }

  RatedRow row_of(const std::string& id) const {
    if (const int32_t folded = folded_names_.find(id); folded >= 0) return folded_[static_cast<size_t>(folded)];
    const int32_t index = named_.rows.find(id);
    if (index < 0) return {false, -1, coordinates_of(named_.model, -1), {}};
    const auto& seen = named_.seen;
    return {true,
            index,
            coordinates_of(named_.model, index),
            {seen.other.begin() + seen.begin[static_cast<size_t>(index)],
             seen.other.begin() + seen.begin[static_cast<size_t>(index) + 1]}};
  }

  std::string predictions() const {
    const RatingPairs pairs = read_pairs(use_.predict, format_, known_ids());
    for (const auto& remark : pairs.remarks) log_warning(remark);
    const bool spread = !named_.model.noise.empty();
    std::string text = cat("row,col,prediction,known", spread ? ",sd" : "", "\n");
    int64_t unknown_rows = 0, unknown_cols = 0;
    std::string example;
    std::string last_id;
    RatedRow row;
    for (size_t i = 0; i < pairs.row.size(); ++i) {
      if (i == 0 || pairs.row[i] != last_id) row = row_of(pairs.row[i]);
      last_id = pairs.row[i];
      const int32_t col = named_.cols.find(pairs.col[i]);
      const auto time = pairs.time.empty() ? std::nullopt : std::optional(pairs.time[i]);
      const double value = named_.model.predict(row.coordinates, col, row.index, time);
      unknown_rows += !row.known;
      unknown_cols += col < 0;
      if (example.empty() && (!row.known || col < 0))
        example = cat(pairs.source[i], ": ", row.known ? "column '" + pairs.col[i] : "row '" + pairs.row[i], "'");
      const char* known = row.known && col >= 0 ? "both" : row.known ? "row" : col >= 0 ? "col" : "none";
      text += id_field(pairs.row[i]) + "," + id_field(pairs.col[i]) + "," + exact_number(value) + "," + known +
              (spread ? "," + exact_number(named_.model.spread(row.coordinates, col, row.index, time).deviation) : "") +
              "\n";
    }
    if (unknown_rows + unknown_cols > 0)
      log_warning(unknown_rows, " pairs of rows and ", unknown_cols,
                  " of columns that were not trained on (first: ", example,
                  "); predicted from what is known of the pair: the column's or row's bias, or the mean alone");
    return text;
  }

  KnownIds known_ids() const { return {&known_rows_, &named_.cols, named_.row_column, named_.col_column}; }

  std::vector<std::string> wanted_rows() const {
    if (use_.rows.empty()) return folded_.empty() ? named_.rows.names() : folded_names_.names();
    std::vector<std::string> ids = read_ids(use_.rows, format_), unknown;
    for (const auto& id : ids)
      if (!row_of(id).known) unknown.push_back(id);
    check(unknown.empty(), "--rows ", use_.rows, ": ", unknown.size(),
          " rows were not trained on: ", join(unknown, ", ", 8),
          did_you_mean(unknown.empty() ? "" : unknown[0], named_.rows.names()), "; give their ratings with --fold-in");
    return ids;
  }

  std::string recommendations() const {
    std::string text = titles_.empty() ? "row,place,col,prediction\n" : "row,place,col,prediction,title\n";
    for (const auto& id : wanted_rows()) {
      const RatedRow row = row_of(id);
      int64_t place = 0;
      for (const auto& scored : top_n(named_.model, row.coordinates, row.seen, use_.top))
        text += id_field(id) + "," + std::to_string(++place) + "," + id_field(named_.cols.name(scored.col)) + "," +
                exact_number(scored.value) +
                (titles_.empty() ? "" : "," + id_field(titles_[static_cast<size_t>(scored.col)])) + "\n";
    }
    return text;
  }

  std::string folded_factors() const {
    const auto r = static_cast<size_t>(named_.model.draw_rank()), draws = static_cast<size_t>(named_.model.draws);
    std::string text = "id,bias";
    for (size_t k = 0; k < r * draws; ++k) text += cat(",factor_", k);
    text += "\n";
    for (int64_t i = 0; i < folded_names_.size(); ++i) {
      const auto& x = folded_[static_cast<size_t>(i)].coordinates;
      double bias = 0;  // as in the exported factors: of several draws the mean, and the factors' share of it
      for (size_t s = 0; s < draws; ++s) bias += x[s * (r + 1) + r] / static_cast<double>(draws);
      text += id_field(folded_names_.name(i)) + "," + exact_number(bias);
      for (size_t s = 0; s < draws; ++s)
        for (size_t k = 0; k < r; ++k) text += "," + exact_number(x[s * (r + 1) + k] / static_cast<double>(draws));
      text += "\n";
    }
    return text;
  }

  void export_factors() const {
    export_ratings_model(use_.export_to, named_);
    if (!named_.model.levels.empty())
      log_warning("likelihood: ordinal: what is exported is the latent value, not the rating that it stands for");
    if (named_.model.row_periods.period > 0 || named_.model.col_periods.period > 0)
      log_warning("the effects of periods are not among what is exported");
    log_info("factors of ", named_.rows.size(), " rows and ", named_.cols.size(), " columns, rank ", named_.model.rank,
             ", are in ", use_.export_to);
  }

  const RatingsUse& use_;
  NamedRatingsModel named_;
  RatingsFormat format_;
  std::vector<RatedRow> folded_;
  IdIndex folded_names_;
  IdIndex known_rows_ = named_.rows;  ///< trained and folded in
  std::vector<std::string> titles_;   ///< by column; empty without --titles
};

}  // namespace

RatingsConfig settings_of_finished(const fs::path& run, const RatingsUse& use,
                                   const std::vector<std::string>& overrides) {
  static const std::vector<std::string> about_reading{"format",  "separator",  "header", "row_names",   "encoding",
                                                      "columns", "duplicates", "range",  "out_of_range"};
  static const std::vector<std::string> about_going_on{"update_sweeps", "draws", "thin", "threads"};
  std::vector<std::string> free = about_reading;
  if (!use.update.empty()) free.insert(free.end(), about_going_on.begin(), about_going_on.end());
  Config config = Config::load(run / "config.yaml");
  for (const auto& assignment : overrides) {
    const std::string path = assignment.substr(0, assignment.find('='));
    const bool reads = std::any_of(free.begin(), free.end(), [&](const std::string& key) {
      return path == "completion." + key || path.starts_with("completion." + key + ".");
    });
    check(reads, "--set ", assignment, ": a finished run is used as it is; only how files are read may be set",
          use.update.empty() ? "" : " and how long its fit goes on", ": completion.", join(free, ", completion."));
    config.set(assignment);
  }
  const Config completion = config.section("completion");
  const CompletionConfig common = CompletionConfig::read(completion);
  const auto out = read_ratings_config(completion, common);
  CompletionSweep::read(completion);
  config.finish();
  check(out.has_value(), config.where("completion.train"),
        ": expected a file of ratings, found nothing; only a run on ratings can be used so");
  return *out;
}

void add_ratings_options(CLI::App& command, RatingsUse& use) {
  command.add_option("--predict", use.predict,
                     "With --run: predicts the pairs of this file (row and column ids, any delimited text) as CSV");
  command
      .add_option("--top", use.top,
                  "With --run: this many best columns for every row, those it has rated left out, as CSV")
      ->check(CLI::PositiveNumber);
  command.add_option("--rows", use.rows, "With --top: only these rows (ids, one a line)");
  command.add_option("--titles", use.titles,
                     "With --top: id and title of columns a line, any delimited text; adds a column of titles");
  command.add_option("--fold-in", use.fold_in,
                     "With --run: ratings of new rows; their factors are computed without training, and written, or "
                     "used by --predict and --top");
  command.add_option("--update", use.update,
                     "With --run: takes further ratings, also of new rows and columns, into the run: its fit goes on "
                     "with them from where it stood");
  command.add_option("--export", use.export_to,
                     "With --run: writes factors and biases as NPY and CSV into this new folder");
  command.add_option("--output", use.output, "File for --predict, --top and --fold-in instead of standard output");
}

void use_ratings_run(const fs::path& run, const RatingsUse& use, const std::vector<std::string>& overrides) {
  check(use.predict.empty() || use.top == 0 || use.output.empty(), "--predict and --top would both write ", use.output,
        "; ask for one of them");
  check(use.rows.empty() || use.top > 0, "--rows chooses rows of --top, which is not given");
  check(use.titles.empty() || use.top > 0, "--titles adds titles to --top, which is not given");
  check(use.update.empty() || (use.predict.empty() && use.top == 0 && use.fold_in.empty() && use.export_to.empty()),
        "--update changes the run; ask for --predict, --top, --fold-in or --export afterwards");
  if (!use.update.empty()) return update_ratings_run(run, use, settings_of_finished(run, use, overrides));
  RatingsUser(run, use, overrides).run();
}

}  // namespace deeplora
