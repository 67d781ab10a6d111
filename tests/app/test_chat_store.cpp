// The chat store as its callers see it: chats, trees of messages, locks, permissions.
#include "app/chat_store.h"
#include "core/error.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <sys/stat.h>

using namespace nemo;
using namespace std::string_literals;

namespace {

std::vector<int64_t> ids(const std::vector<Message>& messages) {
    std::vector<int64_t> result;
    for (const Message& message : messages) result.push_back(message.id);
    return result;
}

template <class Range>
std::vector<int64_t> chat_ids(const Range& chats) {
    std::vector<int64_t> result;
    for (const auto& chat : chats) result.push_back(chat.id);
    return result;
}

mode_t permissions(const std::filesystem::path& path) {
    struct stat status = {};
    return ::lstat(path.c_str(), &status) == 0 ? status.st_mode & 07777 : 0;
}

ErrorCode code_of(const auto& action) {
    try {
        action();
    } catch (const Error& error) {
        return error.code();
    }
    return ErrorCode::interrupted;
}

using Ids = std::vector<int64_t>;

}  // namespace

TEST_CASE("what goes into a chat comes out again, also after a reopening") {
    const TempFolder folder;
    const std::filesystem::path file = folder / "chats.db";
    const Json settings = Json::Object{{"temperature", 0.5}, {"think", true}};
    const Json stats = Json::Object{{"tokens", 12}};
    const ModelReference model = {.path = "/m/a.gguf", .name = "A"};
    const std::string content = "zero \0 byte, 天気 🙂\n"s;
    int64_t chat = 0;
    int64_t question = 0;
    int64_t answer = 0;
    {
        ChatStore store = ChatStore::open(file);
        CHECK(store.notices().empty());
        chat = store.create_chat(
            {.folder = "work", .system = "Be brief.", .model = model, .settings = settings});
        question = store.add_message(chat, {.role = "user", .content = content});
        answer = store.add_message(
            chat, {.parent = question, .role = "assistant", .state = MessageState::streaming});
        store.update_answer(answer, {.content = "It", .reasoning = "Hm"});
        store.update_answer(answer, {.content = "It is.",
                                     .reasoning = "Hm.",
                                     .state = MessageState::complete,
                                     .stats = stats});
    }
    const ChatStore store = ChatStore::open(file);
    CHECK(store.notices().empty());
    const Chat stored = store.chat(chat);
    CHECK(stored.folder == "work");
    CHECK(stored.system == "Be brief.");
    CHECK(stored.model == model);
    CHECK(stored.settings == settings);
    CHECK(stored.leaf == answer);
    CHECK_FALSE(stored.deleted);
    CHECK(stored.created > 1'700'000'000'000);
    CHECK(stored.updated >= stored.created);
    const std::vector<Message> shown = store.shown(chat);
    REQUIRE(ids(shown) == Ids{question, answer});
    CHECK(shown[0].content == content);
    CHECK(shown[0].stats.is_null());
    CHECK(shown[1].role == "assistant");
    CHECK(shown[1].content == "It is.");
    CHECK(shown[1].reasoning == "Hm.");
    CHECK(shown[1].state == MessageState::complete);
    CHECK(shown[1].stats == stats);
}

TEST_CASE("an edit is a sibling, and every branch stays") {
    const TempFolder folder;
    ChatStore store = ChatStore::open(folder / "chats.db");
    const int64_t chat = store.create_chat({});
    const auto add = [&](int64_t parent, const char* role) {
        return store.add_message(chat, {.parent = parent, .role = role, .content = "x"});
    };
    const int64_t q1 = add(0, "user");
    const int64_t a1 = add(q1, "assistant");
    const int64_t q2 = add(a1, "user");
    const int64_t a2 = add(q2, "assistant");
    const int64_t a2_again = add(q2, "assistant");
    CHECK(ids(store.shown(chat)) == Ids{q1, a1, q2, a2_again});
    const int64_t q1_edited = add(0, "user");
    CHECK(ids(store.shown(chat)) == Ids{q1_edited});
    CHECK(ids(store.children(chat, 0)) == Ids{q1, q1_edited});
    CHECK(ids(store.children(chat, q2)) == Ids{a2, a2_again});
    CHECK(ids(store.tree(chat)) == Ids{q1, a1, q2, a2, a2_again, q1_edited});
    CHECK(store.latest_leaf(q1) == a2_again);
    CHECK(store.latest_leaf(q1_edited) == q1_edited);
    store.set_leaf(chat, a2);
    CHECK(ids(store.shown(chat)) == Ids{q1, a1, q2, a2});
    CHECK(ids(store.path_to(q2)) == Ids{q1, a1, q2});
    store.set_leaf(chat, 0);
    CHECK(store.shown(chat).empty());

    const int64_t other = store.create_chat({});
    CHECK(code_of([&] { store.set_leaf(other, a1); }) == ErrorCode::usage);
    CHECK(code_of([&] {
              store.add_message(other, {.parent = a1, .role = "user", .content = "x"});
          }) == ErrorCode::usage);
    CHECK(code_of([&] { store.add_message(99, {.role = "user"}); }) == ErrorCode::usage);
    CHECK(code_of([&] { store.update_answer(99, {}); }) == ErrorCode::usage);
    CHECK(code_of([&] { store.message(99); }) == ErrorCode::usage);
    CHECK(store.tree(other).empty());
}

TEST_CASE("chats are listed, sorted, filtered, deleted and brought back") {
    const TempFolder folder;
    ChatStore store = ChatStore::open(folder / "chats.db");
    const int64_t a = store.create_chat({.title = "a", .folder = "f"});
    const int64_t b = store.create_chat({.title = "b"});
    const int64_t c = store.create_chat({.title = "c", .folder = "f"});
    CHECK(chat_ids(store.chats()) == Ids{c, b, a});
    store.set_pinned(a, true);
    CHECK(chat_ids(store.chats()) == Ids{a, c, b});
    CHECK(chat_ids(store.chats({.limit = 1, .pinned_first = false})) == Ids{c});
    CHECK(chat_ids(store.chats({.folder = "f"})) == Ids{a, c});
    store.set_folder(b, "f");
    CHECK(chat_ids(store.chats({.folder = ""})).empty());

    store.add_message(b, {.role = "user", .content = "kept"});
    store.delete_chat(b);
    CHECK(chat_ids(store.chats()) == Ids{a, c});
    CHECK(chat_ids(store.chats({.deleted = true})) == Ids{b});
    CHECK(store.chat(b).deleted);
    CHECK(code_of([&] { store.purge_chat(a); }) == ErrorCode::usage);
    store.undelete_chat(b);
    CHECK(store.shown(b).at(0).content == "kept");
    store.delete_chat(b);
    const int64_t message = store.shown(b).at(0).id;
    store.purge_chat(b);
    CHECK(code_of([&] { store.chat(b); }) == ErrorCode::usage);
    CHECK(code_of([&] { store.message(message); }) == ErrorCode::usage);
    store.delete_chat(c);
    store.purge_chat(c);
    CHECK(store.create_chat({}) > c);  // an id never comes back
}

TEST_CASE("the title comes from the first question until the user gives one") {
    const TempFolder folder;
    ChatStore store = ChatStore::open(folder / "chats.db");
    const int64_t chat = store.create_chat({});
    const int64_t question = store.add_message(
        chat, {.role = "user", .content = "\n\n  How do I cook rice? \nAnd beans?"});
    CHECK(store.chat(chat).title == "How do I cook rice?");
    store.add_message(chat, {.parent = question, .role = "user", .content = "Second"});
    CHECK(store.chat(chat).title == "How do I cook rice?");
    store.set_title(chat, "Rice");
    CHECK(store.chat(chat).has_own_title);
    store.add_message(chat, {.role = "user", .content = "Edited"});
    CHECK(store.chat(chat).title == "Rice");
    store.set_title(chat, "");
    CHECK(store.chat(chat).title == "How do I cook rice?");
    CHECK_FALSE(store.chat(chat).has_own_title);
}

TEST_CASE("a title is one line of at most 60 characters, cut between words") {
    CHECK(title_from("") == "");
    CHECK(title_from(" \n\t ") == "");
    const std::string exact(60, 'x');
    CHECK(title_from(exact) == exact);
    CHECK(title_from(exact + "y") == std::string(59, 'x') + "…");
    std::string words;
    for (int i = 0; i < 20; ++i) words += "word ";
    CHECK(title_from(words) == "word word word word word word word word word word word word…");
    std::string cjk;
    for (int i = 0; i < 100; ++i) cjk += "天";
    CHECK(title_from(cjk) == cjk.substr(0, 59 * 3) + "…");
}

TEST_CASE("one writer for each chat; a living writer's answer is not called interrupted") {
    const TempFolder folder;
    const std::filesystem::path file = folder / "chats.db";
    ChatStore store = ChatStore::open(file);
    const int64_t living = store.create_chat({});
    const int64_t abandoned = store.create_chat({});
    std::optional<ChatLock> lock = store.lock_chat(living);
    REQUIRE(lock);
    CHECK_FALSE(store.lock_chat(living));
    const int64_t a = store.add_message(
        living, {.role = "assistant", .content = "a", .state = MessageState::streaming});
    const int64_t b = store.add_message(
        abandoned, {.role = "assistant", .content = "b", .state = MessageState::streaming});
    {
        const ChatStore second = ChatStore::open(file);
        CHECK_FALSE(second.lock_chat(living));
        CHECK(second.lock_chat(abandoned));
        REQUIRE(second.notices().size() == 1);
        CHECK(second.notices()[0].starts_with("1 answer was cut off"));
    }
    CHECK(store.message(a).state == MessageState::streaming);
    CHECK(store.message(b).state == MessageState::interrupted);
    CHECK(store.message(b).content == "b");
    lock.reset();
    CHECK(ChatStore::open(file).message(a).state == MessageState::interrupted);
    CHECK(store.lock_chat(living));
}

TEST_CASE("nobody else can read the chats, whatever the umask; links are refused") {
    const mode_t old_mask = ::umask(0);
    {
        const TempFolder folder;
        const std::filesystem::path file = folder / "data/nemo/chats.db";
        ChatStore store = ChatStore::open(file);
        store.add_message(store.create_chat({}), {.role = "user", .content = "x"});
        CHECK(permissions(folder / "data/nemo") == 0700);
        for (const char* suffix : {"", "-wal", "-shm", "-lock"}) {
            CAPTURE(suffix);
            CHECK(permissions(file.string() + suffix) == 0600);
        }
        std::filesystem::permissions(file, std::filesystem::perms(0644));
        ChatStore::open(file);
        CHECK(permissions(file) == 0600);
    }
    ::umask(old_mask);
    for (const char* suffix : {"", "-wal", "-shm", "-lock"}) {
        CAPTURE(suffix);
        const TempFolder folder;
        write_file(folder / "target", "precious");
        std::filesystem::create_symlink(folder / "target", (folder / "chats.db").string() + suffix);
        CHECK(code_of([&] { ChatStore::open(folder / "chats.db"); }) == ErrorCode::runtime);
        CHECK(read_file(folder / "target") == "precious");
    }
}
