#include "app/chat_import.h"

#include "app/chat_export.h"
#include "core/error.h"

#include <cmath>
#include <map>
#include <utility>

namespace nemo {

namespace {

std::string text_at(const Json& object, std::string_view key) {
    const Json* value = object.find(key);
    return value != nullptr && value->is_string() ? value->string() : "";
}

bool flag_at(const Json& object, std::string_view key) {
    const Json* value = object.find(key);
    return value != nullptr && value->is_bool() && value->boolean();
}

Json object_at(const Json& object, std::string_view key, Json otherwise) {
    const Json* value = object.find(key);
    return value != nullptr && value->is_object() ? *value : std::move(otherwise);
}

// Milliseconds, or seconds if it is too small for them.
std::optional<Timestamp> time_at(const Json& object, std::string_view key) {
    constexpr double kFirstMilliseconds = 1e11;  // in 1973; as seconds, in the year 5138
    constexpr double kEndOfTime = 1e15;
    const Json* value = object.find(key);
    if (value == nullptr || !value->is_number()) return std::nullopt;
    const double number = value->number();
    if (!(number >= 0 && number < kEndOfTime)) return std::nullopt;
    if (number >= kFirstMilliseconds) return static_cast<Timestamp>(number);
    return static_cast<Timestamp>(std::llround(number * 1000));
}

// An id as text, whatever it was; empty: none.
std::string id_at(const Json& object, std::string_view key) {
    const Json* value = object.find(key);
    return value == nullptr || value->is_null() ? "" : to_json_text(*value);
}

// A string, or the texts of a list of parts; what is no text is named.
std::string content_of(const Json& message) {
    const Json* content = message.find("content");
    if (content == nullptr || content->is_null()) {
        const Json* calls = message.find("tool_calls");
        return calls == nullptr || calls->is_null() ? "" : to_json_text(*calls);
    }
    if (content->is_string()) return content->string();
    if (!content->is_array()) fail(ErrorCode::bad_file, "its content is neither text nor parts");
    std::string text;
    for (const Json& part : content->array()) {
        const Json* piece = part.find("text");
        if (part.is_string())
            text += part.string();
        else if (piece != nullptr && piece->is_string())
            text += piece->string();
        else
            text += "[" + text_at(part, "type") + "]";
    }
    return text;
}

std::string reasoning_of(const Json& message) {
    for (const char* key : {"reasoning", "reasoning_content", "thinking"})
        if (std::string text = text_at(message, key); !text.empty()) return text;
    return "";
}

std::string role_of(const Json& message) {
    const std::string role = text_at(message, "role");
    if (role == "developer") return "system";
    if (role == "function") return "tool";
    for (const char* known : {"user", "assistant", "system", "tool"})
        if (role == known) return role;
    fail(ErrorCode::bad_file, "its role is \"{}\"", role);
}

MessageState state_of(const Json& message) {
    const std::string name = text_at(message, "state");
    if (name == message_state_name(MessageState::failed)) return MessageState::failed;
    if (name == message_state_name(MessageState::interrupted) ||
        name == message_state_name(MessageState::streaming))
        return MessageState::interrupted;
    return MessageState::complete;
}

// Reads the messages of one chat, and knows them by the ids they had.
class MessageReader {
public:
    void read(const Json& message) {
        if (!message.is_object()) fail(ErrorCode::bad_file, "it is no object");
        const std::string id = id_at(message, "id");
        if (text_at(message, "type") == "root") {  // llama-server's start, not a message
            if (!id.empty()) ids_[id] = 0;
            return;
        }
        messages_.push_back({.id = std::ssize(messages_) + 1,
                             .parent = parent_of(message),
                             .role = role_of(message),
                             .content = content_of(message),
                             .reasoning = reasoning_of(message),
                             .state = state_of(message),
                             .created = created_of(message),
                             .stats = object_at(message, "stats", Json())});
        if (!id.empty() && !ids_.emplace(id, messages_.back().id).second)
            fail(ErrorCode::bad_file, "its id {} occurs twice", id);
    }

    std::vector<Message> take() { return std::move(messages_); }
    bool empty() const { return messages_.empty(); }

    // 0 if there is no such message.
    int64_t find(const std::string& id) const {
        const auto found = ids_.find(id);
        return found == ids_.end() ? 0 : found->second;
    }

private:
    // Without the field: the message before.
    int64_t parent_of(const Json& message) const {
        if (message.find("parent") == nullptr) return std::ssize(messages_);
        const std::string parent = id_at(message, "parent");
        if (!parent.empty() && !ids_.contains(parent))
            fail(ErrorCode::bad_file, "its parent {} is not before it", parent);
        return find(parent);
    }

    static Timestamp created_of(const Json& message) {
        if (const auto time = time_at(message, "created")) return *time;
        return time_at(message, "timestamp").value_or(timestamp_now());
    }

    std::vector<Message> messages_;
    std::map<std::string, int64_t> ids_;
};

// The first message, when it is the system prompt and the only first one, belongs to the chat.
void move_system_prompt(ImportedChat& imported) {
    std::vector<Message>& messages = imported.messages;
    if (messages.empty() || messages[0].role != "system" || imported.chat.leaf == 1) return;
    for (size_t i = 1; i < messages.size(); ++i)
        if (messages[i].parent == 0) return;
    imported.chat.system = messages[0].content;
    messages.erase(messages.begin());
    for (Message& message : messages)
        if (message.parent == 1) message.parent = 0;
}

std::vector<Message> read_messages(const Json& list, MessageReader& reader) {
    int64_t number = 0;
    for (const Json& message : list.array()) {
        ++number;
        try {
            reader.read(message);
        } catch (const Error& error) {
            fail(ErrorCode::bad_file, "message {}: {}", number, error.what());
        }
    }
    return reader.take();
}

std::string title_of(const Json& document, const Json& conversation) {
    for (const auto& [object, key] :
         {std::pair(&document, "title"), std::pair(&conversation, "name"),
          std::pair(&conversation, "title"), std::pair(&document, "name")})
        if (std::string text = text_at(*object, key); !text.empty()) return text;
    return "";
}

ModelReference model_of(const Json& document) {
    const Json* model = document.find("model");
    if (model != nullptr && model->is_string()) return {.name = model->string()};
    const Json fields = object_at(document, "model", Json::Object{});
    return {.path = text_at(fields, "path"), .name = text_at(fields, "name")};
}

ImportedChat read_chat(const Json& document, bool is_own) {
    const Json* list = document.is_array() ? &document : document.find("messages");
    if (list == nullptr || !list->is_array()) fail(ErrorCode::bad_file, "it has no messages");
    const Json conversation = object_at(document, "conv", Json::Object{});
    MessageReader reader;
    ImportedChat imported = {.messages = read_messages(*list, reader)};
    Chat& chat = imported.chat;
    chat.title = title_of(document, conversation);
    chat.has_own_title = is_own ? flag_at(document, "has_own_title") : !chat.title.empty();
    chat.folder = text_at(document, "folder");
    chat.is_pinned = flag_at(document, "is_pinned");
    chat.system = text_at(document, "system");
    chat.model = model_of(document);
    chat.settings = object_at(document, "settings", Json::Object{});
    chat.leaf = reader.find(is_own ? id_at(document, "leaf") : id_at(conversation, "currNode"));
    if (!is_own && chat.leaf == 0) chat.leaf = std::ssize(imported.messages);
    if (!is_own) move_system_prompt(imported);
    chat.created = time_at(document, "created").value_or(timestamp_now());
    chat.updated = time_at(document, "updated").value_or(chat.created);
    if (const auto modified = time_at(conversation, "lastModified")) chat.updated = *modified;
    chat.deleted = time_at(document, "deleted");
    if (chat.title.empty())
        for (const Message& message : imported.messages)
            if (message.role == "user" && chat.title.empty())
                chat.title = title_from(message.content);
    return imported;
}

bool is_message(const Json& value) {
    return value.find("role") != nullptr;
}

}  // namespace

ImportedChats read_chats(const Json& document, std::string_view source) {
    const bool is_own = text_at(document, "format") == kChatFormat;
    if (is_own) {
        const Json* version = document.find("version");
        if (version == nullptr || !version->is_integer() || version->integer() > kChatFormatVersion)
            fail(ErrorCode::bad_file, "{}: is in a newer format of nemo; this one knows version {}",
                 source, kChatFormatVersion);
    }
    const Json* chats = is_own ? document.find("chats") : &document;
    const bool is_list = chats != nullptr && chats->is_array() &&
                         !(!chats->array().empty() && is_message(chats->array()[0]));
    if (!is_list && (is_own || (!document.is_array() && document.find("messages") == nullptr)))
        fail(ErrorCode::bad_file, "{}: has no chats: neither \"messages\" nor a list of them",
             source);
    ImportedChats result;
    int64_t number = 0;
    const auto read = [&](const Json& chat) {
        ++number;
        try {
            result.chats.push_back(read_chat(chat, is_own));
        } catch (const Error& error) {
            result.skipped.push_back(fmt::format(
                "{}: chat {} is left out: {}{}", source, number,
                title_of(chat, Json()).empty() ? "" : "\"" + title_of(chat, Json()) + "\": ",
                error.what()));
        }
    };
    if (is_list)
        for (const Json& chat : chats->array()) read(chat);
    else
        read(document);
    return result;
}

}  // namespace nemo
