// Chats as text for other programs and people.
//
// JSON: {"format": "nemo-chats", "version": 1, "chats": [CHAT, ...]}; a chat has all of Chat's
// fields and "messages", the whole tree, with all of Message's but the chat. Reading it back
// (chat_import.h) loses nothing.
#pragma once

#include "app/chat_store.h"

#include <functional>
#include <string>
#include <vector>

namespace nemo {

constexpr const char* kChatFormat = "nemo-chats";
constexpr int64_t kChatFormatVersion = 1;

Json chat_to_json(const Chat& chat, const std::vector<Message>& messages);

// A heading for the chat and for each message.
std::string chat_to_markdown(const Chat& chat, const std::vector<Message>& shown);

enum class ChatDocument { json, markdown };
// Gives a document of the chats piece by piece to `write`, so that memory holds one chat at a time.
void export_chats(const ChatStore& store, const std::vector<Chat>& chats, ChatDocument format,
                  const std::function<void(const std::string&)>& write);

}  // namespace nemo
