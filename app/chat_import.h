// Chats from files: nemo's own (chat_export.h), and what other programs write: {"messages": [...]}
// as in the OpenAI interface, an array of such objects, a bare array of messages, and
// llama-server's exports with their trees ({"conv": ..., "messages": ...}).
#pragma once

#include "app/chat_store.h"

#include <string>
#include <string_view>
#include <vector>

namespace nemo {

// Ready for ChatStore::add_copy().
struct ImportedChat {
    Chat chat;
    std::vector<Message> messages;
};

struct ImportedChats {
    std::vector<ImportedChat> chats;
    std::vector<std::string> skipped;  // a sentence for each chat that cannot be read
};

// Null and unknown fields do not matter. `source` names the file. Throws Error{bad_file} if there
// is nothing like a chat in it, or it is in a newer format of nemo.
ImportedChats read_chats(const Json& document, std::string_view source);

}  // namespace nemo
