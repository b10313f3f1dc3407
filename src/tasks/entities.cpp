#include "tasks/entities.h"

#include <algorithm>
#include <set>
#include <string_view>
#include <utility>

#include "core/error.h"

namespace deeplora {
namespace {

bool is_among(char letter, std::string_view letters) { return letters.find(letter) != std::string_view::npos; }

/// A tag as get_entities takes it apart.
struct ChunkTag {
  char letter = 'O';
  std::string type;

  explicit ChunkTag(std::string_view tag) : letter(tag.empty() ? 'O' : tag[0]) {
    const std::string_view rest = tag.substr(std::min<size_t>(tag.size(), 1));
    const size_t dash = rest.find('-');
    type = dash == std::string_view::npos ? rest : rest.substr(dash + 1);
    if (type.empty()) type = "_";
  }
  bool is_one_of(std::string_view letters) const { return is_among(letter, letters); }
};

bool ends_chunk(const ChunkTag& before, const ChunkTag& tag) {
  if (before.is_one_of("ES") || (before.is_one_of("BI") && tag.is_one_of("BSO"))) return true;
  return !before.is_one_of("O.") && before.type != tag.type;
}

bool starts_chunk(const ChunkTag& before, const ChunkTag& tag) {
  if (tag.is_one_of("BS") || (before.is_one_of("ESO") && tag.is_one_of("EI"))) return true;
  return !tag.is_one_of("O.") && before.type != tag.type;
}

/// Which letters, and whether the two types are the same.
enum class Types { any, same, different };
struct Pattern {
  std::string_view before, now;
  Types types = Types::any;
};
constexpr std::string_view kAny = "BIESLUO";

/// seqeval/scheme.py
struct StrictScheme {
  std::vector<Pattern> start, inside, end;
};
const StrictScheme& strict_scheme(TagScheme scheme) {
  static const std::vector<Pattern> goes_on{{"BI", "I", Types::same}};
  static const StrictScheme iob1{
      {{"O", "I"}, {"I", "I", Types::different}, {"B", "I"}, {"I", "B", Types::same}, {"B", "B", Types::same}},
      goes_on,
      {{"I", "I", Types::different},
       {"I", "O"},
       {"I", "B"},
       {"B", "O"},
       {"B", "I", Types::different},
       {"B", "B", Types::same}}};
  static const StrictScheme iob2{
      {{kAny, "B"}},
      goes_on,
      {{"I", "O"}, {"I", "I", Types::different}, {"I", "B"}, {"B", "O"}, {"B", "I", Types::different}, {"B", "B"}}};
  static const StrictScheme iobes{{{kAny, "BS"}}, {{"BI", "IE", Types::same}}, {{"ES", kAny}}};
  static const StrictScheme bilou{{{kAny, "BU"}}, {{"BI", "IL", Types::same}}, {{"LU", kAny}}};
  check(scheme != TagScheme::plain, "plain tags mark no entities");
  return scheme == TagScheme::iob1    ? iob1
         : scheme == TagScheme::iob2  ? iob2
         : scheme == TagScheme::iobes ? iobes
                                      : bilou;
}

struct StrictTag {
  char letter;
  std::string type;

  StrictTag(const std::string& tag, TagScheme scheme) : letter(tag.empty() ? '\0' : tag[0]), type(tag) {
    const std::string_view allowed = scheme == TagScheme::iobes   ? "OBIES"
                                     : scheme == TagScheme::bilou ? "OBILU"
                                                                  : "OBI";
    check(is_among(letter, allowed), "tag '", tag, "' is none of ", to_string(scheme));
    type.erase(0, 1);
    type.erase(0, type.find_first_not_of('-'));
    type.erase(type.find_last_not_of('-') + 1);
    if (type.empty()) type = "_";
  }
};

bool matches(const std::vector<Pattern>& patterns, const StrictTag& before, const StrictTag& now) {
  const Types types = before.type == now.type ? Types::same : Types::different;
  for (const auto& one : patterns)
    if (is_among(before.letter, one.before) && is_among(now.letter, one.now) &&
        (one.types == Types::any || one.types == types))
      return true;
  return false;
}

/// Entities with the number of their text.
using Found = std::set<std::pair<size_t, Entity>>;

EntityScores scores_of(int64_t right, int64_t predicted, int64_t expected) {
  const auto share = [&](int64_t of) { return of == 0 ? 0.0 : static_cast<double>(right) / static_cast<double>(of); };
  EntityScores out{.precision = share(predicted), .recall = share(expected), .f1 = 0, .support = expected};
  const double sum = out.precision + out.recall;
  out.f1 = sum == 0 ? 0 : 2 * out.precision * out.recall / sum;
  return out;
}

EntityReport report_of(const Found& expected, const Found& predicted) {
  struct Counts {
    int64_t right = 0, predicted = 0, expected = 0;
  };
  std::map<std::string, Counts> types;
  Counts all;
  for (const auto& one : predicted) {
    Counts& type = types[one.second.type];
    const bool right = expected.contains(one);
    type.right += right, all.right += right;
    ++type.predicted, ++all.predicted;
  }
  for (const auto& one : expected) ++types[one.second.type].expected, ++all.expected;
  EntityReport out{.all = scores_of(all.right, all.predicted, all.expected), .by_type = {}};
  for (const auto& [type, counts] : types)
    out.by_type[type] = scores_of(counts.right, counts.predicted, counts.expected);
  return out;
}

void check_alike(const TagLists& expected, const TagLists& predicted) {
  bool alike = expected.size() == predicted.size();
  for (size_t i = 0; alike && i < expected.size(); ++i) alike = expected[i].size() == predicted[i].size();
  check(alike, "expected and predicted tags are not equally many");
}

}  // namespace

std::vector<Entity> entities_of(const TagLists& tags) {
  std::vector<Entity> out;
  ChunkTag before(kOutside);
  before.type.clear();
  size_t place = 0, begin = 0;
  const auto take = [&](std::string_view tag) {
    ChunkTag now(tag);
    if (ends_chunk(before, now)) out.push_back({before.type, begin, place});
    if (starts_chunk(before, now)) begin = place;
    before = std::move(now);
    ++place;
  };
  for (const auto& text : tags) {
    for (const auto& tag : text) take(tag);
    take(kOutside);
  }
  return out;
}

std::vector<Entity> entities_of(const std::vector<std::string>& tags) { return entities_of(TagLists{tags}); }

std::vector<Entity> strict_entities(const std::vector<std::string>& tags, TagScheme scheme) {
  const StrictScheme& patterns = strict_scheme(scheme);
  std::vector<StrictTag> all;
  for (const auto& tag : tags) all.emplace_back(tag, scheme);
  const StrictTag outside(std::string(kOutside), scheme);
  all.push_back(outside);
  std::vector<Entity> out;
  for (size_t i = 0; i < all.size();) {
    const StrictTag& before = i == 0 ? outside : all[i - 1];
    if (!matches(patterns.start, before, all[i])) {
      ++i;
      continue;
    }
    size_t end = i + 1;
    while (end < all.size() && matches(patterns.inside, all[end - 1], all[end])) ++end;
    if (end < all.size() && matches(patterns.end, all[end - 1], all[end])) out.push_back({all[i].type, i, end});
    i = end;
  }
  return out;
}

EntityReport entity_scores(const TagLists& expected, const TagLists& predicted) {
  check_alike(expected, predicted);
  Found sides[2];
  for (const auto& [side, tags] : {std::pair(&sides[0], &expected), std::pair(&sides[1], &predicted)})
    for (auto& entity : entities_of(*tags)) side->emplace(0, std::move(entity));
  return report_of(sides[0], sides[1]);
}

EntityReport strict_entity_scores(const TagLists& expected, const TagLists& predicted, TagScheme scheme) {
  check_alike(expected, predicted);
  Found sides[2];
  for (const auto& [side, tags] : {std::pair(&sides[0], &expected), std::pair(&sides[1], &predicted)})
    for (size_t i = 0; i < tags->size(); ++i)
      for (auto& entity : strict_entities((*tags)[i], scheme)) side->emplace(i, std::move(entity));
  return report_of(sides[0], sides[1]);
}

}  // namespace deeplora
