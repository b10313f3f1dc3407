#include "text/byte_splitter.h"

#include "core/error.h"
#include "text/tokenizer_json.h"
#include "text/unicode.h"

namespace deeplora {
namespace {

using nlohmann::json;

constexpr std::string_view kGpt2 =
    R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr std::string_view kQwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr std::string_view kLlama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

bool is_line_end(char32_t c) {
  return c == '\n' || c == '\r';
}
bool is_symbol(char32_t c) {
  return !is_space(c) && !is_letter(c) && !is_number(c);
}

/// First place from `at` on where `holds` is false.
template <class Holds>
size_t run(std::u32string_view text, size_t at, Holds holds) {
  while (at < text.size() && holds(text[at])) ++at;
  return at;
}

char32_t ascii_lower(char32_t c) {
  if (c == 0x17F) return 's';  // the long s is an s to a case-insensitive expression
  return c >= 'A' && c <= 'Z' ? c + 32 : c;
}

/// End of 's 't 're 've 'm 'll 'd at `at`, or `at`.
size_t contraction(std::u32string_view text, size_t at, bool any_case) {
  if (text[at] != '\'') return at;
  const auto letter = [&](size_t i) -> char32_t {
    if (at + i >= text.size()) return 0;
    return any_case ? ascii_lower(text[at + i]) : text[at + i];
  };
  const char32_t a = letter(1), b = letter(2);
  if (a == 's' || a == 't' || a == 'm' || a == 'd') return at + 2;
  const bool two = (a == 'r' && b == 'e') || (a == 'v' && b == 'e') || (a == 'l' && b == 'l');
  return two ? at + 3 : at;
}

/// \s+(?!\S)|\s+ : white space before a word leaves its last character to the word.
size_t white_space(std::u32string_view text, size_t at) {
  const size_t end = run(text, at, is_space);
  return end < text.size() && end - at > 1 ? end - 1 : end;
}

/// End of the match of GPT-2's expression at `at`.
size_t match_gpt2(std::u32string_view text, size_t at) {
  if (const size_t end = contraction(text, at, false); end > at) return end;
  const size_t start = text[at] == ' ' && at + 1 < text.size() ? at + 1 : at;
  for (const auto holds : {is_letter, is_number, is_symbol})
    if (const size_t end = run(text, start, holds); end > start) return end;
  return white_space(text, at);
}

/// End of the match of the expression of Qwen 2 (most_digits 1) or Llama 3 (3).
size_t match_qwen2(std::u32string_view text, size_t at, size_t most_digits) {
  if (const size_t end = contraction(text, at, true); end > at) return end;
  const bool may_lead = !is_line_end(text[at]) && !is_letter(text[at]) && !is_number(text[at]);
  const size_t start = may_lead ? at + 1 : at;
  if (const size_t end = run(text, start, is_letter); end > start) return end;
  if (const size_t end = run(text, at, is_number); end > at) return std::min(end, at + most_digits);
  const size_t symbols = text[at] == ' ' ? at + 1 : at;
  if (const size_t end = run(text, symbols, is_symbol); end > symbols) return run(text, end, is_line_end);
  const size_t blank = run(text, at, is_space);
  for (size_t end = blank; end > at; --end)
    if (is_line_end(text[end - 1])) return end;
  return white_space(text, at);
}

template <class Match>
void cut(std::u32string_view text, Match match, std::vector<std::u32string>& out) {
  for (size_t at = 0; at < text.size();) {
    const size_t end = match(text, at);
    out.emplace_back(text.substr(at, end - at));
    at = end;
  }
}

/// Runs of digits and of other characters; `each`: every digit alone.
size_t match_digits(std::u32string_view text, size_t at, bool each) {
  if (is_digit(text[at])) return each ? at + 1 : run(text, at, is_digit);
  return run(text, at, [](char32_t c) { return !is_digit(c); });
}

}  // namespace

ByteSplitter ByteSplitter::from_json(const json& pre_tokenizer, const std::string& file) {
  ByteSplitter out;
  std::vector<json> list{pre_tokenizer};
  if (pre_tokenizer.is_object() && pre_tokenizer.contains("pretokenizers"))
    list = pre_tokenizer["pretokenizers"].get<std::vector<json>>();
  const auto type = [&](const json& one) {
    return one.is_object() ? json_value<std::string>(one, "type", "", file) : std::string();
  };
  check(!list.empty() && type(list.back()) == "ByteLevel", file,
        ": byte-level BPE needs a pre_tokenizer that ends in ByteLevel, found '",
        list.empty() ? std::string() : type(list.back()), "'");
  for (const json& one : list) out.add_step(one, file);
  return out;
}

void ByteSplitter::add_step(const json& one, const std::string& file) {
  const auto type = json_value<std::string>(one, "type", "", file);
  if (type == "ByteLevel") {
    if (json_value<bool>(one, "add_prefix_space", true, file)) steps_.push_back(Step::prefix_space);
    if (json_value<bool>(one, "use_regex", true, file)) steps_.push_back(Step::gpt2);
    return;
  }
  if (type == "Digits") {
    const bool each = json_value<bool>(one, "individual_digits", false, file);
    steps_.push_back(each ? Step::digits_each : Step::digits_together);
    return;
  }
  check(type == "Split", file, ": pre_tokenizer step '", type,
        "' is not supported for byte-level BPE; known: ByteLevel, Digits, Split");
  const json pattern = one.value("pattern", json());
  const auto expression =
      pattern.is_object() ? json_value<std::string>(pattern, "Regex", "", file) : std::string();
  const bool plain = json_value<std::string>(one, "behavior", "", file) == "Isolated" &&
                     !json_value<bool>(one, "invert", false, file);
  if (plain && expression == kGpt2)
    steps_.push_back(Step::gpt2);
  else if (plain && expression == kQwen2)
    steps_.push_back(Step::qwen2);
  else if (plain && expression == kLlama3)
    steps_.push_back(Step::llama3);
  else
    fail(file, ": pre_tokenizer Split ", one.dump(),
         " is not supported; known: the expressions of GPT-2, Qwen 2 and Llama 3");
}

std::vector<std::u32string> ByteSplitter::split(std::u32string_view text) const {
  std::vector<std::u32string> words{std::u32string(text)};
  for (const Step step : steps_) {
    std::vector<std::u32string> next;
    for (auto& word : words) {
      switch (step) {
        case Step::prefix_space:
          next.push_back(word.starts_with(U' ') ? std::move(word) : U' ' + word);
          break;
        case Step::gpt2:
          cut(word, match_gpt2, next);
          break;
        case Step::qwen2:
          cut(
              word, [](std::u32string_view t, size_t at) { return match_qwen2(t, at, 1); }, next);
          break;
        case Step::llama3:
          cut(
              word, [](std::u32string_view t, size_t at) { return match_qwen2(t, at, 3); }, next);
          break;
        case Step::digits_each:
        case Step::digits_together:
          cut(
              word,
              [&](std::u32string_view t, size_t at) {
                return match_digits(t, at, step == Step::digits_each);
              },
              next);
          break;
      }
    }
    words = std::move(next);
  }
  return words;
}

}  // namespace deeplora
