// Byte-pair encoding.
#include <algorithm>
#include <array>
#include <queue>
#include <tuple>

#include "text/token_model.h"
#include "text/unicode.h"

namespace deeplora {
namespace {

using nlohmann::json;

/// Pairs of ids that become one.
class Merges {
 public:
  struct Merge {
    int32_t rank = -1, id = -1;
  };

  /// The last of two equal pairs counts. Ids stay below 2^22 (Vocabulary).
  void add(int64_t left, int64_t right, int32_t rank, int64_t id) {
    if (2 * (used_ + 1) > slots_.size()) grow();
    Slot& slot = slots_[place(key_of(left, right))];
    if (slot.merge.rank < 0) ++used_;
    slot = {key_of(left, right), {rank, static_cast<int32_t>(id)}};
  }
  /// rank -1 when the two do not merge.
  Merge find(int64_t left, int64_t right) const {
    return slots_.empty() ? Merge{} : slots_[place(key_of(left, right))].merge;
  }

 private:
  struct Slot {
    uint64_t key = 0;
    Merge merge;
  };
  static uint64_t key_of(int64_t left, int64_t right) {
    return static_cast<uint64_t>(left) << 32 | static_cast<uint64_t>(right);
  }
  size_t place(uint64_t key) const {
    const size_t mask = slots_.size() - 1;
    size_t at = static_cast<size_t>((key * 0x9E3779B97F4A7C15ULL) >> 24) & mask;
    while (slots_[at].merge.rank >= 0 && slots_[at].key != key) at = (at + 1) & mask;
    return at;
  }
  void grow() {
    std::vector<Slot> old(slots_.empty() ? 64 : 2 * slots_.size());
    old.swap(slots_);
    for (const Slot& slot : old)
      if (slot.merge.rank >= 0) slots_[place(slot.key)] = slot;
  }

  std::vector<Slot> slots_;
  size_t used_ = 0;
};

/// Merges neighbours until no pair is known: always the pair of the lowest rank, the leftmost of equals.
void merge_short(const Merges& merges, std::vector<ModelToken>& symbols, size_t first) {
  constexpr int32_t kNever = INT32_MAX;
  thread_local std::vector<Merges::Merge> pairs;  // of symbols i and i + 1
  const auto look_up = [&](size_t i) {
    Merges::Merge found = merges.find(symbols[i].id, symbols[i + 1].id);
    if (found.rank < 0) found.rank = kNever;
    return found;
  };
  pairs.clear();
  for (size_t i = first; i + 1 < symbols.size(); ++i) pairs.push_back(look_up(i));
  while (!pairs.empty()) {
    const auto best =
        std::min_element(pairs.begin(), pairs.end(), [](const auto& a, const auto& b) { return a.rank < b.rank; });
    if (best->rank == kNever) return;
    const auto at = static_cast<size_t>(best - pairs.begin());
    symbols[first + at].id = best->id;
    symbols[first + at].end = symbols[first + at + 1].end;
    symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(first + at + 1));
    pairs.erase(best);
    if (at < pairs.size()) pairs[at] = look_up(first + at);
    if (at > 0) pairs[at - 1] = look_up(first + at - 1);
  }
}

/// The same in O(n log n).
void merge_long(const Merges& merges, std::vector<ModelToken>& symbols, size_t first) {
  constexpr int64_t kGone = -1;
  const size_t n = symbols.size() - first;
  std::vector<size_t> previous(n), next(n);
  // (rank, place of the left one, merged id); an entry is out of date when the pair there now merges to something else.
  using Entry = std::tuple<int32_t, size_t, int32_t>;
  std::priority_queue<Entry, std::vector<Entry>, std::greater<>> queue;
  const auto at = [&](size_t i) -> ModelToken& { return symbols[first + i]; };
  const auto consider = [&](size_t left) {
    if (next[left] >= n) return;
    const auto found = merges.find(at(left).id, at(next[left]).id);
    if (found.rank >= 0) queue.emplace(found.rank, left, found.id);
  };
  for (size_t i = 0; i < n; ++i) {
    previous[i] = i - 1;  // n and more at the front
    next[i] = i + 1;
  }
  for (size_t i = 0; i < n; ++i) consider(i);
  while (!queue.empty()) {
    const auto [rank, left, merged] = queue.top();
    queue.pop();
    if (at(left).id == kGone || next[left] >= n) continue;
    const size_t right = next[left];
    const auto now = merges.find(at(left).id, at(right).id);
    if (now.rank < 0 || now.id != merged) continue;
    at(left).id = merged;
    at(left).end = at(right).end;
    at(right).id = kGone;
    next[left] = next[right];
    if (next[left] < n) previous[next[left]] = left;
    if (previous[left] < n) consider(previous[left]);
    consider(left);
  }
  symbols.erase(std::remove_if(symbols.begin() + static_cast<std::ptrdiff_t>(first), symbols.end(),
                               [](const ModelToken& t) { return t.id == kGone; }),
                symbols.end());
}

/// "a b" of older files, ["a", "b"] of newer ones.
std::pair<std::string, std::string> read_merge(const json& merge, const std::string& where) {
  if (merge.is_array() && merge.size() == 2 && merge[0].is_string() && merge[1].is_string())
    return {merge[0].get<std::string>(), merge[1].get<std::string>()};
  const std::string text = merge.is_string() ? merge.get<std::string>() : "";
  const size_t space = text.find(' ');
  check(space != std::string::npos && text.find(' ', space + 1) == std::string::npos, where, ".merges holds ",
        shown(merge), R"(; expected "a b" or ["a", "b"])");
  return {text.substr(0, space), text.substr(space + 1)};
}

class BpeModel final : public TokenModel {
 public:
  explicit BpeModel(const Component& model) {
    model.known({"dropout", "unk_token", "continuing_subword_prefix", "end_of_word_suffix", "fuse_unk", "byte_fallback",
                 "ignore_merges", "vocab", "merges", "cache_capacity"});
    check(model.value("dropout", 0.0) == 0, model.place(), ".dropout is ", model.value("dropout", 0.0),
          ": merges left out by chance are not supported; set it to null");
    read_vocabulary(model, vocabulary_);
    unknown_name_ = model.value<std::string>("unk_token", "");
    has_unknown_ = model.json().contains("unk_token") && !model.json()["unk_token"].is_null();
    prefix_ = model.value<std::string>("continuing_subword_prefix", "");
    suffix_ = model.value<std::string>("end_of_word_suffix", "");
    fuse_unknown_ = model.value("fuse_unk", false);
    byte_fallback_ = model.value("byte_fallback", false);
    whole_words_first_ = model.value("ignore_merges", false);
    read_merges(model);
    for (size_t byte = 0; byte < 256; ++byte)
      bytes_[byte] = vocabulary_.find(byte_piece(static_cast<unsigned char>(byte))).value_or(-1);
    fill_characters();
  }
  std::string kind() const override { return "bpe"; }

  void tokenize(std::string_view word, std::vector<ModelToken>& out) const override {
    if (whole_words_first_) {
      if (const auto id = vocabulary_.find(word)) {
        out.push_back({*id, 0, static_cast<uint32_t>(word.size())});
        return;
      }
    }
    const size_t first = out.size();
    append_symbols(word, out);
    constexpr size_t kShort = 40;
    if (out.size() - first <= kShort) merge_short(merges_, out, first);
    else merge_long(merges_, out, first);
  }

 private:
  void read_merges(const Component& model) {
    const json& merges = json_member(model.json(), "merges", model.place());
    check(merges.is_array(), model.place(), ".merges: expected a list, found ", shown(merges));
    int32_t rank = 0;
    for (const json& merge : merges) {
      if (merge.is_string() && merge.get_ref<const std::string&>().starts_with("#version")) continue;
      const auto [left, right] = read_merge(merge, model.place());
      check(right.size() >= prefix_.size(), model.place(), ".merges joins '", left, "' and '", right,
            "', which is shorter than the prefix '", prefix_, "'");
      const std::string joined = left + right.substr(prefix_.size());
      const auto a = vocabulary_.find(left), b = vocabulary_.find(right), ab = vocabulary_.find(joined);
      check(a && b && ab, model.place(), ".merges joins '", left, "' and '", right, "', but ", model.place(),
            ".vocab lacks one of them or the two together");
      merges_.add(*a, *b, rank++, *ab);
    }
  }

  /// Ids of single characters below U+0800, which most of a text consists of; only where no prefix and suffix changes
  /// them.
  void fill_characters() {
    characters_.fill(-1);
    if (!prefix_.empty() || !suffix_.empty()) return;
    for (char32_t code = 0; code < characters_.size(); ++code) {
      std::string piece;
      append_utf8(piece, code);
      characters_[code] = vocabulary_.find(piece).value_or(-1);
    }
  }

  std::optional<int64_t> symbol(std::string_view word, size_t at, size_t end, std::string& buffer,
                                std::string_view& shown) const {
    shown = word.substr(at, end - at);
    if (prefix_.empty() && suffix_.empty()) {
      if (end - at <= 2) {
        const int64_t id = characters_[utf8_at(word, at)];
        return id < 0 ? std::nullopt : std::optional(id);
      }
      return vocabulary_.find(shown);
    }
    buffer.clear();
    if (at > 0) buffer += prefix_;
    buffer += shown;
    if (end == word.size()) buffer += suffix_;
    shown = buffer;
    return vocabulary_.find(buffer);
  }

  void append_symbols(std::string_view word, std::vector<ModelToken>& out) const {
    std::string buffer;
    std::string_view text;
    int64_t waiting = -1;  // the unknown token that has not been added yet, and how many bytes it stands for
    uint32_t waiting_bytes = 0, done = 0;
    const auto add = [&](int64_t id, uint32_t bytes) {
      out.push_back({id, done, done + bytes});
      done += bytes;
    };
    for (size_t at = 0; at < word.size();) {
      const size_t end = at + utf8_length(word[at]);
      const auto bytes = static_cast<uint32_t>(end - at);
      if (const auto id = symbol(word, at, end, buffer, text)) {
        if (waiting >= 0) add(waiting, waiting_bytes);
        waiting = -1;
        add(*id, bytes);
      } else if (byte_fallback_ && std::all_of(text.begin(), text.end(),
                                               [&](char c) { return bytes_[static_cast<unsigned char>(c)] >= 0; })) {
        // An unknown token that waits is added behind these, as the library does.
        for (const char byte : text) add(bytes_[static_cast<unsigned char>(byte)], 1);
      } else if (has_unknown_) {
        if (waiting >= 0 && fuse_unknown_) {
          waiting_bytes += bytes;
        } else {
          if (waiting >= 0) add(waiting, waiting_bytes);
          waiting = need(unknown_name_);
          waiting_bytes = bytes;
        }
      }
      at = end;
    }
    if (waiting >= 0) add(waiting, waiting_bytes);
  }

  Merges merges_;
  std::string unknown_name_, prefix_, suffix_;
  bool has_unknown_ = false, fuse_unknown_ = false, byte_fallback_ = false, whole_words_first_ = false;
  std::array<int64_t, 256> bytes_{};
  std::array<int64_t, 0x800> characters_{};
};

}  // namespace

std::unique_ptr<TokenModel> read_bpe(const Component& model) { return std::make_unique<BpeModel>(model); }

}  // namespace deeplora
