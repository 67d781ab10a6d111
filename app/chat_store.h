// The chats: kept in one SQLite file, a tree of messages for each chat.
//
// A message is never overwritten by another one: an edit or a retry is a sibling, a chat's `leaf`
// says which branch is shown. What add_message() and update_answer() got is on the disk when they
// return (write-ahead log, synchronous=FULL): neither a kill nor a power cut takes it away.
//
//   ChatStore store = ChatStore::open();
//   const int64_t chat = store.create_chat({.model = {...}, .settings = Json::Object{...}});
//   const ChatLock lock = store.lock_chat(chat).value();  // or: open in another window
//   const int64_t question = store.add_message(chat, {.role = "user", .content = text});
//   const int64_t answer = store.add_message(chat, {.parent = question, .role = "assistant",
//                                                   .state = MessageState::streaming});
//   store.update_answer(answer, {.content = so_far});  // about once a second
//   store.update_answer(answer, {.content = whole, .state = MessageState::complete});
//
// One thread at a time; another thread or program opens its own store on the same file. Whoever
// writes messages into a chat holds its ChatLock meanwhile.
//
// Errors: usage (no such chat or message, a message of another chat), bad_file (not a chat file, a
// damaged one, one of a newer nemo), runtime (disk full, not writable, locked for over 5 seconds).
// After an error the store is as it was before the call.
#pragma once

#include "app/file_lock.h"
#include "app/find_text.h"
#include "core/json.h"

#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

class Connection;
class Statement;

// Milliseconds since 1970, UTC.
using Timestamp = int64_t;
Timestamp timestamp_now();

struct ModelReference {
    std::string path;
    std::string name;

    bool operator==(const ModelReference&) const = default;
};

struct NewChat {
    std::string title;  // empty: taken from the first user message
    std::string folder;
    std::string system;  // the system prompt
    ModelReference model;
    Json settings = Json::Object{};  // sampling, thinking, context, ...: the front ends' own
};

struct Chat {
    int64_t id = 0;  // short, never used again
    std::string title;
    bool has_own_title = false;  // the user gave it; otherwise it comes from the first message
    std::string folder;          // empty: none
    bool is_pinned = false;
    std::string system;
    ModelReference model;
    Json settings;     // an object
    int64_t leaf = 0;  // the last message of the branch that is shown, 0: no message yet
    Timestamp created = 0;
    Timestamp updated = 0;  // the last message
    std::optional<Timestamp> deleted;
};

enum class MessageState {
    complete,
    streaming,    // being written just now
    interrupted,  // stopped by the user, or by the end of the program that wrote it
    failed,
};
// "complete", ...
std::string_view message_state_name(MessageState state);

struct NewMessage {
    int64_t parent = 0;  // 0: a first message
    std::string role;    // "user", "assistant", "system", "tool"
    std::string content;
    std::string reasoning;
    MessageState state = MessageState::complete;
    Json stats;  // null or an object: timings, token counts, the model that wrote it
};

struct Message {
    int64_t id = 0;  // greater than its parent's; siblings are ordered by it
    int64_t chat = 0;
    int64_t parent = 0;
    std::string role;
    std::string content;
    std::string reasoning;
    MessageState state = MessageState::complete;
    Timestamp created = 0;
    Json stats;
};

// The whole of the answer so far, not what is new.
struct AnswerUpdate {
    std::string content;
    std::string reasoning;
    MessageState state = MessageState::streaming;
    Json stats;
};

struct ChatFilter {
    bool deleted = false;  // the deleted ones instead of the others
    std::optional<std::string> folder;
    int64_t limit = -1;  // -1: all
    bool pinned_first = true;
};

struct SearchHit {
    int64_t chat = 0;
    std::string title;    // the chat's
    int64_t message = 0;  // 0: the title has the words
    std::string role;
    Timestamp created = 0;
    Snippet snippet;
};

// Says that nobody else writes into this chat. Ends with the object or the program.
class ChatLock {
public:
    explicit ChatLock(FileLock lock) : lock_(std::move(lock)) {}

private:
    FileLock lock_;
};

class ChatStore {
public:
    // Empty: chats.db in the data folder (core/environment.h). Creates the file and its folder,
    // readable by the user alone. Migrates an older file after a backup beside it; sets a damaged
    // one aside and starts a new one; answers that a dead program left streaming become
    // interrupted. Where nothing can be written, an existing file is opened for reading.
    static ChatStore open(const std::filesystem::path& path = {});
    // The same for a file that somebody named, if that is not empty: what cannot be a chat file is
    // left as it is, and a missing file is an error (bad_file both) unless this one `creates`.
    static ChatStore open_named(const std::filesystem::path& path, bool creates);
    ~ChatStore();
    ChatStore(ChatStore&&) noexcept;
    ChatStore& operator=(ChatStore&&) noexcept;

    const std::filesystem::path& path() const { return path_; }
    // What the user should know about the opening, a sentence each.
    const std::vector<std::string>& notices() const { return notices_; }
    bool is_read_only() const { return is_read_only_; }

    // nullopt: the chat is open elsewhere, in this program or another one.
    std::optional<ChatLock> lock_chat(int64_t chat) const;

    int64_t create_chat(const NewChat& chat);
    Chat chat(int64_t id) const;
    // The last used first.
    std::vector<Chat> chats(const ChatFilter& filter = {}) const;

    void set_title(int64_t chat, std::string_view title);  // empty: from the first message again
    void set_folder(int64_t chat, std::string_view folder);
    void set_pinned(int64_t chat, bool is_pinned);
    void set_system(int64_t chat, std::string_view system);
    void set_model(int64_t chat, const ModelReference& model);
    void set_settings(int64_t chat, const Json& settings);

    // Can be undone until it is purged.
    void delete_chat(int64_t chat);
    void undelete_chat(int64_t chat);
    void purge_chat(int64_t chat);  // only a deleted one; for good

    // Makes it the chat's leaf.
    int64_t add_message(int64_t chat, const NewMessage& message);
    void update_answer(int64_t message, const AnswerUpdate& update);
    // Stores a copy of a whole chat under new ids, with its times, state and leaf. The messages'
    // ids only say who is whose parent; a parent comes before its children.
    int64_t add_copy(const Chat& chat, const std::vector<Message>& messages);
    // Any message of the chat, or 0: before its first message (a retry of the first question).
    void set_leaf(int64_t chat, int64_t message);

    Message message(int64_t id) const;
    // From the first message to this one.
    std::vector<Message> path_to(int64_t message) const;
    // From the first message to the leaf: what is shown and sent.
    std::vector<Message> shown(int64_t chat) const;
    // The messages with this parent, oldest first; parent 0: the chat's first messages.
    std::vector<Message> children(int64_t chat, int64_t parent) const;
    // All messages, a parent before its children.
    std::vector<Message> tree(int64_t chat) const;
    // Where the youngest branch below this message ends: what to show when it is switched to.
    int64_t latest_leaf(int64_t message) const;

    // Titles first, then messages, newest first, that have all the words of `text`, parts of words
    // included, in any case. Not in reasoning, deleted chats and answers still being written.
    std::vector<SearchHit> search(std::string_view text, size_t limit = 50) const;

    // What a thorough check of the file finds, in SQLite's words; empty if it is sound.
    std::vector<std::string> problems() const;

private:
    ChatStore() = default;
    void open_for_writing();
    void open_for_reading(const std::string& reason);
    void connect();
    void repair_or_fail();
    void fail_on(const std::vector<std::string>& found) const;
    void start_anew(const std::string& reason);
    void interrupt_abandoned_answers();
    int64_t insert_chat(const Chat& chat);
    int64_t insert_message(const Message& message);
    Statement change_chat(int64_t chat, const char* assignment) const;
    void need_writable() const;

    std::filesystem::path path_;
    std::unique_ptr<Connection> connection_;
    std::optional<FileLock> instance_;  // shared by all stores on the file
    std::vector<std::string> notices_;
    bool is_read_only_ = false;
};

// A title from a message: its first line with text, at most 60 characters, cut between words.
std::string title_from(std::string_view text);

}  // namespace nemo
