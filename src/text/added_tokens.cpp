#include "text/added_tokens.h"

#include <algorithm>

#include "text/unicode.h"

namespace deeplora {

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, Normalize normalize)
    : tokens_(std::move(tokens)), normalize_(std::move(normalize)) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    by_id_[tokens_[i].id] = i;
    const std::u32string content = to_code_points(tokens_[i].content, "an added token");
    if (tokens_[i].normalized)
      add_pattern(normalized_, normalize_ ? normalize_(content) : content, i);
    else
      add_pattern(raw_, content, i);
  }
}

void AddedTokens::add_pattern(Patterns& patterns, std::u32string text, size_t token) {
  if (text.empty()) return;  // nothing of it is left after normalisation, so it can never be found
  auto& list = patterns[text.front()];
  const auto longer = [&](const Pattern& other) { return other.text.size() >= text.size(); };
  const auto at = std::find_if_not(list.begin(), list.end(), longer);
  list.insert(at, Pattern{std::move(text), token});
}

const AddedTokens::Pattern* AddedTokens::match_at(const Patterns& patterns, std::u32string_view text,
                                                  size_t at) {
  const auto found = patterns.find(text[at]);
  if (found == patterns.end()) return nullptr;
  for (const Pattern& pattern : found->second)
    if (text.compare(at, pattern.text.size(), pattern.text) == 0) return &pattern;
  return nullptr;
}

std::vector<AddedTokens::Part> AddedTokens::find(const Patterns& patterns, std::u32string_view text) const {
  std::vector<Part> parts;
  size_t done = 0;
  for (size_t at = patterns.empty() ? text.size() : 0; at < text.size();) {
    const Pattern* pattern = match_at(patterns, text, at);
    if (!pattern) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + pattern->text.size();
    at = end;
    const AddedToken& token = tokens_[pattern->token];
    const bool word_beside =
        (begin > 0 && is_word(text[begin - 1])) || (end < text.size() && is_word(text[end]));
    if (token.single_word && word_beside) continue;
    if (token.lstrip)
      while (begin > done && is_space(text[begin - 1])) --begin;
    if (token.rstrip)
      while (end < text.size() && is_space(text[end])) ++end;
    if (done < begin) parts.push_back({done, begin, std::nullopt});
    parts.push_back({begin, end, pattern->token});
    at = done = end;
  }
  if (done < text.size()) parts.push_back({done, text.size(), std::nullopt});
  return parts;
}

std::vector<TextPiece> AddedTokens::split(std::u32string_view text) const {
  std::vector<TextPiece> pieces;
  for (const Part& outer : find(raw_, text)) {
    if (outer.token) {
      pieces.push_back({{}, tokens_[*outer.token].id, outer.begin == 0});
      continue;
    }
    const std::u32string_view raw = text.substr(outer.begin, outer.end - outer.begin);
    const std::u32string normal = normalize_ ? normalize_(raw) : std::u32string(raw);
    for (const Part& inner : find(normalized_, normal)) {
      const bool at_start = outer.begin == 0 && inner.begin == 0;
      if (inner.token)
        pieces.push_back({{}, tokens_[*inner.token].id, at_start});
      else
        pieces.push_back({normal.substr(inner.begin, inner.end - inner.begin), std::nullopt, at_start});
    }
  }
  return pieces;
}

bool AddedTokens::is_special(int64_t id) const {
  const auto found = by_id_.find(id);
  return found != by_id_.end() && tokens_[found->second].special;
}

}  // namespace deeplora
