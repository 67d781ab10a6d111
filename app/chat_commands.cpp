#include "app/chat_commands.h"

#include "app/chat_export.h"
#include "app/chat_import.h"
#include "app/chat_terminal.h"
#include "app/chat_text.h"
#include "core/atomic_file.h"
#include "core/error.h"

#include <charconv>
#include <filesystem>

namespace nemo {

namespace {

using Argument = const std::string&;

int64_t parse_number(Argument text, const char* what) {
    int64_t value = 0;
    const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
    if (error != std::errc() || end != text.data() + text.size() || value <= 0)
        fail(ErrorCode::usage, "\"{}\" is not the number of a {}", text, what);
    return value;
}

// "first rest": the rest may have spaces.
std::pair<std::string, std::string> split_first(Argument text) {
    const size_t end = std::min(text.find_first_of(" \n"), text.size());
    const size_t rest = std::min(text.find_first_not_of(" \n", end), text.size());
    return {text.substr(0, end), text.substr(rest)};
}

void regenerate(ChatTerminal& terminal, Argument) {
    terminal.answer([&](const auto& on_text, const auto& cancelled) {
        return terminal.chat().regenerate(on_text, cancelled);
    });
}

std::vector<Message> user_messages(const Conversation& chat) {
    std::vector<Message> messages = chat.messages();
    std::erase_if(messages, [](const Message& message) { return message.role != "user"; });
    return messages;
}

void edit(ChatTerminal& terminal, Argument argument) {
    const std::vector<Message> messages = user_messages(terminal.chat());
    if (messages.empty()) fail(ErrorCode::usage, "there is no message to edit");
    auto [number, text] = split_first(argument);
    const int64_t n = number.empty() ? std::ssize(messages) : parse_number(number, "message");
    if (n > std::ssize(messages))
        fail(ErrorCode::usage, "there are only {} messages of yours", messages.size());
    const Message& message = messages[static_cast<size_t>(n - 1)];
    if (text.empty()) {
        const InputLine line =
            read_message(terminal.input(), fmt::format("edit {}> ", n), message.content);
        if (line.kind != InputLine::Kind::text || line.text.empty()) return;
        text = line.text;
    }
    terminal.answer([&](const auto& on_text, const auto& cancelled) {
        return terminal.chat().edit(message.id, text, on_text, cancelled);
    });
}

void show_last_exchange(ChatTerminal& terminal) {
    const std::vector<Message> messages = terminal.chat().messages();
    if (messages.empty()) return terminal.print("The chat is at its beginning.");
    terminal.print(messages.size() >= 2 ? tree_text({messages.end() - 2, messages.end()}, 0)
                                        : tree_text(messages, 0));
}

void branch(ChatTerminal& terminal, Argument argument) {
    Conversation& chat = terminal.chat();
    if (argument.empty()) {
        terminal.print(branches_text(terminal.store().tree(chat.id()), chat.chat().leaf) +
                       "/branch NUMBER goes on with one of them.");
        return;
    }
    chat.switch_to(parse_number(argument, "message"));
    show_last_exchange(terminal);
}

void undo(ChatTerminal& terminal, Argument) {
    if (!terminal.chat().undo()) fail(ErrorCode::usage, "there is nothing to take back");
    show_last_exchange(terminal);
}

void tree(ChatTerminal& terminal, Argument) {
    const Conversation& chat = terminal.chat();
    terminal.print(tree_text(terminal.store().tree(chat.id()), chat.chat().leaf));
}

void think(ChatTerminal& terminal, Argument argument) {
    if (argument == "show" || argument == "hide") {
        terminal.show_thoughts(argument == "show");
        return terminal.print(argument == "show" ? "Thoughts are shown." : "Thoughts are hidden.");
    }
    AnswerSettings settings = terminal.chat().settings();
    if (!argument.empty()) {
        set_setting(settings, "think", argument == "auto" ? "default" : argument);
        terminal.chat().set_settings(settings);
    }
    terminal.print(fmt::format(
        "Thinking: {}.{}", thinking_name(settings.thinking.value_or(Thinking::automatic)),
        terminal.engine().thinking_control() == ThinkingControl::none
            ? " The model's template has no switch for it; off ends thoughts at once."
            : ""));
}

void set(ChatTerminal& terminal, Argument argument) {
    AnswerSettings settings = terminal.chat().settings();
    if (!argument.empty()) {
        const auto [name, value] = split_first(argument);
        if (value.empty()) fail(ErrorCode::usage, "/set {} to what?", name);
        set_setting(settings, name, value);
        check_settings(settings);
        terminal.chat().set_settings(settings);
    }
    std::string text;
    for (const auto& [name, value] : list_settings(settings))
        text += fmt::format("{:<18} {}\n", name, value);
    terminal.print(text);
}

void system_prompt(ChatTerminal& terminal, Argument argument) {
    Conversation& chat = terminal.chat();
    if (!argument.empty()) chat.set_system(argument == "-" ? "" : argument);
    const std::string& text = chat.chat().system;
    terminal.print(text.empty() ? "There is no system prompt." : "System prompt: " + text);
}

void info(ChatTerminal& terminal, Argument) {
    const Conversation& chat = terminal.chat();
    terminal.print(fmt::format("model        {}\nchat         {}: {}, {} messages\n{}",
                               terminal.engine().model().file().path(), chat.id(),
                               chat.chat().title, chat.messages().size(),
                               usage_text(chat.usage())));
    const AnswerReport& last = terminal.last_report();
    if (last.message != 0) terminal.print("last answer  " + footer_text(last, chat.usage()));
}

void summarise(ChatTerminal& terminal, Argument) {
    terminal.answer([&](const auto& on_text, const auto& cancelled) {
        return terminal.chat().summarise_and_answer(on_text, cancelled);
    });
}

void list_chats(ChatTerminal& terminal, Argument) {
    terminal.print(chats_text(terminal.store().chats({.limit = 20})) +
                   "/load NUMBER opens one of them.");
}

void search(ChatTerminal& terminal, Argument argument) {
    if (argument.empty()) fail(ErrorCode::usage, "/search for what?");
    const std::vector<SearchHit> hits = terminal.store().search(argument, 20);
    if (hits.empty()) return terminal.print("Nothing is found.");
    terminal.print(hits_text(hits) + "/load CHAT opens a chat.");
}

void save(ChatTerminal& terminal, Argument argument) {
    const std::filesystem::path file = argument;
    const std::string extension = file.extension().string();
    if (extension != ".md" && extension != ".json")
        fail(ErrorCode::usage, "/save needs a file name that ends with .md or .json");
    if (std::filesystem::exists(file)) fail(ErrorCode::usage, "{}: exists already", argument);
    const Conversation& chat = terminal.chat();
    AtomicFile out(file, FileAccess::owner_only);
    export_chats(terminal.store(), {chat.chat()},
                 extension == ".md" ? ChatDocument::markdown : ChatDocument::json,
                 [&](const std::string& text) { out.write(text); });
    out.commit();
    terminal.print("Saved as " + argument);
}

// A chat by its number, or those in a file, of which the first is opened.
void load(ChatTerminal& terminal, Argument argument) {
    if (argument.empty()) fail(ErrorCode::usage, "/load which chat or file?");
    if (argument.find_first_not_of("0123456789") == std::string::npos) {
        terminal.open_chat(parse_number(argument, "chat"));
    } else {
        const ImportedChats imported = read_chats(read_json_file(argument), argument);
        for (const std::string& sentence : imported.skipped) terminal.print(sentence);
        if (imported.chats.empty()) fail(ErrorCode::bad_file, "{}: has no chat", argument);
        int64_t first = 0;
        for (const ImportedChat& one : imported.chats) {
            const int64_t id = terminal.store().add_copy(one.chat, one.messages);
            if (first == 0) first = id;
        }
        terminal.open_chat(first);
    }
    show_last_exchange(terminal);
}

void title(ChatTerminal& terminal, Argument argument) {
    terminal.chat().set_title(argument);
    terminal.print("Title: " + terminal.chat().chat().title);
}

void new_chat(ChatTerminal& terminal, Argument) {
    terminal.open_new_chat();
    terminal.print(fmt::format("Chat {} begins.", terminal.chat().id()));
}

void leave(ChatTerminal& terminal, Argument) {
    terminal.leave();
}

void help(ChatTerminal& terminal, Argument);

struct ChatCommandEntry {
    const char* name;
    const char* argument;
    const char* help;
    void (*run)(ChatTerminal&, Argument);
};

constexpr ChatCommandEntry kCommands[] = {
    {"regen", "", "answer once more; the old answer stays", regenerate},
    {"edit", "[N [TEXT]]", "change your N-th message (default: the last) and go on from there",
     edit},
    {"undo", "", "take your last message back; it stays in the tree", undo},
    {"tree", "", "all messages, * marks the branch you are in", tree},
    {"branch", "[NUMBER]", "list the branches, or go on with the one of this message", branch},
    {"think", "[on|off|auto|show|hide]", "whether the model thinks first, and you see it", think},
    {"set", "[NAME VALUE]", "list the settings, or change one; VALUE may be default", set},
    {"system", "[TEXT]", "show or change the system prompt; - removes it", system_prompt},
    {"info", "", "model, context, memory, speed", info},
    {"summarise", "", "let the model sum up the older part and answer in a new branch", summarise},
    {"chats", "", "the chats used last", list_chats},
    {"search", "WORDS", "find messages and titles in all chats", search},
    {"load", "NUMBER|FILE", "open another chat, or bring in those of a .json file", load},
    {"save", "FILE", "write the chat to a .md file, or with all branches to a .json file", save},
    {"title", "[TEXT]", "name the chat", title},
    {"new", "", "begin another chat", new_chat},
    {"help", "", "this list", help},
    {"bye", "", "leave (also Ctrl-D); everything is saved already", leave},
};

// Names people know from elsewhere.
constexpr std::pair<const char*, const char*> kAliases[] = {
    {"?", "help"}, {"exit", "bye"}, {"quit", "bye"}, {"clear", "new"}};

void help(ChatTerminal& terminal, Argument) {
    std::string text;
    for (const ChatCommandEntry& command : kCommands) {
        const std::string usage = std::string("/") + command.name + " " + command.argument;
        text += fmt::format("{:<32} {}\n", usage, command.help);
    }
    terminal.print(text +
                   "A line that ends with \\ goes on in the next one, \"\"\" begins and ends a "
                   "text of many lines,\n// begins a message that starts with a slash. Ctrl-C "
                   "stops an answer and keeps it.");
}

}  // namespace

void run_chat_command(ChatTerminal& terminal, const std::string& line) {
    auto [name, argument] = split_first(line.substr(1));
    while (argument.ends_with(' ')) argument.pop_back();
    for (const auto& [alias, meant] : kAliases)
        if (name == alias) name = meant;
    for (const ChatCommandEntry& command : kCommands)
        if (name == command.name) return command.run(terminal, argument);
    fail(ErrorCode::usage, "there is no command /{}; /help lists them, // begins a message with /",
         name);
}

}  // namespace nemo
