// Rows that are conversations as tokens: which are learnt, what generation starts from, and what goes when they are too
// long. Free of LibTorch.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

#include "tasks/chat_template.h"
#include "text/table.h"
#include "text/tokenizer.h"

namespace deeplora {

/// The column that ShareGPT's files have.
inline constexpr const char* kShareGptColumn = "conversations";

/// True for a row with `messages_column` or ShareGPT's.
bool is_conversation(const Row& row, const std::string& messages_column);
/// Its messages, tools and documents; a column "system" stands in front of ShareGPT's. Throws Error naming row.source.
Conversation read_conversation(const Row& row, const std::string& messages_column);

/// An Alpaca row's text columns: "instruction", and "input" and "system" where they are there. Throws Error naming
/// row.source.
std::string alpaca_column(const Row& row, const std::string& column);
/// Its question as a conversation.
Conversation alpaca_conversation(const Row& row);

/// Tokens of a conversation.
struct ChatTokens {
  std::vector<int64_t> ids;    ///< [T], those of the whole text
  std::vector<bool> learnt{};  ///< [T]; empty for a question
  size_t last_answer = 0;      ///< where the last learnt stretch begins; of a pair's answer, the first
  std::vector<int64_t>
      prompt{};            ///< what generation of the last answer starts from; empty where there is nothing before it
  size_t fixed = 0;        ///< tokens in front that stay whatever is cut: the one that begins every text
  bool shortened = false;  ///< oldest turns were left out
};

/// The answers of a conversation, which are learnt, and all around them. Where it has more than `most` tokens, whole
/// oldest turns go, as few as make it fit; system texts in front and the last question stay, so more than `most` may be
/// left. A token that holds the first or last character of an answer is learnt. Throws Error for what the template
/// raises, and for a conversation without an answer.
ChatTokens tokens_of_answers(const Conversation& conversation, const ChatTemplate& chat, const Tokenizer& tokenizer,
                             size_t most);
/// A conversation to be answered (without its own last answer).
ChatTokens tokens_of_question(Conversation conversation, const ChatTemplate& chat, const Tokenizer& tokenizer,
                              size_t most);

/// Two continuations of one conversation, `question`, each with its own messages learnt and nothing before. Oldest
/// turns go for both alike, as few as make the longer one fit; `most` and the rest as in tokens_of_answers().
std::pair<ChatTokens, ChatTokens> tokens_of_pair(const Conversation& question, const std::vector<ChatMessage>& first,
                                                 const std::vector<ChatMessage>& second, const ChatTemplate& chat,
                                                 const Tokenizer& tokenizer, size_t most);

}  // namespace deeplora
