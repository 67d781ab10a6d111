#include "app/chat_export.h"

#include <fmt/core.h>

namespace nemo {

namespace {

Json message_to_json(const Message& message) {
    return Json::Object{{"id", message.id},
                        {"parent", message.parent == 0 ? Json() : Json(message.parent)},
                        {"role", message.role},
                        {"content", message.content},
                        {"reasoning", message.reasoning},
                        {"state", std::string(message_state_name(message.state))},
                        {"created", message.created},
                        {"stats", message.stats}};
}

std::string heading(const std::string& role) {
    if (role == "user") return "User";
    if (role == "assistant") return "Assistant";
    return role == "system" ? "System" : role == "tool" ? "Tool" : "Other";
}

// Each line marked as a quotation.
std::string quoted(const std::string& text) {
    std::string result = "> ";
    for (const char c : text) {
        result.push_back(c);
        if (c == '\n') result += "> ";
    }
    return result;
}

}  // namespace

Json chat_to_json(const Chat& chat, const std::vector<Message>& messages) {
    Json::Array list;
    for (const Message& message : messages) list.push_back(message_to_json(message));
    return Json::Object{
        {"id", chat.id},
        {"title", chat.title},
        {"has_own_title", chat.has_own_title},
        {"folder", chat.folder},
        {"is_pinned", chat.is_pinned},
        {"system", chat.system},
        {"model", Json::Object{{"path", chat.model.path}, {"name", chat.model.name}}},
        {"settings", chat.settings},
        {"leaf", chat.leaf == 0 ? Json() : Json(chat.leaf)},
        {"created", chat.created},
        {"updated", chat.updated},
        {"deleted", chat.deleted ? Json(*chat.deleted) : Json()},
        {"messages", std::move(list)}};
}

std::string chat_to_markdown(const Chat& chat, const std::vector<Message>& shown) {
    std::string text = "# " + (chat.title.empty() ? "Untitled" : chat.title) + "\n";
    if (!chat.system.empty()) text += "\n## System\n\n" + chat.system + "\n";
    for (const Message& message : shown) {
        text += "\n## " + heading(message.role);
        if (message.state != MessageState::complete)
            text += fmt::format(" ({})", message_state_name(message.state));
        text += "\n\n";
        if (!message.reasoning.empty()) text += quoted(message.reasoning) + "\n\n";
        text += message.content + "\n";
    }
    return text;
}

void export_chats(const ChatStore& store, const std::vector<Chat>& chats, ChatDocument format,
                  const std::function<void(const std::string&)>& write) {
    if (format == ChatDocument::markdown) {
        for (size_t i = 0; i < chats.size(); ++i)
            write((i > 0 ? "\n---\n\n" : "") +
                  chat_to_markdown(chats[i], store.shown(chats[i].id)));
        return;
    }
    write(fmt::format("{{\"format\":\"{}\",\"version\":{},\"chats\":[\n", kChatFormat,
                      kChatFormatVersion));
    for (size_t i = 0; i < chats.size(); ++i)
        write((i > 0 ? ",\n" : "") + to_json_text(chat_to_json(chats[i], store.tree(chats[i].id))));
    write("\n]}\n");
}

}  // namespace nemo
