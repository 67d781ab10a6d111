// nemo-cli chats: listing, searching, export and import, deletion; hostile texts and files.
#include "app/chat_export.h"
#include "app/chat_import.h"
#include "app/chat_store.h"
#include "core/error.h"
#include "tests/app/process.h"

#include <doctest/doctest.h>

#include <sys/stat.h>
#include <random>

using namespace nemo;

namespace {

struct Chats {
    TempFolder folder;
    std::filesystem::path file = folder / "chats.db";

    ProcessResult run(std::vector<std::string> arguments) const {
        arguments.insert(arguments.begin(),
                         {program("nemo-cli"), "chats", "--chats", file.string()});
        return run_process(std::move(arguments));
    }
};

// A chat with an edited question and a retried answer.
int64_t add_tree(ChatStore& store) {
    const int64_t chat = store.create_chat({.title = "Rice",
                                            .folder = "kitchen",
                                            .system = "Be brief.",
                                            .model = {"/m.gguf", "M"},
                                            .settings = Json::Object{{"temperature", 0.25}}});
    const int64_t question =
        store.add_message(chat, {.role = "user", .content = "How? 天気 🙂"});
    const int64_t answer = store.add_message(chat, {.parent = question,
                                                    .role = "assistant",
                                                    .content = "Boil.\n\n```\nwater\n```",
                                                    .reasoning = "It is\nrice.",
                                                    .stats = Json::Object{{"tokens", 3}}});
    store.add_message(chat, {.parent = question,
                             .role = "assistant",
                             .content = "Ste",
                             .state = MessageState::interrupted});
    store.add_message(chat, {.role = "user", .content = "Edited"});
    store.set_leaf(chat, answer);
    store.set_pinned(chat, true);
    return chat;
}

// Without what a copy may change: the ids, renumbered from 1.
std::string comparable(const ChatStore& store, int64_t id) {
    Chat chat = store.chat(id);
    std::vector<Message> messages = store.tree(id);
    const int64_t shift = messages.empty() ? 0 : messages[0].id - 1;
    for (Message& message : messages) {
        message.id -= shift;
        if (message.parent != 0) message.parent -= shift;
    }
    chat.leaf -= shift;
    chat.id = 1;
    return to_json_text(chat_to_json(chat, messages));
}

ImportedChats import(const std::string& json) {
    return read_chats(parse_json(json, "test"), "test");
}

}  // namespace

TEST_CASE("an exported tree comes back without loss") {
    const Chats chats;
    ChatStore store = ChatStore::open(chats.file);
    const int64_t chat = add_tree(store);
    const int64_t empty = store.create_chat({});
    const std::filesystem::path out = chats.folder / "out.json";
    CHECK(chats.run({"export", "-o", out.string()}).status == 0);
    struct stat status = {};
    CHECK(::stat(out.c_str(), &status) == 0);
    CHECK((status.st_mode & 0777) == 0600);
    CHECK(chats.run({"export", "-o", out.string()}).status == 1);
    CHECK(chats.run({"export", "-o", out.string(), "--force"}).status == 0);
    CHECK(chats.run({"export"}).out == read_file(out));
    const ProcessResult imported = chats.run({"import", out.string()});
    CHECK(imported.status == 0);
    CHECK(imported.out == "3\n4\n");
    CHECK(comparable(store, 3) == comparable(store, chat));
    CHECK(comparable(store, 4) == comparable(store, empty));
    CHECK(store.shown(3).size() == 2);
    CHECK(chats.run({"export", "-o", chats.file.string(), "--force"}).status == 2);
}

TEST_CASE("a chat as Markdown, a list, a search") {
    const Chats chats;
    ChatStore store = ChatStore::open(chats.file);
    const int64_t chat = add_tree(store);
    const std::string id = std::to_string(chat);
    CHECK(chats.run({"export", id, "--format", "markdown"}).out ==
          "# Rice\n\n## System\n\nBe brief.\n\n## User\n\nHow? 天気 🙂\n\n## Assistant\n\n"
          "> It is\n> rice.\n\nBoil.\n\n```\nwater\n```\n");
    CHECK(chats.run({"show", id}).out == chats.run({"export", id, "--format", "markdown"}).out);
    const ProcessResult list = chats.run({"list"});
    CHECK(list.status == 0);
    CHECK(contains(list.out, "    1  20"));
    CHECK(contains(list.out, "* Rice  [kitchen]\n"));
    const Json summary = parse_json(chats.run({"list", "--json"}).out, "list");
    CHECK(summary.array().at(0).find("title")->string() == "Rice");
    CHECK(summary.array().at(0).find("messages") == nullptr);
    CHECK(chats.run({"list", "--folder", "other"}).out.empty());
    const ProcessResult found = chats.run({"search", "天気", "HOW"});
    CHECK(contains(found.out, "Rice\n       user: How? 天気 🙂\n"));
    const Json hits = parse_json(chats.run({"search", "--json", "boil"}).out, "search");
    CHECK(hits.array().at(0).find("role")->string() == "assistant");
    CHECK(chats.run({"search", "nothing such"}).out.empty());
    CHECK(contains(chats.run({"check"}).out, "sound"));
}

TEST_CASE("deleted and brought back, renamed, moved, pinned, purged") {
    const Chats chats;
    ChatStore store = ChatStore::open(chats.file);
    add_tree(store);
    store.create_chat({.title = "second"});
    const ProcessResult deleted = chats.run({"delete", "1", "2"});
    CHECK(deleted.status == 0);
    CHECK(contains(deleted.err, "undelete 1"));
    CHECK(chats.run({"list"}).out.empty());
    CHECK(contains(chats.run({"list", "--deleted"}).out, "Rice"));
    CHECK(chats.run({"undelete", "1"}).status == 0);
    CHECK(chats.run({"rename", "1", "Beans"}).status == 0);
    CHECK(chats.run({"move", "1", "garden"}).status == 0);
    CHECK(chats.run({"unpin", "1"}).status == 0);
    CHECK(contains(chats.run({"list"}).out, "  Beans  [garden]\n"));
    CHECK(chats.run({"purge", "1"}).status == 2);
    CHECK(chats.run({"purge", "2"}).status == 0);
    CHECK(chats.run({"undelete", "2"}).status == 2);
    const ProcessResult missing = chats.run({"delete", "1", "77"});
    CHECK(missing.status == 2);
    CHECK(contains(missing.err, "there is no chat 77"));
    CHECK(contains(chats.run({"list"}).out, "Beans"));
    const std::optional<ChatLock> lock = store.lock_chat(1);
    CHECK(contains(chats.run({"delete", "1"}).err, "open in another window"));
    for (const std::vector<std::string>& wrong :
         std::vector<std::vector<std::string>>{{}, {"delete"}, {"show"}, {"show", "x"}, {"frob"}})
        CHECK(chats.run(wrong).status == 2);
    // Not taken for the largest number there is.
    for (const char* action : {"show", "export", "delete"})
        CHECK(contains(chats.run({action, "99999999999999999999"}).err, "is not a whole number"));
    const ProcessResult no_limit = chats.run({"list", "-n", "0"});
    CHECK(no_limit.status == 2);
    CHECK(contains(no_limit.err, "\"0\" is not a whole number from 1 on"));
}

TEST_CASE("--chats with a file that is missing or something else") {
    const Chats chats;
    for (const char* action : {"list", "export", "check"}) {
        const ProcessResult missing = chats.run({action});
        CHECK(missing.status == 3);
        CHECK(contains(missing.err, "chats.db: cannot open"));
    }
    write_file(chats.file, "GGUF, say");
    for (const std::vector<std::string>& arguments :
         {std::vector<std::string>{"list"}, {"import", "x.json"}}) {
        const ProcessResult other = chats.run(arguments);
        CHECK(other.status == 3);
        CHECK(contains(other.err, "chats.db: is no file of chats"));
    }
    CHECK(names_in(chats.folder / "") == std::vector<std::string>{"chats.db"});
    CHECK(read_file(chats.file) == "GGUF, say");
}

TEST_CASE("hostile titles and texts do nothing to a terminal") {
    const Chats chats;
    ChatStore store = ChatStore::open(chats.file);
    const std::string evil = "a\x1b]0;x\x07\x1b[2J\u202e\u009b31m\r\nb";
    const int64_t chat = store.create_chat({.title = evil, .folder = evil});
    store.add_message(chat, {.role = "\x1b[31m", .content = evil});
    for (const std::vector<std::string>& arguments :
         std::vector<std::vector<std::string>>{{"list"}, {"show", "1"}, {"search", "]0;x"}}) {
        const ProcessResult result = chats.run(arguments);
        CAPTURE(result.out);
        CHECK(result.status == 0);
        CHECK(contains(result.out, "]0;x"));
        CHECK_FALSE(contains(result.out, "\x1b"));
        CHECK_FALSE(contains(result.out, "\x07"));
        CHECK_FALSE(contains(result.out, "\r"));
        CHECK_FALSE(contains(result.out, "\u202e"));
        CHECK_FALSE(contains(result.out, "\u009b"));
    }
}

TEST_CASE("chats of other programs") {
    const ImportedChats openai = import(
        R"({"model": "gpt", "messages": [
            {"role": "system", "content": "S"},
            {"role": "user", "content": [{"type": "text", "text": "Look: "},
                                         {"type": "image_url", "image_url": {"url": "x"}}]},
            {"role": "assistant", "content": null, "tool_calls": [{"id": "c"}]},
            {"role": "tool", "content": "42", "name": null},
            {"role": "assistant", "content": "Done", "reasoning_content": "R"}]})");
    REQUIRE(openai.chats.size() == 1);
    const ImportedChat& chat = openai.chats[0];
    CHECK(chat.chat.system == "S");
    CHECK(chat.chat.model.name == "gpt");
    CHECK(chat.chat.title == "Look: [image_url]");
    REQUIRE(chat.messages.size() == 4);
    CHECK(chat.messages[0].content == "Look: [image_url]");
    CHECK(chat.messages[1].content == R"([{"id":"c"}])");
    CHECK(chat.messages[3].reasoning == "R");
    CHECK(chat.chat.leaf == chat.messages[3].id);
    CHECK(chat.messages[3].parent == chat.messages[2].id);

    CHECK(import(R"([{"role": "user", "content": "x"}])").chats.at(0).messages.size() == 1);
    const ImportedChats server = import(
        R"([{"conv": {"id": "c", "name": "Named", "currNode": "a2", "lastModified": 1700000000000},
             "messages": [
              {"id": "r", "type": "root", "role": "system", "content": "", "parent": null},
              {"id": "q", "type": "text", "role": "user", "content": "Q", "parent": "r",
               "timestamp": 1690000000000},
              {"id": "a1", "role": "assistant", "content": "A1", "parent": "q"},
              {"id": "a2", "role": "assistant", "content": "A2", "parent": "q", "thinking": "T"}]}])");
    REQUIRE(server.chats.size() == 1);
    CHECK(server.chats[0].chat.title == "Named");
    CHECK(server.chats[0].chat.updated == 1700000000000);
    CHECK(server.chats[0].messages.at(0).created == 1690000000000);
    CHECK(server.chats[0].messages.at(1).parent == server.chats[0].messages[2].parent);
    CHECK(server.chats[0].chat.leaf == server.chats[0].messages[2].id);

    const Chats chats;
    ChatStore store = ChatStore::open(chats.file);
    const int64_t id = store.add_copy(chat.chat, chat.messages);
    CHECK(store.shown(id).size() == 4);
    CHECK(store.shown(store.add_copy(server.chats[0].chat, server.chats[0].messages)).size() == 2);
}

TEST_CASE("one bad chat does not keep the others out") {
    const Chats chats;
    const std::filesystem::path file = chats.folder / "in.json";
    write_file(file, R"([{"messages": [{"role": "user", "content": "good"}]},
        {"title": "Bad one", "messages": [{"role": "user", "content": "x"}, {"role": null}]},
        {"title": null, "folder": null, "settings": null, "created": null, "messages": [
            {"role": "user", "content": null, "stats": null, "parent": null, "id": null}]},
        null, 7, {"messages": 3}, {"messages": [3]}, {"messages": [{"role": "user", "content": 3}]},
        {"messages": [{"id": 1, "role": "user"}, {"id": 1, "role": "user"}]},
        {"messages": [{"id": 1, "role": "user", "parent": 2}, {"id": 2, "role": "user"}]},
        {"messages": []}])");
    const ProcessResult result = chats.run({"import", file.string()});
    CHECK(result.status == 3);
    CHECK(result.out == "1\n2\n3\n");
    CHECK(contains(result.err, "chat 2 is left out: \"Bad one\": message 2: its role is"));
    CHECK(contains(result.err, "chat 10 is left out: message 1: its parent 2 is not before it"));
    CHECK(contains(chats.run({"show", "1"}).out, "good"));
    for (const char* hopeless : {"", "{}", "7", "null", "\"x\"", "[", R"({"format": "nemo-chats"})",
                                 R"({"format": "nemo-chats", "version": 2, "chats": []})"}) {
        CAPTURE(hopeless);
        write_file(file, hopeless);
        CHECK(chats.run({"import", file.string()}).status == 3);
    }
    CHECK(chats.run({"import", (chats.folder / "missing").string()}).status != 0);
}

TEST_CASE("no changed byte of an export does harm") {
    const Chats chats;
    ChatStore store = ChatStore::open(chats.file);
    add_tree(store);
    const std::string sound = chats.run({"export"}).out;
    std::mt19937 random(5);
    int n_read = 0;
    for (int i = 0; i < 3000; ++i) {
        std::string mutant = sound;
        const size_t offset = random() % mutant.size();
        constexpr std::string_view kCommon = "0123456789-\"{}[],:ntruefals";
        mutant[offset] = kCommon[random() % kCommon.size()];
        if (i % 10 == 0) mutant.erase(offset, random() % 40);
        try {
            for (const ImportedChat& chat : import(mutant).chats) {
                if (i % 100 == 0) store.add_copy(chat.chat, chat.messages);
                ++n_read;
            }
        } catch (const Error&) {
        }
    }
    CHECK(n_read > 500);
    CHECK(store.problems().empty());
}
