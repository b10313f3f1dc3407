// Entities among the tags of words, found and scored as seqeval 1.2 does. Free of LibTorch.
#pragma once

#include <cstdint>
#include <map>
#include <string>
#include <vector>

#include "tasks/tag_scheme.h"

namespace deeplora {

/// Words begin..end (behind the last) of one text.
struct Entity {
  std::string type;  ///< "_" where tags name none
  size_t begin = 0, end = 0;
  auto operator<=>(const Entity&) const = default;
};

/// seqeval's get_entities: as the conlleval program has it, whatever the scheme; tags that break it begin an entity
/// where they can. Texts of `tags` are joined, so begin and end count words of all, one more between two texts.
std::vector<Entity> entities_of(const std::vector<std::vector<std::string>>& tags);
/// Those of one text.
std::vector<Entity> entities_of(const std::vector<std::string>& tags);
/// seqeval's strict mode: only entities that are written as the scheme (iob1, iob2, iobes or bilou) has them. Throws
/// Error for a tag whose letter is none of the scheme's.
std::vector<Entity> strict_entities(const std::vector<std::string>& tags, TagScheme scheme);

/// 0 where a score is undefined, as seqeval has it.
struct EntityScores {
  double precision = 0, recall = 0, f1 = 0;
  int64_t support = 0;  ///< entities that are expected
};
struct EntityReport {
  EntityScores all;  ///< over all entities (micro)
  std::map<std::string, EntityScores> by_type;
};
/// Of texts' expected and predicted tags, as many of both: precision_recall_fscore_support(average="micro") and
/// (average=None).
using TagLists = std::vector<std::vector<std::string>>;
EntityReport entity_scores(const TagLists& expected, const TagLists& predicted);
/// The same with mode="strict".
EntityReport strict_entity_scores(const TagLists& expected, const TagLists& predicted, TagScheme scheme);

}  // namespace deeplora
