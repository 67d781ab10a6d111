// nemo-cli chats: the saved chats without a model.
#include "app/chat_export.h"
#include "app/chat_import.h"
#include "app/chat_store.h"
#include "app/commands.h"
#include "app/state_folder.h"
#include "core/atomic_file.h"
#include "core/console.h"
#include "core/error.h"

#include <fmt/chrono.h>
#include <sys/stat.h>

#include <ctime>

namespace nemo {

namespace {

using Action = ChatsCommand::Action;

void say(const std::string& sentence) {
    write_stderr(fmt::format("nemo-cli: {}\n", terminal_safe_line(sentence)));
}

std::string local_time(Timestamp milliseconds) {
    return fmt::format("{:%Y-%m-%d %H:%M}",
                       fmt::localtime(static_cast<std::time_t>(milliseconds / 1000)));
}

std::string title_line(const std::string& title) {
    return title.empty() ? "Untitled" : terminal_safe_line(title);
}

Json chat_summary(const Chat& chat) {
    Json summary = chat_to_json(chat, {});
    std::erase_if(summary.object(),
                  [](const Json::Member& member) { return member.first == "messages"; });
    return summary;
}

void list(const ChatStore& store, const ChatsCommand& command) {
    const std::vector<Chat> chats = store.chats({.deleted = command.deleted,
                                                 .folder = command.folder,
                                                 .limit = command.limit.value_or(-1)});
    if (command.json) {
        Json::Array summaries;
        for (const Chat& chat : chats) summaries.push_back(chat_summary(chat));
        write_stdout_text(to_json_text(std::move(summaries)) + "\n");
        return;
    }
    std::string lines;
    for (const Chat& chat : chats) {
        const std::string folder =
            chat.folder.empty() ? "" : fmt::format("  [{}]", terminal_safe_line(chat.folder));
        lines += fmt::format("{:>5}  {}  {}{}{}\n", chat.id, local_time(chat.updated),
                             chat.is_pinned ? "* " : "", title_line(chat.title), folder);
    }
    write_stdout(lines);
}

void show(const ChatStore& store, const ChatsCommand& command) {
    const Chat chat = store.chat(command.ids.at(0));
    if (command.json)
        write_stdout_text(to_json_text(chat_to_json(chat, store.tree(chat.id))) + "\n");
    else
        write_stdout(terminal_safe(chat_to_markdown(chat, store.shown(chat.id))));
}

void search(const ChatStore& store, const ChatsCommand& command) {
    constexpr int64_t kDefaultLimit = 50;
    std::string words;
    for (const std::string& word : command.words) words += word + " ";
    const std::vector<SearchHit> hits =
        store.search(words, static_cast<size_t>(command.limit.value_or(kDefaultLimit)));
    Json::Array objects;
    std::string lines;
    for (const SearchHit& hit : hits) {
        objects.push_back(Json::Object{{"chat", hit.chat},
                                       {"title", hit.title},
                                       {"message", hit.message == 0 ? Json() : Json(hit.message)},
                                       {"role", hit.message == 0 ? Json() : Json(hit.role)},
                                       {"created", hit.created},
                                       {"snippet", hit.snippet.text}});
        lines += fmt::format("{:>5}  {}  {}\n", hit.chat, local_time(hit.created),
                             title_line(hit.title));
        if (hit.message != 0)
            lines += fmt::format("       {}: {}\n", terminal_safe_line(hit.role),
                                 terminal_safe_line(hit.snippet.text));
    }
    if (command.json)
        write_stdout_text(to_json_text(std::move(objects)) + "\n");
    else
        write_stdout(lines);
}

void write_document(const ChatStore& store, const ChatsCommand& command) {
    std::vector<Chat> chats;
    for (const int64_t id : command.ids) chats.push_back(store.chat(id));
    if (command.ids.empty()) chats = store.chats();
    const ChatDocument format =
        command.format == "markdown" ? ChatDocument::markdown : ChatDocument::json;
    if (command.output.empty()) return export_chats(store, chats, format, write_stdout_text);
    refuse_existing(command.output, command.force);
    refuse_to_replace(command.output, store.path());
    AtomicFile file(command.output);
    export_chats(store, chats, format, [&](const std::string& text) { file.write(text); });
    file.commit();
}

// 3 if something was left out.
int import_chats(ChatStore& store, const ChatsCommand& command) {
    bool is_complete = true;
    for (const std::string& input : command.inputs) {
        const ImportedChats imported = read_chats(read_json_file(input), input);
        for (const ImportedChat& one : imported.chats)
            write_stdout(fmt::format("{}\n", store.add_copy(one.chat, one.messages)));
        for (const std::string& sentence : imported.skipped) say(sentence);
        is_complete = is_complete && imported.skipped.empty();
    }
    return is_complete ? 0 : static_cast<int>(ErrorCode::bad_file);
}

int check(const ChatStore& store) {
    const std::vector<std::string> problems = store.problems();
    for (const std::string& problem : problems) say(problem);
    if (problems.empty()) write_stdout("The chats are sound.\n");
    return problems.empty() ? 0 : static_cast<int>(ErrorCode::bad_file);
}

void change(ChatStore& store, const ChatsCommand& command, int64_t id) {
    const bool removes = command.action == Action::delete_chats || command.action == Action::purge;
    std::optional<ChatLock> lock;
    if (removes && !(lock = store.lock_chat(id)))
        fail(ErrorCode::runtime, "chat {} is open in another window; close it there first", id);
    switch (command.action) {
        case Action::delete_chats:
            store.delete_chat(id);
            break;
        case Action::undelete:
            store.undelete_chat(id);
            break;
        case Action::purge:
            store.purge_chat(id);
            remove_state(state_folder_of(command.file), id);
            break;
        case Action::pin:
            store.set_pinned(id, true);
            break;
        case Action::unpin:
            store.set_pinned(id, false);
            break;
        case Action::rename:
            store.set_title(id, command.text);
            break;
        case Action::move:
            store.set_folder(id, command.text);
            break;
        default:
            NEMO_ASSERT(false);
    }
    if (command.action == Action::delete_chats)
        say(fmt::format("deleted \"{}\"; `nemo-cli chats undelete {}` brings it back",
                        store.chat(id).title, id));
}

}  // namespace

int run_chats(const ChatsCommand& command) {
    ::umask(0077);  // what is written is as private as the chats
    const bool creates = command.action == Action::import_chats;
    ChatStore store = ChatStore::open_named(command.file, creates);
    for (const std::string& notice : store.notices()) say(notice);
    switch (command.action) {
        case Action::list:
            list(store, command);
            return 0;
        case Action::show:
            show(store, command);
            return 0;
        case Action::search:
            search(store, command);
            return 0;
        case Action::export_chats:
            write_document(store, command);
            return 0;
        case Action::import_chats:
            return import_chats(store, command);
        case Action::check:
            return check(store);
        default:
            break;
    }
    for (const int64_t id : command.ids) store.chat(id);  // all of them exist, or nothing is done
    for (const int64_t id : command.ids) change(store, command, id);
    return 0;
}

}  // namespace nemo
