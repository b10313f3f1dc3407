#include "text/sequence_template.h"

#include <algorithm>

#include "text/byte_level.h"

namespace deeplora {
namespace {

using nlohmann::json;
using Kind = LayoutPiece::Kind;

void cut(TokenSequence& tokens, int64_t keep, bool left) {
  const auto size = static_cast<int64_t>(tokens.ids.size());
  if (keep >= size) return;
  const auto shorten = [&](auto& values) {
    if (values.empty()) return;
    if (left) values.erase(values.begin(), values.begin() + (size - keep));
    else values.resize(static_cast<size_t>(keep));
  };
  shorten(tokens.ids);
  shorten(tokens.offsets);
  shorten(tokens.texts);
}

/// Cuts both to `room` tokens together: the longer loses first, and what is odd stays with the longer one.
void cut_longest_first(TokenSequence& first, TokenSequence& second, int64_t room, bool left) {
  auto shorter = static_cast<int64_t>(std::min(first.ids.size(), second.ids.size()));
  const bool second_is_longer = second.ids.size() >= first.ids.size();
  int64_t longer = shorter > room ? shorter : std::max(shorter, room - shorter);
  if (shorter + longer > room) {
    shorter = room / 2;
    longer = shorter + room % 2;
  }
  cut(first, second_is_longer ? shorter : longer, left);
  cut(second, second_is_longer ? longer : shorter, left);
}

void append(Encoding& out, const TokenSequence& tokens, int64_t type_id) {
  out.ids.insert(out.ids.end(), tokens.ids.begin(), tokens.ids.end());
  out.type_ids.insert(out.type_ids.end(), tokens.ids.size(), type_id);
  out.offsets.insert(out.offsets.end(), tokens.offsets.begin(), tokens.offsets.end());
}

/// Pieces of white space at the ends of a token's text, as the library counts them.
size_t spaces_at(std::string_view text, bool front) {
  size_t count = 0;
  const auto is_blank = [](char32_t code) { return code == byte_characters()[' '] || is_space(code); };
  for (size_t begin = 0, end = text.size(); begin < end;) {
    const size_t at = front ? begin : utf8_before(text, end);
    if (!is_blank(utf8_at(text, at))) break;
    ++count;
    if (front) begin += utf8_length(text[begin]);
    else end = at;
  }
  return count;
}

/// Leaves white space at the ends of tokens out of their offsets (`texts`: the tokens' own), as the ByteLevel
/// post-processor does.
void trim_offsets(std::vector<TokenOffsets>& offsets, const std::vector<std::string>& texts, bool prefix_space) {
  for (size_t i = 0; i < offsets.size(); ++i) {
    TokenOffsets& one = offsets[i];
    auto leading = static_cast<int64_t>(spaces_at(texts[i], true));
    const auto trailing = static_cast<int64_t>(spaces_at(texts[i], false));
    const bool is_first = i == 0 || one.begin == 0;
    if (is_first && prefix_space && leading == 1) leading = 0;  // the space that was put there
    if (leading > 0) one.begin = std::min(one.begin + leading, one.end);
    if (trailing > 0 && one.end >= trailing) one.end = std::max(one.end - trailing, one.begin);
  }
}

/// ["[SEP]", 102] of BertProcessing and RobertaProcessing.
int64_t pair_id(const Component& processor, const char* key) {
  const json& value = json_member(processor.json(), key, processor.where());
  check(value.is_array() && value.size() == 2 && value[1].is_number_integer(), processor.where(), ": ", key, " is ",
        shown(value), R"(; expected ["token", id])");
  return value[1].get<int64_t>();
}

SequenceTemplate bert_template(int64_t cls, int64_t sep) {
  SequenceTemplate out;
  out.single = {{Kind::special, cls, 0}, {Kind::first, -1, 0}, {Kind::special, sep, 0}};
  out.pair = out.single;
  out.pair.push_back({Kind::second, -1, 1});
  out.pair.push_back({Kind::special, sep, 1});
  return out;
}

SequenceTemplate roberta_template(int64_t cls, int64_t sep) {
  SequenceTemplate out;
  out.single = {{Kind::special, cls, 0}, {Kind::first, -1, 0}, {Kind::special, sep, 0}};
  out.pair = out.single;
  for (const LayoutPiece& piece : {LayoutPiece{Kind::special, sep, 0}, {Kind::second, -1, 0}, {Kind::special, sep, 0}})
    out.pair.push_back(piece);
  return out;
}

/// Appends one place of TemplateProcessing; a special token there may stand for several ids.
void read_layout_piece(const Component& processor, const json& place, std::vector<LayoutPiece>& out) {
  check(place.is_object() && place.size() == 1, processor.where(), " holds ", shown(place),
        R"(; expected {"Sequence": ...} or {"SpecialToken": ...})");
  const std::string what = place.begin().key();
  const json& value = place.begin().value();
  const auto id = json_value<std::string>(value, "id", "", processor.where());
  const auto type_id = json_value<int64_t>(value, "type_id", 0, processor.where());
  if (what == "Sequence") {
    check(id == "A" || id == "B", processor.where(), " names a sequence '", id, "'; expected A or B");
    out.push_back({id == "A" ? Kind::first : Kind::second, -1, type_id});
    return;
  }
  check(what == "SpecialToken", processor.where(), " holds '", what, "'; expected Sequence or SpecialToken");
  const std::string where = processor.where() + ".special_tokens";
  const json& known = json_member(processor.json(), "special_tokens", processor.where());
  check(known.is_object() && known.contains(id), processor.where(), " uses '", id,
        "', but its special_tokens have no ids for it");
  for (const auto one :
       json_as<std::vector<int64_t>>(json_member(known[id], "ids", where + "." + id), where + "." + id + ".ids"))
    out.push_back({Kind::special, one, type_id});
}

bool places(const std::vector<LayoutPiece>& layout, Kind kind) {
  return std::any_of(layout.begin(), layout.end(), [kind](const LayoutPiece& piece) { return piece.kind == kind; });
}

std::vector<LayoutPiece> read_layout(const Component& processor, const char* key) {
  std::vector<LayoutPiece> out;
  const json& list = json_member(processor.json(), key, processor.where());
  check(list.is_array(), processor.where(), ".", key, ": expected a list, found ", shown(list));
  for (const json& place : list) read_layout_piece(processor, place, out);
  return out;
}

/// A layout that leaves a text out would drop it silently.
SequenceTemplate read_template_processing(const Component& processor) {
  processor.known({"single", "pair", "special_tokens"});
  SequenceTemplate out;
  out.single = read_layout(processor, "single");
  check(places(out.single, Kind::first) && !places(out.single, Kind::second), processor.where(), ".single places ",
        places(out.single, Kind::second) ? "a second text (B)" : "no text (A)", "; expected A alone");
  if (!processor.json().contains("pair") || processor.json()["pair"].is_null()) return out;  // A and B
  out.pair = read_layout(processor, "pair");
  check(places(out.pair, Kind::first) && places(out.pair, Kind::second), processor.where(),
        ".pair places only one of the two texts; expected A and B");
  return out;
}

SequenceTemplate read_sequence(const Component& processor) {
  processor.known({"processors"});
  std::optional<SequenceTemplate> found;
  std::vector<bool> trims;
  for (const Component& one : processor.list("processors")) {
    check(one.type() != "Sequence", one.where(), ": a sequence within a sequence is not supported");
    SequenceTemplate part = read_template(one.json(), one.place());
    trims.insert(trims.end(), part.trims.begin(), part.trims.end());
    if (one.type() == "ByteLevel") {
      check(part.trims.empty() || !found, one.where(),
            ": trim_offsets behind a layout is not supported; put it before the layout");
      continue;
    }
    check(!found, one.where(), ": a second layout in a sequence is not supported");
    found = std::move(part);
  }
  SequenceTemplate out = found.value_or(SequenceTemplate{});
  out.trims = std::move(trims);
  return out;
}

}  // namespace

int64_t SequenceTemplate::special_count(bool two) const {
  const auto& layout = two ? pair : single;
  return std::count_if(layout.begin(), layout.end(),
                       [](const LayoutPiece& piece) { return piece.kind == Kind::special; });
}

Encoding SequenceTemplate::assemble(TokenSequence first, std::optional<TokenSequence> second,
                                    int64_t max_length) const {
  Encoding out;
  const int64_t specials = special_count(second.has_value());
  check(max_length == 0 || max_length >= std::max<int64_t>(specials, 1), "a maximum length of ", max_length,
        " tokens has no room for the ", specials, " special tokens of ", second ? "a pair of texts" : "a text",
        "; expected 0 (no limit) or more than ", specials);
  const auto total = static_cast<int64_t>(first.ids.size() + (second ? second->ids.size() : 0));
  const int64_t room = max_length - specials;
  if (max_length > 0 && total > room) {
    out.truncated = true;
    if (second) cut_longest_first(first, *second, room, cut_left);
    else cut(first, room, cut_left);
  }
  for (const bool prefix_space : trims) {
    trim_offsets(first.offsets, first.texts, prefix_space);
    if (second) trim_offsets(second->offsets, second->texts, prefix_space);
  }
  for (const LayoutPiece& piece : second ? pair : single) {
    if (piece.kind == Kind::special)
      append(out, {{piece.id}, std::vector<TokenOffsets>(first.with_offsets ? 1 : 0), {}}, piece.type_id);
    else append(out, piece.kind == Kind::first ? first : second.value(), piece.type_id);
  }
  return out;
}

SequenceTemplate read_template(const json& value, const std::string& where) {
  if (value.is_null()) return {};
  const Component processor(value, where);
  SequenceTemplate out;
  const std::string& type = processor.type();
  const auto trim = [&] {
    if (processor.value("trim_offsets", true)) out.trims.push_back(processor.value("add_prefix_space", true));
  };
  if (type == "ByteLevel") {
    processor.known({"add_prefix_space", "trim_offsets", "use_regex"});
    trim();
  } else if (type == "BertProcessing") {
    processor.known({"sep", "cls"});
    out = bert_template(pair_id(processor, "cls"), pair_id(processor, "sep"));
  } else if (type == "RobertaProcessing") {
    processor.known({"sep", "cls", "trim_offsets", "add_prefix_space"});
    out = roberta_template(pair_id(processor, "cls"), pair_id(processor, "sep"));
    trim();
  } else if (type == "TemplateProcessing") {
    out = read_template_processing(processor);
  } else if (type == "Sequence") {
    out = read_sequence(processor);
  } else {
    processor.refuse({"BertProcessing", "ByteLevel", "RobertaProcessing", "Sequence", "TemplateProcessing"});
  }
  return out;
}

}  // namespace deeplora
