#include "text/unicode.h"

#include <algorithm>
#include <memory>
#include <unordered_map>

#include "core/error.h"
#include "core/files.h"
#include "text/unicode_tables.h"

namespace deeplora {
namespace tables = unicode_tables;
namespace {

constexpr char32_t kLimit = 0x110000;

/// Classes of every code point: 2 MiB, filled once.
const std::vector<uint16_t>& classes() {
  static const std::vector<uint16_t> filled = [] {
    std::vector<uint16_t> out(kLimit, 0);
    const auto add = [&](std::span<const tables::Range> ranges, CharClass bit) {
      for (const auto& range : ranges)
        for (char32_t c = range.first; c <= range.last; ++c) out[c] |= static_cast<uint16_t>(bit);
    };
    add(tables::spaces(), CharClass::space);
    add(tables::removed(), CharClass::removed);
    add(tables::chinese(), CharClass::chinese);
    add(tables::marks(), CharClass::mark);
    add(tables::combining_marks(), CharClass::combining_mark);
    add(tables::punctuation(), CharClass::punctuation);
    add(tables::digits(), CharClass::digit);
    add(tables::words(), CharClass::word);
    add(tables::joins_before(), CharClass::joins_before);
    for (const auto& range : tables::categories()) {
      const char group = tables::category_names()[static_cast<size_t>(range.category)][0];
      const tables::Range codes{range.first, range.last};
      if (group == 'L') add({&codes, 1}, CharClass::letter);
      if (group == 'N') add({&codes, 1}, CharClass::number);
    }
    return out;
  }();
  return filled;
}

/// The entry whose first..last holds `code`, or nullptr.
template <class Entry>
const Entry* find_range(std::span<const Entry> ranges, char32_t code) {
  const auto after = std::upper_bound(ranges.begin(), ranges.end(), code,
                                      [](char32_t c, const Entry& range) { return c < range.first; });
  if (after == ranges.begin()) return nullptr;
  const Entry& range = *(after - 1);
  return code <= range.last ? &range : nullptr;
}

std::span<const char32_t> find_mapping(std::span<const tables::Mapping> entries, std::span<const char32_t> texts,
                                       char32_t code) {
  const auto found = std::lower_bound(entries.begin(), entries.end(), code,
                                      [](const tables::Mapping& entry, char32_t c) { return entry.code < c; });
  if (found == entries.end() || found->code != code) return {};
  return texts.subspan(found->begin, found->length);
}

int combining_class(char32_t code) {
  if (code < 0x300) return 0;
  const auto* found = find_range(tables::combining(), code);
  return found ? found->combining_class : 0;
}

size_t first_bad_byte(std::string_view utf8) {
  size_t at = 0;
  while (at < utf8.size()) {
    const size_t length = utf8_length(utf8[at]);
    if (!is_valid_utf8(utf8.substr(at, length))) break;
    at += length;
  }
  return at;
}

// Hangul syllables are composed by rule (Unicode, chapter 3.12).
constexpr char32_t kSyllables = 0xAC00, kLeads = 0x1100, kVowels = 0x1161, kTails = 0x11A7;
constexpr char32_t kLeadCount = 19, kVowelCount = 21, kTailCount = 28,
                   kSyllableCount = kLeadCount * kVowelCount * kTailCount;

/// Calls use(code) for every code point of the decomposition.
template <class Use>
void decompose(char32_t code, bool compatible, Use use) {
  if (code < 0xA0) return use(code);
  if (code >= kSyllables && code < kSyllables + kSyllableCount) {
    const char32_t index = code - kSyllables;
    use(kLeads + index / (kVowelCount * kTailCount));
    use(kVowels + index % (kVowelCount * kTailCount) / kTailCount);
    if (index % kTailCount) use(kTails + index % kTailCount);
    return;
  }
  std::span<const char32_t> made;
  if (compatible) made = find_mapping(tables::compatibility(), tables::compatibility_text(), code);
  if (made.empty()) made = find_mapping(tables::canonical(), tables::canonical_text(), code);
  if (made.empty()) return use(code);
  for (const char32_t part : made) use(part);
}

/// The code point that two compose to, or 0.
char32_t compose(char32_t first, char32_t second) {
  static const auto pairs = [] {
    std::unordered_map<uint64_t, char32_t> out;
    for (const auto& one : tables::compositions()) out[uint64_t{one.first} << 32 | one.second] = one.whole;
    return out;
  }();
  if (first >= kLeads && first < kLeads + kLeadCount && second >= kVowels && second < kVowels + kVowelCount)
    return kSyllables + ((first - kLeads) * kVowelCount + (second - kVowels)) * kTailCount;
  if (first >= kSyllables && first < kSyllables + kSyllableCount && (first - kSyllables) % kTailCount == 0 &&
      second > kTails && second < kTails + kTailCount)
    return first + (second - kTails);
  const auto found = pairs.find(uint64_t{first} << 32 | second);
  return found == pairs.end() ? 0 : found->second;
}

std::vector<Change> decomposed(std::string_view text, bool compatible) {
  struct Part {
    int order;
    Change change;
  };
  std::vector<Change> out;
  out.reserve(text.size());
  std::vector<Part> marks;  // of the run under way, to be put into canonical order
  const auto flush = [&] {
    std::stable_sort(marks.begin(), marks.end(), [](const Part& a, const Part& b) { return a.order < b.order; });
    for (const Part& part : marks) out.push_back(part.change);
    marks.clear();
  };
  for (size_t at = 0; at < text.size(); at += utf8_length(text[at])) {
    int32_t change = 0;
    decompose(utf8_at(text, at), compatible, [&](char32_t code) {
      const int order = combining_class(code);
      if (order == 0) {
        flush();
        out.push_back({code, change});
      } else {
        marks.push_back({order, {code, change}});
      }
      change = 1;
    });
  }
  flush();
  return out;
}

std::vector<Change> composed(const std::vector<Change>& parts) {
  std::vector<Change> out;
  out.reserve(parts.size());
  constexpr size_t kNone = static_cast<size_t>(-1);
  size_t starter = kNone;  // place of the last character of class 0
  int last_order = 0;
  for (const Change& part : parts) {
    const int order = combining_class(part.code);
    const bool reaches = starter != kNone && (out.size() - 1 == starter || last_order < order);
    if (const char32_t whole = reaches ? compose(out[starter].code, part.code) : 0) {
      out[starter].code = whole;
      out[starter].change += part.change - 1;
      continue;
    }
    if (order == 0) starter = out.size();
    last_order = order;
    out.push_back(part);
  }
  return out;
}

/// Classes of the rules for grapheme boundaries (Unicode, annex 29), as far as they matter here.
enum class Break { other, cr, lf, control, joins, prepend, lead, vowel, tail, syllable_open, syllable_closed, flag };

Break break_of(char32_t c) {
  if (c >= 0x20 && c < 0x7F) return Break::other;
  if (c == '\r') return Break::cr;
  if (c == '\n') return Break::lf;
  if (is_class(c, CharClass::joins_before)) return Break::joins;
  constexpr std::array<std::pair<char32_t, char32_t>, 15> kPrepended{{{0x600, 0x605},
                                                                      {0x6DD, 0x6DD},
                                                                      {0x70F, 0x70F},
                                                                      {0x890, 0x891},
                                                                      {0x8E2, 0x8E2},
                                                                      {0xD4E, 0xD4E},
                                                                      {0x110BD, 0x110BD},
                                                                      {0x110CD, 0x110CD},
                                                                      {0x111C2, 0x111C3},
                                                                      {0x1193F, 0x1193F},
                                                                      {0x11941, 0x11941},
                                                                      {0x11A3A, 0x11A3A},
                                                                      {0x11A84, 0x11A89},
                                                                      {0x11D46, 0x11D46},
                                                                      {0x11F02, 0x11F02}}};
  for (const auto& [first, last] : kPrepended)
    if (c >= first && c <= last) return Break::prepend;
  constexpr std::array<std::pair<char32_t, char32_t>, 15> kControls{{{0, 0x1F},
                                                                     {0x7F, 0x9F},
                                                                     {0xAD, 0xAD},
                                                                     {0x61C, 0x61C},
                                                                     {0x180E, 0x180E},
                                                                     {0x200B, 0x200B},
                                                                     {0x200E, 0x200F},
                                                                     {0x2028, 0x202E},
                                                                     {0x2060, 0x206F},
                                                                     {0xFEFF, 0xFEFF},
                                                                     {0xFFF0, 0xFFFB},
                                                                     {0x13430, 0x1343F},
                                                                     {0x1BCA0, 0x1BCA3},
                                                                     {0x1D173, 0x1D17A},
                                                                     {0xE0000, 0xE0FFF}}};
  for (const auto& [first, last] : kControls)
    if (c >= first && c <= last) return Break::control;
  if ((c >= 0x1100 && c <= 0x115F) || (c >= 0xA960 && c <= 0xA97C)) return Break::lead;
  if ((c >= 0x1160 && c <= 0x11A7) || (c >= 0xD7B0 && c <= 0xD7C6)) return Break::vowel;
  if ((c >= 0x11A8 && c <= 0x11FF) || (c >= 0xD7CB && c <= 0xD7FB)) return Break::tail;
  if (c >= kSyllables && c < kSyllables + kSyllableCount)
    return (c - kSyllables) % kTailCount == 0 ? Break::syllable_open : Break::syllable_closed;
  if (c >= 0x1F1E6 && c <= 0x1F1FF) return Break::flag;
  return Break::other;
}

bool stays_together(Break before, Break after) {
  if (before == Break::cr) return after == Break::lf;
  const auto ends = [](Break one) { return one == Break::cr || one == Break::lf || one == Break::control; };
  if (ends(before) || ends(after)) return false;
  if (after == Break::joins || before == Break::prepend) return true;
  if (before == Break::lead)
    return after == Break::lead || after == Break::vowel || after == Break::syllable_open ||
           after == Break::syllable_closed;
  if (before == Break::syllable_open || before == Break::vowel) return after == Break::vowel || after == Break::tail;
  return (before == Break::syllable_closed || before == Break::tail) && after == Break::tail;
}

}  // namespace

void check_utf8(std::string_view text, std::string_view what) {
  check(is_valid_utf8(text), what, " is not valid UTF-8 (byte ", first_bad_byte(text), ")");
}

std::u32string to_code_points(std::string_view utf8, std::string_view what) {
  check_utf8(utf8, what);
  std::u32string out;
  out.reserve(utf8.size());
  for (size_t i = 0; i < utf8.size(); i += utf8_length(utf8[i])) out.push_back(utf8_at(utf8, i));
  return out;
}

void append_utf8(std::string& out, char32_t code) {
  const auto tail = [&](int shift) { out.push_back(static_cast<char>(0x80 | ((code >> shift) & 0x3F))); };
  if (code < 0x80) {
    out.push_back(static_cast<char>(code));
  } else if (code < 0x800) {
    out.push_back(static_cast<char>(0xC0 | (code >> 6)));
    tail(0);
  } else if (code < 0x10000) {
    out.push_back(static_cast<char>(0xE0 | (code >> 12)));
    tail(6);
    tail(0);
  } else {
    out.push_back(static_cast<char>(0xF0 | (code >> 18)));
    tail(12);
    tail(6);
    tail(0);
  }
}

std::string to_utf8(std::u32string_view codes) {
  std::string out;
  out.reserve(codes.size());
  for (const char32_t code : codes) append_utf8(out, code);
  return out;
}

size_t utf8_count(std::string_view text) {
  return static_cast<size_t>(
      std::count_if(text.begin(), text.end(), [](char c) { return (static_cast<unsigned char>(c) & 0xC0) != 0x80; }));
}

void replace_all(std::string& text, std::string_view from, std::string_view to) {
  size_t found = text.find(from);
  if (found == std::string::npos) return;
  std::string out;
  size_t done = 0;
  for (; found != std::string::npos; found = text.find(from, done)) {
    out.append(text, done, found - done).append(to);
    done = found + from.size();
  }
  text = out.append(text, done);
}

namespace {

/// Bytes of a broken character at the front that belong together: those that could still begin a valid one.
size_t broken_length(std::string_view bytes) {
  const auto at = [&](size_t i) -> unsigned { return i < bytes.size() ? static_cast<unsigned char>(bytes[i]) : 0u; };
  const unsigned lead = at(0);
  const size_t whole = lead >= 0xC2 && lead <= 0xDF   ? 2
                       : (lead & 0xF0) == 0xE0        ? 3
                       : lead >= 0xF0 && lead <= 0xF4 ? 4
                                                      : 1;
  // The second byte is limited further where it would make an overlong form, a surrogate or a code beyond U+10FFFF.
  const unsigned low = lead == 0xE0 ? 0xA0 : lead == 0xF0 ? 0x90 : 0x80;
  const unsigned high = lead == 0xED ? 0x9F : lead == 0xF4 ? 0x8F : 0xBF;
  size_t length = 1;
  while (length < whole && at(length) >= (length == 1 ? low : 0x80u) && at(length) <= (length == 1 ? high : 0xBFu))
    ++length;
  return length;
}

}  // namespace

std::string replace_broken(const std::string& bytes) {
  if (is_valid_utf8(bytes)) return bytes;
  std::string out;
  for (size_t i = 0; i < bytes.size();) {
    size_t good = 0;
    for (size_t length = 1; length <= 4 && i + length <= bytes.size() && !good; ++length)
      if (is_valid_utf8(std::string_view(bytes).substr(i, length))) good = length;
    if (good) {
      out.append(bytes, i, good);
      i += good;
      continue;
    }
    append_utf8(out, 0xFFFD);
    i += broken_length(std::string_view(bytes).substr(i));
  }
  return out;
}

bool is_class(char32_t code, CharClass wanted) {
  static const uint16_t* const filled = classes().data();
  return code < kLimit && (filled[code] & static_cast<uint16_t>(wanted)) != 0;
}

int script_of(char32_t code) {
  const auto* found = find_range(tables::scripts(), code);
  return found ? found->script : 0;
}

void append_lowercase(std::vector<Change>& out, char32_t code) {
  if (code < 0x80) {
    out.push_back({code >= 'A' && code <= 'Z' ? code + 32 : code, 0});
    return;
  }
  const auto made = find_mapping(tables::lowercase(), tables::lowercase_text(), code);
  if (made.empty()) out.push_back({code, 0});
  for (size_t i = 0; i < made.size(); ++i) out.push_back({made[i], i > 0});
}

std::vector<Change> normal_form(std::string_view text, NormalForm form) {
  auto parts = decomposed(text, form == NormalForm::nfkc || form == NormalForm::nfkd);
  return form == NormalForm::nfd || form == NormalForm::nfkd ? parts : composed(parts);
}

size_t grapheme_end(std::string_view text, size_t at) {
  Break before = break_of(utf8_at(text, at));
  size_t end = at + utf8_length(text[at]);
  // Flags come in pairs; longer joined sequences of emoji need no rule here, as only graphemes below six bytes are
  // looked up.
  for (bool flag = before == Break::flag; end < text.size(); end += utf8_length(text[end])) {
    const Break after = break_of(utf8_at(text, end));
    const bool pair = flag && before == Break::flag && after == Break::flag;
    if (!pair && !stays_together(before, after)) break;
    if (pair) flag = false;
    before = after;
  }
  return end;
}

}  // namespace deeplora
