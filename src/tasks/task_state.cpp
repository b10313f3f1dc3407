#include "tasks/task_state.h"

#include <set>

namespace deeplora {

std::vector<std::pair<double, double>> read_target_scales(const OrderedJsonFile& state) {
  const auto values = [&](const char* key) {
    const bool list = state.has(key) && state.root[key].is_array();
    return list ? state.at<std::vector<double>>(key) : std::vector{state.at<double>(key)};
  };
  const auto means = values("mean"), spreads = values("spread");
  check(!means.empty() && means.size() == spreads.size(), state.name, ": expected as many means as spreads, found ",
        means.size(), " and ", spreads.size());
  std::vector<std::pair<double, double>> out;
  for (size_t i = 0; i < means.size(); ++i) {
    check(spreads[i] > 0, state.name, ": spread: expected a number above 0, found ", spreads[i]);
    out.emplace_back(means[i], spreads[i]);
  }
  return out;
}

std::vector<std::string> read_labels(const OrderedJsonFile& state) {
  auto labels = state.at<std::vector<std::string>>("labels");
  const std::set<std::string> different(labels.begin(), labels.end());
  check(labels.size() >= 2 && different.size() == labels.size(), state.name,
        ": labels: expected at least two different texts, found ", shown(state.root["labels"]));
  return labels;
}

double read_threshold(const OrderedJsonFile& state) {
  const auto threshold = state.value("threshold", 0.5);
  check(threshold >= 0 && threshold <= 1, state.name, ": threshold: expected a number from 0 to 1, found ", threshold);
  return threshold;
}

int64_t read_width(const OrderedJsonFile& state) {
  const auto width = state.at<int64_t>("width");
  check(width >= 1, state.name, ": width: expected a whole number from 1, found ", width);
  return width;
}

bool read_chat(const OrderedJsonFile& state) { return state.value("chat", false); }

SavedTask SavedTask::parse(const std::string& file, std::string_view text) {
  const auto whole = OrderedJsonFile::parse(file, text);
  check(whole.has("state"), file, ": state is missing");
  return {whole.value("fingerprint", std::string()), whole.section("state"), whole.value("split", std::string())};
}

}  // namespace deeplora
