// What the terminal chat says about a chat: plain text, safe for a terminal.
#pragma once

#include "app/chat_store.h"
#include "app/conversation.h"

#include <string>
#include <vector>

namespace nemo {

// One line: what was read and written, and how full the context is.
std::string footer_text(const AnswerReport& report, const ContextUsage& usage);
// Several lines: where the memory goes, and what of it grows.
std::string usage_text(const ContextUsage& usage);
// One line per message; `leaf` is the last one of the branch that is shown.
std::string tree_text(const std::vector<Message>& tree, int64_t leaf);
// One line per end of a branch.
std::string branches_text(const std::vector<Message>& tree, int64_t leaf);
std::string chats_text(const std::vector<Chat>& chats);
std::string hits_text(const std::vector<SearchHit>& hits);

// The beginning of a text, on one line.
std::string excerpt(std::string_view text, size_t n_characters);

}  // namespace nemo
