// Configuration, tables, tokenizers, chat templates.
#include <stdexcept>

#include "core/config.h"
#include "core/error.h"
#include "core/files.h"
#include "tasks/chat_template.h"
#include "tests/fuzz/targets.h"
#include "text/table.h"
#include "text/tokenizer.h"

namespace deeplora::fuzz {
namespace {

/// Reads one key as every type there is, then sections and lists below it.
void read_everything(const Config& config, int depth) {
  const auto read = [&]<class T>(const std::string& key, T value) { config.read(key, value, "a value"); };
  read("flag", bool{});
  read("whole", int64_t{});
  read("number", double{});
  read("text", std::string{});
  read("path", std::filesystem::path{});
  read("wholes", std::vector<int64_t>{});
  read("numbers", std::vector<double>{});
  read("texts", std::vector<std::string>{});
  read("maybe", std::optional<int64_t>{});
  std::string word = "auto";
  config.read_choice("choice", word, {"auto", "yes", "no"}, "a word");
  config.require(false == config.has("never"), "never", "nothing");
  config.keys();
  if (depth == 0) return;
  read_everything(config.section("train"), depth - 1);
  for (const Config& item : config.items("methods")) read_everything(item, depth - 1);
}

void encode_and_decode(const Tokenizer& tokenizer, std::string_view text) {
  for (const int64_t length : {int64_t{0}, int64_t{8}}) {
    try {
      const Encoding one = tokenizer.encode(text, std::nullopt, length);
      const Encoding aligned = tokenizer.encode(text, std::nullopt, length, true);
      if (aligned.ids != one.ids || aligned.offsets.size() != one.ids.size())
        throw std::logic_error("other tokens with offsets than without");
      tokenizer.encode_target(text);
      const Encoding two = tokenizer.encode(text, text.substr(0, text.find(' ')), length);
      for (const auto* encoding : {&one, &two})
        for (const bool skip : {false, true}) tokenizer.decode(encoding->ids, skip);
    } catch (const Error&) {
    }
  }
}

void tokenize(const std::map<std::string, std::string>& files, std::string_view text) {
  std::unique_ptr<Tokenizer> tokenizer;
  try {
    tokenizer = make_tokenizer([&](const std::string& name) -> std::optional<std::string> {
      const auto found = files.find(name);
      return found == files.end() ? std::nullopt : std::optional(found->second);
    });
  } catch (const Error&) {
    return;
  }
  if (!tokenizer) return;
  encode_and_decode(*tokenizer, text);
  encode_and_decode(*tokenizer, "The cat's  12 mats \xF0\x9F\x98\x80\n<s>[MASK]</s>");
}

std::map<std::string, std::string> files_of(const char* name, std::string_view content, std::string_view config) {
  std::map<std::string, std::string> files{{name, std::string(content)}};
  if (!config.empty()) files["tokenizer_config.json"] = std::string(config);
  return files;
}

}  // namespace

void config(std::string_view input) {
  const auto parts = parts_of(input, 2);
  try {
    Config given = Config::parse(std::string(parts[0]), "file");
    for (std::string_view sets = parts[1]; !sets.empty();) {
      const size_t end = std::min(sets.find('\n'), sets.size());
      given.set(std::string(sets.substr(0, end)));
      sets.remove_prefix(std::min(end + 1, sets.size()));
    }
    given.overlay("train", "methods.0");
    read_everything(given, 2);
    given.finish();
    given.copy().dump_all();
    given.dump_all();
    const Config again = Config::parse(given.dump(), "dumped");
    read_everything(again, 2);
    again.finish();
    if (again.dump() != given.dump())
      throw std::logic_error("a dumped configuration reads back as another:\n" + given.dump() + "---\n" + again.dump());
  } catch (const Error&) {
  }
}

void table(std::string_view input) {
  std::string_view content;
  const auto options = options_of(input, 3, content);
  const MemoryFile file(content);
  try {
    const std::vector<std::string> wanted = options[2].empty() ? std::vector<std::string>{} : std::vector{options[2]};
    TableOptions how{
        .format = options[0], .header = options[1].empty() ? "auto" : options[1], .wanted = wanted, .known = {"label"}};
    for (const char* encoding : {"utf-16", "cp1252"}) {
      how.encoding = encoding;
      try {
        read_table(file.path(), how);
      } catch (const Error&) {
      }
    }
    how.encoding = "utf-8";
    for (const Row& row : read_table(file.path(), how).rows) {
      row.fields.dump();
      if (row.fields.contains("messages")) read_messages(row.fields.at("messages"), row.source);
    }
  } catch (const Error&) {
  }
}

void tokenizer(std::string_view input) {
  const auto parts = parts_of(input, 3);
  tokenize(files_of("tokenizer.json", parts[0], parts[1]), parts[2]);
}

void vocab_txt(std::string_view input) {
  const auto parts = parts_of(input, 3);
  tokenize(files_of("vocab.txt", parts[0], parts[1]), parts[2]);
}

void sentencepiece(std::string_view input) {
  // Each class makes something else of a model; Marian's reads it by itself.
  for (const char* name : {"AlbertTokenizer", "DebertaV2Tokenizer", "GemmaTokenizer", "LlamaTokenizer",
                           "MBart50Tokenizer", "NllbTokenizer", "PegasusTokenizer", "PreTrainedTokenizerFast",
                           "T5Tokenizer", "XLMRobertaTokenizer", "XLNetTokenizer"})
    tokenize(files_of("spiece.model", input, cat(R"({"add_bos_token": true, "tokenizer_class": ")", name, "\"}")),
             "a cat \xE2\x96\x81mat");
  tokenize({{"source.spm", std::string(input)},
            {"target.spm", std::string(input)},
            {"vocab.json", R"({"<unk>": 0, "</s>": 1, "<pad>": 2, "a": 3})"}},
           ">>de<< a cat");
}

void chat_template(std::string_view input) {
  const auto parts = parts_of(input, 2);
  if (!is_valid_utf8(parts[1])) return;  // readers of rows have seen to that
  const auto json = nlohmann::ordered_json(std::string(parts[1]));
  const jinja::Variables tokens{{"bos_token", jinja::Value("<s>")}, {"eos_token", jinja::Value("</s>")}};
  try {
    const auto chat = ChatTemplate::parse(std::string(parts[0]), "template", tokens);
    Conversation conversation{{make_message("user", "Hi"), make_message("assistant", "Hello.")}, {}, {}};
    try {
      conversation.messages = read_messages(json, "line 1");
    } catch (const Error&) {  // then the template has these two
    }
    chat.end_of_turn();
    try {
      chat.prompt(conversation);
    } catch (const Error&) {
    }
    const ChatText whole = chat.whole(conversation);
    for (const auto& [begin, end] : whole.answers)
      if (begin > end || end > whole.text.size()) throw std::logic_error("an answer outside of the text");
  } catch (const Error&) {
  }
}

}  // namespace deeplora::fuzz
