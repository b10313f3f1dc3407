// Oracle: tests/golden/entities.json, entities and scores of seqeval (tests/golden/make/entities.py).
#include "tasks/entities.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "support/errors.h"

namespace deeplora {
namespace {

using testing::error_of;

nlohmann::json golden() { return nlohmann::json::parse(read_file(DEEPLORA_TEST_DATA "/golden/entities.json")); }

std::vector<Entity> listed(const nlohmann::json& list) {
  std::vector<Entity> out;
  for (const auto& one : list) out.push_back({one[0].get<std::string>(), one[1].get<size_t>(), one[2].get<size_t>()});
  return out;
}

void expect_equal(const EntityReport& found, const nlohmann::json& expected, const std::string& name) {
  const auto all = expected["all"].get<std::vector<double>>();
  EXPECT_NEAR(found.all.precision, all[0], 1e-12) << name;
  EXPECT_NEAR(found.all.recall, all[1], 1e-12) << name;
  EXPECT_NEAR(found.all.f1, all[2], 1e-12) << name;
  ASSERT_EQ(found.by_type.size(), expected["by_type"].size()) << name;
  for (const auto& [type, scores] : found.by_type) {
    const auto wanted = expected["by_type"].at(type).get<std::vector<double>>();
    EXPECT_NEAR(scores.precision, wanted[0], 1e-12) << name << " " << type;
    EXPECT_NEAR(scores.recall, wanted[1], 1e-12) << name << " " << type;
    EXPECT_NEAR(scores.f1, wanted[2], 1e-12) << name << " " << type;
    EXPECT_EQ(static_cast<double>(scores.support), wanted[3]) << name << " " << type;
  }
}

TEST(EntitiesTest, EntitiesAndScoresEqualSeqevals) {
  size_t cases = 0;
  const nlohmann::json all = golden()["cases"];
  for (const auto& row : all) {
    const auto expected = row["expected"].get<TagLists>(), predicted = row["predicted"].get<TagLists>();
    const TagScheme scheme = parse_tag_scheme(row["scheme"].get<std::string>());
    const std::string name = row.dump();
    for (size_t i = 0; i < predicted.size(); ++i) {
      EXPECT_EQ(entities_of(predicted[i]), listed(row["entities"][i])) << name;
      EXPECT_EQ(strict_entities(predicted[i], scheme), listed(row["strict_entities"][i])) << name;
    }
    expect_equal(entity_scores(expected, predicted), row["default"], name);
    expect_equal(strict_entity_scores(expected, predicted, scheme), row["strict"], name);
    ++cases;
  }
  EXPECT_EQ(cases, 64u);
}

TEST(EntitiesTest, EntitiesOfMixedSchemesEqualSeqevals) {
  const nlohmann::json all = golden()["mixed"];
  EXPECT_EQ(all.size(), 60u);
  for (const auto& row : all)
    EXPECT_EQ(entities_of(row["tags"].get<std::vector<std::string>>()), listed(row["entities"])) << row.dump();
}

TEST(EntitiesTest, StrictEntitiesRefuseLettersOfOtherSchemes) {
  EXPECT_NE(error_of([] { strict_entities({"O", "E-PER"}, TagScheme::iob2); }).find("'E-PER' is none of iob2"),
            std::string::npos);
  EXPECT_NE(error_of([] { entity_scores({{"O"}}, {{"O", "O"}}); }).find("not equally many"), std::string::npos);
}

}  // namespace
}  // namespace deeplora
