// The model of sentencepiece's language model: the cut of a text into pieces whose scores add up to most.
#include <algorithm>
#include <array>
#include <limits>

#include "text/token_model.h"
#include "text/unicode.h"

namespace deeplora {
namespace {

/// All pieces that a text begins with, shortest first.
class Trie {
 public:
  /// `keys` in any order; the last of equal ones counts.
  void build(std::vector<std::pair<std::string_view, int32_t>> keys) {
    std::stable_sort(keys.begin(), keys.end(), [](const auto& a, const auto& b) { return a.first < b.first; });
    nodes_.assign(1, {});
    edges_.assign(64, {});
    roots_.fill(0);
    for (const auto& [key, id] : keys) add(key, id);
  }

  /// use(length, id) for every piece that `text` begins with.
  template <class Use>
  void prefixes(std::string_view text, Use use) const {
    if (text.empty()) return;
    uint32_t node = roots_[static_cast<unsigned char>(text[0])];
    for (size_t length = 1; node != 0; ++length) {
      if (nodes_[node] >= 0) use(length, nodes_[node]);
      if (length == text.size()) return;
      node = child(node, static_cast<unsigned char>(text[length]));
    }
  }

 private:
  struct Edge {
    uint32_t from = 0;  // node << 8 | byte; nodes beyond the root only, so 0 is free
    uint32_t to = 0;
  };
  static size_t hash(uint32_t from) { return static_cast<size_t>((from * uint64_t{0x9E3779B97F4A7C15}) >> 32); }

  uint32_t child(uint32_t node, unsigned char byte) const {
    const uint32_t from = node << 8 | byte;
    const size_t mask = edges_.size() - 1;
    for (size_t at = hash(from) & mask;; at = (at + 1) & mask) {
      if (edges_[at].from == from) return edges_[at].to;
      if (edges_[at].from == 0) return 0;
    }
  }
  void connect(Edge edge) {
    const size_t mask = edges_.size() - 1;
    size_t at = hash(edge.from) & mask;
    while (edges_[at].from != 0) at = (at + 1) & mask;
    edges_[at] = edge;
  }
  uint32_t new_node() {
    constexpr size_t kMost = size_t{1} << 24;
    check(nodes_.size() < kMost, "the vocabulary's pieces share too little: more than ", kMost,
          " different beginnings");
    nodes_.push_back(-1);
    return static_cast<uint32_t>(nodes_.size() - 1);
  }
  void add(std::string_view key, int32_t id) {
    if (key.empty()) return;
    uint32_t& root = roots_[static_cast<unsigned char>(key[0])];
    if (root == 0) root = new_node();
    uint32_t node = root;
    for (size_t i = 1; i < key.size(); ++i) {
      const auto byte = static_cast<unsigned char>(key[i]);
      uint32_t next = child(node, byte);
      if (next == 0) {
        next = new_node();
        if (2 * nodes_.size() > edges_.size()) {
          std::vector<Edge> old(2 * edges_.size());
          old.swap(edges_);
          for (const Edge& edge : old)
            if (edge.from != 0) connect(edge);
        }
        connect({node << 8 | byte, next});
      }
      node = next;
    }
    nodes_[node] = id;
  }

  std::vector<int32_t> nodes_;  // id of the piece that ends here, or -1; node 0 is none
  std::vector<Edge> edges_;
  std::array<uint32_t, 256> roots_{};
};

class UnigramModel final : public TokenModel {
 public:
  explicit UnigramModel(const Component& model) {
    model.known({"unk_id", "vocab", "byte_fallback"});
    byte_fallback_ = model.value("byte_fallback", false);
    read_pieces(model);
    if (model.json().contains("unk_id") && !model.json()["unk_id"].is_null()) {
      unknown_ = model.at<int64_t>("unk_id");
      check(unknown_ >= 0 && unknown_ < static_cast<int64_t>(scores_.size()), model.place(), ".unk_id is ", unknown_,
            "; expected 0 to ", static_cast<int64_t>(scores_.size()) - 1);
    }
    for (size_t byte = 0; byte < 256; ++byte)
      bytes_[byte] = vocabulary_.find(byte_piece(static_cast<unsigned char>(byte))).value_or(-1);
  }
  std::string kind() const override { return "unigram"; }
  int64_t count() const override { return static_cast<int64_t>(scores_.size()); }
  bool shows_own_text(int64_t id) const override { return id == unknown_; }

  void tokenize(std::string_view text, std::vector<ModelToken>& out) const override {
    thread_local std::vector<Node> best;
    find_best(text, best);
    const size_t first = out.size();
    // From the end to the beginning; unknown neighbours become one.
    for (size_t end = text.size(); end > 0;) {
      size_t begin = best[end].begin;
      if (best[end].id == unknown_) {
        while (begin > 0 && best[begin].id == unknown_) begin = best[begin].begin;
        append_unknown(text, begin, end, out);
      } else {
        out.push_back({best[end].id, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)});
      }
      end = begin;
    }
    std::reverse(out.begin() + static_cast<std::ptrdiff_t>(first), out.end());
  }

 private:
  /// The best cut of a text up to some place.
  struct Node {
    int64_t id = -1;
    double score = 0;
    size_t begin = kNone;  // of its last piece
  };
  static constexpr size_t kNone = static_cast<size_t>(-1);

  void read_pieces(const Component& model) {
    const nlohmann::json& pieces = json_member(model.json(), "vocab", model.place());
    check(pieces.is_array(), model.place(), ".vocab: expected a list of [\"piece\", score], found ", shown(pieces));
    std::vector<std::pair<std::string_view, int32_t>> keys;
    for (const auto& entry : pieces) {
      check(entry.is_array() && entry.size() == 2 && entry[0].is_string() && entry[1].is_number(), model.place(),
            ".vocab holds ", shown(entry), "; expected [\"piece\", score]");
      const auto& piece = entry[0].get_ref<const std::string&>();
      const auto id = static_cast<int64_t>(scores_.size());
      scores_.push_back(entry[1].get<double>());
      lowest_ = std::min(lowest_, scores_.back());
      vocabulary_.set(piece, id);
      keys.emplace_back(piece, static_cast<int32_t>(id));
    }
    trie_.build(std::move(keys));
  }

  void find_best(std::string_view text, std::vector<Node>& best) const {
    constexpr double kPenalty = 10;  // of an unknown character, beside the lowest score
    const double unknown_score = lowest_ - kPenalty;
    best.assign(text.size() + 1, {});
    for (size_t begin = 0; begin < text.size();) {
      const double here = best[begin].score;
      const size_t character = utf8_length(text[begin]);
      bool single = false;
      trie_.prefixes(text.substr(begin), [&](size_t length, int32_t id) {
        improve(best[begin + length], id, scores_[static_cast<size_t>(id)] + here, begin);
        single = single || length == character;
      });
      if (!single) {
        Node& node = best[begin + character];
        const double score = unknown_score + here;
        if (node.begin == kNone || score > node.score) {
          check(unknown_ >= 0, "the text holds something unknown, and the model names no unknown token (unk_id)");
          node = {unknown_, score, begin};
        }
      }
      begin += character;
    }
  }

  static void improve(Node& node, int64_t id, double score, size_t begin) {
    if (node.begin == kNone || score > node.score) node = {id, score, begin};
  }

  /// Tokens of text that no piece stands for, last first.
  void append_unknown(std::string_view text, size_t begin, size_t end, std::vector<ModelToken>& out) const {
    const ModelToken whole{unknown_, static_cast<uint32_t>(begin), static_cast<uint32_t>(end)};
    const std::string_view own = text.substr(begin, end - begin);
    if (const auto id = vocabulary_.find(own)) {
      out.push_back({*id, whole.begin, whole.end});
      return;
    }
    const auto has = [&](char byte) { return bytes_[static_cast<unsigned char>(byte)] >= 0; };
    if (!byte_fallback_ || !std::all_of(own.begin(), own.end(), has)) {
      out.push_back(whole);
      return;
    }
    for (auto byte = own.rbegin(); byte != own.rend(); ++byte)
      out.push_back({bytes_[static_cast<unsigned char>(*byte)], whole.begin, whole.end});
  }

  Trie trie_;
  std::vector<double> scores_;
  double lowest_ = std::numeric_limits<double>::infinity();
  int64_t unknown_ = -1;
  bool byte_fallback_ = false;
  std::array<int64_t, 256> bytes_{};
};

}  // namespace

std::unique_ptr<TokenModel> read_unigram(const Component& model) { return std::make_unique<UnigramModel>(model); }

}  // namespace deeplora
