#include "text/added_tokens.h"

#include <algorithm>

#include "core/error.h"

namespace deeplora {

AddedTokens::AddedTokens(std::vector<AddedToken> tokens, Normalize normalize, bool ignore_special)
    : tokens_(std::move(tokens)), normalize_(std::move(normalize)), ignore_special_(ignore_special) {
  for (size_t i = 0; i < tokens_.size(); ++i) {
    const AddedToken& token = tokens_[i];
    check_utf8(token.content, "an added token");
    by_id_[token.id] = i;
    if (token.special) special_.insert(token.content);
    AlignedText form(token.content, 0, false);
    if (token.normalized && normalize_) normalize_(form);
    shown_.push_back(form.text);
    add_pattern(token.normalized ? normalized_ : raw_, form.text, i);
  }
}

void AddedTokens::add_pattern(Patterns& patterns, std::string text, size_t token) const {
  check(!text.empty(), "added token '", tokens_[token].content,
        "': nothing of it is left after normalisation, so it would be found everywhere");
  if (patterns.empty()) patterns.by_byte.resize(256);
  auto& list = patterns.by_byte[static_cast<unsigned char>(text.front())];
  const auto at =
      std::find_if(list.begin(), list.end(), [&](const Pattern& other) { return other.text.size() <= text.size(); });
  for (auto same = at; same != list.end() && same->text.size() == text.size(); ++same)
    check(same->text != text, "added tokens '", tokens_[same->token].content, "' and '", tokens_[token].content,
          "' are the same after normalisation; which of them a text holds would be left to chance");
  list.insert(at, Pattern{std::move(text), token});
}

void AddedTokens::find_in(const Patterns& patterns, std::string_view text, uint32_t base,
                          std::vector<Piece>& out) const {
  size_t done = 0;
  const auto add = [&](size_t begin, size_t end, int64_t id) {
    if (begin < end) out.push_back({base + static_cast<uint32_t>(begin), base + static_cast<uint32_t>(end), id});
  };
  for (size_t at = patterns.empty() ? text.size() : 0; at < text.size();) {
    const Pattern* found = nullptr;
    for (const Pattern& pattern : patterns.by_byte[static_cast<unsigned char>(text[at])])
      if (!found && text.compare(at, pattern.text.size(), pattern.text) == 0) found = &pattern;
    if (!found) {
      ++at;
      continue;
    }
    size_t begin = at, end = at + found->text.size();
    at = end;
    const AddedToken& token = tokens_[found->token];
    if (ignore_special_ && token.special) continue;
    const bool word_before = begin > 0 && is_class(utf8_at(text, utf8_before(text, begin)), CharClass::word);
    const bool word_after = end < text.size() && is_class(utf8_at(text, end), CharClass::word);
    if (token.single_word && (word_before || word_after)) continue;
    if (token.lstrip) {
      while (begin > 0 && is_space(utf8_at(text, utf8_before(text, begin)))) begin = utf8_before(text, begin);
      begin = std::max(begin, done);  // white space that the token before has taken stays with it
    }
    if (token.rstrip)
      while (end < text.size() && is_space(utf8_at(text, end))) end += utf8_length(text[end]);
    add(done, begin, -1);
    add(begin, end, token.id);
    done = end;
  }
  add(done, text.size(), -1);
}

Pieces AddedTokens::split(std::string_view text, bool with_spans) const {
  Pieces out;
  std::vector<Piece> raw;
  find_in(raw_, text, 0, raw);
  if (raw.size() == 1 && raw[0].id < 0) {
    out.text = AlignedText(text, 0, with_spans);
    if (normalize_) normalize_(out.text);
    find_in(normalized_, out.text.text, 0, out.list);
    return out;
  }
  out.text.tracked = with_spans;
  for (const Piece& piece : raw) {
    AlignedText own(text.substr(piece.begin, piece.end - piece.begin), piece.begin, with_spans);
    if (piece.id < 0 && normalize_) normalize_(own);
    const auto base = static_cast<uint32_t>(out.text.text.size());
    out.text.append(own, 0, own.text.size());
    if (piece.id >= 0) out.list.push_back({base, base + static_cast<uint32_t>(own.text.size()), piece.id});
    else find_in(normalized_, own.text, base, out.list);
  }
  return out;
}

const AddedToken* AddedTokens::find(int64_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &tokens_[found->second];
}

const std::string* AddedTokens::shown(int64_t id) const {
  const auto found = by_id_.find(id);
  return found == by_id_.end() ? nullptr : &shown_[found->second];
}

}  // namespace deeplora
