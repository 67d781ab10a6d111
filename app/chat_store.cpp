#include "app/chat_store.h"

#include "app/sqlite.h"
#include "core/error.h"
#include "core/utf8.h"

#include <array>
#include <chrono>
#include <unordered_map>

namespace nemo {

namespace {

constexpr size_t kMaxTitleCharacters = 60;

constexpr const char* kChatColumns =
    "id, title, has_own_title, folder, is_pinned, system, model_path, model_name, settings, "
    "leaf, created, updated, deleted";
constexpr const char* kMessageColumns =
    "id, chat, parent, role, content, reasoning, state, created, stats";

constexpr std::array<std::string_view, 4> kStateNames = {"complete", "streaming", "interrupted",
                                                         "failed"};

MessageState state_from(std::string_view name) {
    for (size_t i = 0; i < kStateNames.size(); ++i)
        if (kStateNames[i] == name) return static_cast<MessageState>(i);
    return MessageState::failed;
}

// What is no JSON object, in a file that somebody else wrote, counts as empty.
Json object_from(const std::string& text) {
    try {
        Json value = parse_json(text, "settings");
        if (value.is_object()) return value;
    } catch (const Error&) {
    }
    return Json::Object{};
}

Json optional_object_from(const std::string& text) {
    return text.empty() ? Json() : object_from(text);
}

std::string text_of(const Json& object) {
    return object.is_null() ? "" : to_json_text(object);
}

Chat read_chat(const Statement& row) {
    return {.id = row.integer(0),
            .title = row.text(1),
            .has_own_title = row.integer(2) != 0,
            .folder = row.text(3),
            .is_pinned = row.integer(4) != 0,
            .system = row.text(5),
            .model = {.path = row.text(6), .name = row.text(7)},
            .settings = object_from(row.text(8)),
            .leaf = row.integer(9),
            .created = row.integer(10),
            .updated = row.integer(11),
            .deleted = row.optional_integer(12)};
}

Message read_message(const Statement& row) {
    return {.id = row.integer(0),
            .chat = row.integer(1),
            .parent = row.integer(2),
            .role = row.text(3),
            .content = row.text(4),
            .reasoning = row.text(5),
            .state = state_from(row.text(6)),
            .created = row.integer(7),
            .stats = optional_object_from(row.text(8))};
}

std::vector<Message> read_messages(Statement rows) {
    std::vector<Message> messages;
    while (rows.step()) messages.push_back(read_message(rows));
    return messages;
}

std::optional<int64_t> null_if_zero(int64_t id) {
    return id == 0 ? std::nullopt : std::optional(id);
}

// Throws unless the message is one of the chat's.
void check_member(Connection& connection, int64_t chat, int64_t message) {
    Statement row = connection.prepare("SELECT 1 FROM messages WHERE id = ?1 AND chat = ?2");
    if (!row.bind(message).bind(chat).step())
        fail(ErrorCode::usage, "chat {} has no message {}", chat, message);
}

}  // namespace

Timestamp timestamp_now() {
    using namespace std::chrono;
    return duration_cast<milliseconds>(system_clock::now().time_since_epoch()).count();
}

std::string_view message_state_name(MessageState state) {
    return kStateNames[static_cast<size_t>(state)];
}

ChatStore::~ChatStore() = default;
ChatStore::ChatStore(ChatStore&&) noexcept = default;
ChatStore& ChatStore::operator=(ChatStore&&) noexcept = default;

void ChatStore::need_writable() const {
    if (is_read_only_)
        fail(ErrorCode::runtime, "{}: is open for reading only; nothing was saved", path_.string());
}

int64_t ChatStore::create_chat(const NewChat& chat) {
    const Timestamp time = timestamp_now();
    return insert_chat({.title = chat.title,
                        .has_own_title = !chat.title.empty(),
                        .folder = chat.folder,
                        .system = chat.system,
                        .model = chat.model,
                        .settings = chat.settings,
                        .created = time,
                        .updated = time});
}

int64_t ChatStore::insert_chat(const Chat& chat) {
    need_writable();
    connection_
        ->prepare(
            "INSERT INTO chats (title, has_own_title, folder, is_pinned, system, model_path, "
            "model_name, settings, created, updated, deleted) "
            "VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)")
        .bind(chat.title)
        .bind(int64_t{chat.has_own_title})
        .bind(chat.folder)
        .bind(int64_t{chat.is_pinned})
        .bind(chat.system)
        .bind(chat.model.path)
        .bind(chat.model.name)
        .bind(to_json_text(chat.settings))
        .bind(chat.created)
        .bind(chat.updated)
        .bind(chat.deleted)
        .run();
    return connection_->last_insert_id();
}

Chat ChatStore::chat(int64_t id) const {
    Statement row =
        connection_->prepare(fmt::format("SELECT {} FROM chats WHERE id = ?1", kChatColumns));
    if (!row.bind(id).step()) fail(ErrorCode::usage, "there is no chat {}", id);
    return read_chat(row);
}

std::vector<Chat> ChatStore::chats(const ChatFilter& filter) const {
    Statement rows = connection_->prepare(fmt::format(
        "SELECT {} FROM chats WHERE (deleted IS NOT NULL) = ?1 AND (?2 = 0 OR folder = ?3) "
        "ORDER BY {} updated DESC, id DESC LIMIT ?4",
        kChatColumns, filter.pinned_first ? "is_pinned DESC," : ""));
    rows.bind(int64_t{filter.deleted})
        .bind(int64_t{filter.folder.has_value()})
        .bind(filter.folder.value_or(""))
        .bind(filter.limit);
    std::vector<Chat> chats;
    while (rows.step()) chats.push_back(read_chat(rows));
    return chats;
}

// ?1 is the chat; the caller binds the rest.
Statement ChatStore::change_chat(int64_t id, const char* assignment) const {
    need_writable();
    chat(id);  // throws if there is none
    Statement statement =
        connection_->prepare(fmt::format("UPDATE chats SET {} WHERE id = ?1", assignment));
    statement.bind(id);
    return statement;
}

void ChatStore::set_title(int64_t chat, std::string_view title) {
    std::string text(title);
    if (text.empty()) {
        Statement first = connection_->prepare(
            "SELECT content FROM messages WHERE chat = ?1 AND role = 'user' ORDER BY id LIMIT 1");
        if (first.bind(chat).step()) text = title_from(first.text(0));
    }
    change_chat(chat, "title = ?2, has_own_title = ?3")
        .bind(text)
        .bind(int64_t{!title.empty()})
        .run();
}

void ChatStore::set_folder(int64_t chat, std::string_view folder) {
    change_chat(chat, "folder = ?2").bind(folder).run();
}

void ChatStore::set_pinned(int64_t chat, bool is_pinned) {
    change_chat(chat, "is_pinned = ?2").bind(int64_t{is_pinned}).run();
}

void ChatStore::set_system(int64_t chat, std::string_view system) {
    change_chat(chat, "system = ?2").bind(system).run();
}

void ChatStore::set_model(int64_t chat, const ModelReference& model) {
    change_chat(chat, "model_path = ?2, model_name = ?3").bind(model.path).bind(model.name).run();
}

void ChatStore::set_settings(int64_t chat, const Json& settings) {
    change_chat(chat, "settings = ?2").bind(to_json_text(settings)).run();
}

void ChatStore::delete_chat(int64_t chat) {
    change_chat(chat, "deleted = coalesce(deleted, ?2)").bind(timestamp_now()).run();
}

void ChatStore::undelete_chat(int64_t chat) {
    change_chat(chat, "deleted = NULL").run();
}

void ChatStore::purge_chat(int64_t chat) {
    need_writable();
    if (!this->chat(chat).deleted)
        fail(ErrorCode::usage, "chat {} is not deleted; delete it before purging it", chat);
    connection_->prepare("DELETE FROM chats WHERE id = ?1 AND deleted IS NOT NULL")
        .bind(chat)
        .run();
}

int64_t ChatStore::add_message(int64_t chat, const NewMessage& message) {
    need_writable();
    Transaction transaction(*connection_);
    this->chat(chat);  // throws if there is none
    if (message.parent != 0) check_member(*connection_, chat, message.parent);
    const Timestamp time = timestamp_now();
    const int64_t id = insert_message({.chat = chat,
                                       .parent = message.parent,
                                       .role = message.role,
                                       .content = message.content,
                                       .reasoning = message.reasoning,
                                       .state = message.state,
                                       .created = time,
                                       .stats = message.stats});
    change_chat(chat, "leaf = ?2, updated = ?3").bind(id).bind(time).run();
    if (message.role == "user")
        change_chat(chat, "title = CASE title WHEN '' THEN ?2 ELSE title END")
            .bind(title_from(message.content))
            .run();
    transaction.commit();
    return id;
}

int64_t ChatStore::insert_message(const Message& message) {
    connection_
        ->prepare(
            "INSERT INTO messages (chat, parent, role, content, reasoning, state, created, "
            "stats) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8)")
        .bind(message.chat)
        .bind(null_if_zero(message.parent))
        .bind(message.role)
        .bind(message.content)
        .bind(message.reasoning)
        .bind(message_state_name(message.state))
        .bind(message.created)
        .bind(text_of(message.stats))
        .run();
    return connection_->last_insert_id();
}

int64_t ChatStore::add_copy(const Chat& chat, const std::vector<Message>& messages) {
    Transaction transaction(*connection_);
    const int64_t id = insert_chat(chat);
    std::unordered_map<int64_t, int64_t> new_ids = {{0, 0}};
    const auto new_id = [&](int64_t old_id) {
        const auto found = new_ids.find(old_id);
        if (found == new_ids.end())
            fail(ErrorCode::usage, "message {} is referred to before it occurs", old_id);
        return found->second;
    };
    for (Message message : messages) {
        if (message.id <= 0 || new_ids.contains(message.id))
            fail(ErrorCode::usage, "message id {} is not positive or occurs twice", message.id);
        message.chat = id;
        message.parent = new_id(message.parent);
        new_ids[message.id] = insert_message(message);
    }
    change_chat(id, "leaf = ?2").bind(null_if_zero(new_id(chat.leaf))).run();
    transaction.commit();
    return id;
}

void ChatStore::update_answer(int64_t message, const AnswerUpdate& update) {
    need_writable();
    Transaction transaction(*connection_);
    connection_
        ->prepare(
            "UPDATE messages SET content = ?2, reasoning = ?3, state = ?4, stats = ?5 "
            "WHERE id = ?1")
        .bind(message)
        .bind(update.content)
        .bind(update.reasoning)
        .bind(message_state_name(update.state))
        .bind(text_of(update.stats))
        .run();
    if (connection_->n_changed() == 0) fail(ErrorCode::usage, "there is no message {}", message);
    connection_
        ->prepare(
            "UPDATE chats SET updated = ?2 WHERE id = (SELECT chat FROM messages WHERE id = "
            "?1)")
        .bind(message)
        .bind(timestamp_now())
        .run();
    transaction.commit();
}

void ChatStore::set_leaf(int64_t chat, int64_t message) {
    need_writable();
    Transaction transaction(*connection_);
    if (message != 0) check_member(*connection_, chat, message);
    change_chat(chat, "leaf = ?2").bind(null_if_zero(message)).run();
    transaction.commit();
}

Message ChatStore::message(int64_t id) const {
    Statement row =
        connection_->prepare(fmt::format("SELECT {} FROM messages WHERE id = ?1", kMessageColumns));
    if (!row.bind(id).step()) fail(ErrorCode::usage, "there is no message {}", id);
    return read_message(row);
}

// UNION drops repeated ids, so that a circle in a damaged file ends.
std::vector<Message> ChatStore::path_to(int64_t message) const {
    Statement rows = connection_->prepare(
        fmt::format("WITH RECURSIVE up (step) AS (SELECT ?1 UNION SELECT parent FROM messages JOIN "
                    "up ON id = step) SELECT {} FROM messages JOIN up ON id = step ORDER BY id",
                    kMessageColumns));
    rows.bind(message);
    return read_messages(std::move(rows));
}

std::vector<Message> ChatStore::shown(int64_t chat) const {
    const int64_t leaf = this->chat(chat).leaf;
    return leaf == 0 ? std::vector<Message>() : path_to(leaf);
}

std::vector<Message> ChatStore::children(int64_t chat, int64_t parent) const {
    Statement rows = connection_->prepare(fmt::format(
        "SELECT {} FROM messages WHERE chat = ?1 AND parent IS ?2 ORDER BY id", kMessageColumns));
    rows.bind(chat).bind(null_if_zero(parent));
    return read_messages(std::move(rows));
}

std::vector<Message> ChatStore::tree(int64_t chat) const {
    Statement rows = connection_->prepare(
        fmt::format("SELECT {} FROM messages WHERE chat = ?1 ORDER BY id", kMessageColumns));
    rows.bind(chat);
    return read_messages(std::move(rows));
}

int64_t ChatStore::latest_leaf(int64_t message) const {
    Statement youngest = connection_->prepare(
        "SELECT max(id) FROM messages WHERE parent = ?1 AND "
        "chat = ?2");
    const int64_t chat = this->message(message).chat;
    for (;;) {
        youngest.bind(message).bind(chat);
        youngest.step();
        const int64_t child = youngest.integer(0);
        if (child <= message) return message;
        message = child;
        youngest.reset();
    }
}

std::string title_from(std::string_view text) {
    const size_t start = text.find_first_not_of(" \t\r\n");
    if (start == std::string_view::npos) return "";
    text.remove_prefix(start);
    text = text.substr(0, text.find_first_of("\r\n"));
    text = text.substr(0, text.find_last_not_of(" \t") + 1);

    size_t cut = 0;         // leaves room for an ellipsis
    size_t last_space = 0;  // before it
    size_t n_characters = 0;
    for (size_t offset = 0; offset < text.size(); ++n_characters) {
        if (n_characters == kMaxTitleCharacters)
            return std::string(text.substr(0, last_space > 0 ? last_space : cut)) + "…";
        cut = offset;
        if (text[offset] == ' ') last_space = offset;
        offset += static_cast<size_t>(decode_utf8(text, offset).n_bytes);
    }
    return std::string(text);
}

}  // namespace nemo
