// What a chat file can meet: damage, strangers, the future, folders and disks that take nothing.
// Always a clear message, and what was there is kept.
#include "app/chat_store.h"
#include "app/sqlite.h"
#include "core/error.h"
#include "tests/app/process.h"
#include "tests/temp_folder.h"

#include <doctest/doctest.h>

#include <sys/mount.h>
#include <sys/resource.h>
#include <csignal>
#include <functional>
#include <random>

using namespace nemo;
namespace fs = std::filesystem;

namespace {

// A store with some chats, closed.
void make_store(const fs::path& file, int n_chats = 4, int n_messages = 6) {
    ChatStore store = ChatStore::open(file);
    for (int i = 0; i < n_chats; ++i) {
        const int64_t chat = store.create_chat({.folder = "f"});
        int64_t parent = 0;
        for (int k = 0; k < n_messages; ++k)
            parent = store.add_message(
                chat, {.parent = parent,
                       .role = k % 2 == 0 ? "user" : "assistant",
                       .content = "message " + std::to_string(k) + std::string(200, 'x')});
    }
}

size_t n_messages(const ChatStore& store) {
    size_t n = 0;
    for (const Chat& chat : store.chats()) n += store.tree(chat.id).size();
    return n;
}

std::vector<fs::path> files_with(const fs::path& folder, const std::string& part) {
    std::vector<fs::path> found;
    for (const auto& entry : fs::directory_iterator(folder))
        if (contains(entry.path().filename().string(), part)) found.push_back(entry.path());
    return found;
}

std::string message_of(const std::function<void()>& action, ErrorCode expected) {
    try {
        action();
    } catch (const Error& error) {
        CHECK(error.code() == expected);
        return error.what();
    }
    return "no error";
}

void execute(const fs::path& file, const char* sql) {
    Connection(file, Connection::Mode::read_write).run(sql);
}

// In a child, which may change its user and its limits: empty, or what went wrong.
std::string in_child(const std::function<std::string()>& action) {
    const TempFolder folder;
    const pid_t child = ::fork();
    if (child == 0) {
        std::string result;
        try {
            result = action();
        } catch (const std::exception& error) {
            result = std::string("thrown: ") + error.what();
        }
        struct rlimit unlimited = {};
        ::getrlimit(RLIMIT_FSIZE, &unlimited);
        unlimited.rlim_cur = unlimited.rlim_max;
        ::setrlimit(RLIMIT_FSIZE, &unlimited);
        write_file(folder / "result", result);
        ::_exit(result.empty() ? 0 : 1);
    }
    int status = 0;
    ::waitpid(child, &status, 0);
    if (status == 0) return "";
    return "status " + std::to_string(decode_status(status)) + " " + read_file(folder / "result");
}

// Adds messages until there is no space; says so, keeps the old ones, goes on when there is space.
std::string fill_and_free(const fs::path& file, const std::function<void()>& make_space) {
    ChatStore store = ChatStore::open(file);
    const size_t n_before = n_messages(store);
    const int64_t chat = store.chats().at(0).id;
    size_t n_added = 0;
    std::string problem;
    for (int i = 0; i < 10'000 && problem.empty(); ++i) {
        try {
            store.add_message(chat, {.role = "user", .content = std::string(5000, 'y')});
            ++n_added;
        } catch (const Error& error) {
            problem = error.what();
        }
    }
    if (problem.empty()) return "the disk was never full";
    if (!contains(problem, "disk is full") && !contains(problem, "File too large"))
        return "unclear: " + problem;
    if (n_messages(store) != n_before + n_added) return "something was lost";
    {
        const ChatStore second = ChatStore::open(file);
        if (n_messages(second) != n_before + n_added) return "a second store lost something";
    }
    make_space();
    store.add_message(chat, {.role = "user", .content = std::string(5000, 'z')});
    if (n_messages(store) != n_before + n_added + 1) return "it did not recover";
    return store.problems().empty() ? "" : store.problems().front();
}

}  // namespace

TEST_CASE("an older file is migrated after a backup") {
    const TempFolder folder;
    const fs::path file = folder / "chats.db";
    make_store(file);
    execute(file,
            "DROP TRIGGER index_new_message; DROP TRIGGER unindex_deleted_message;"
            "DROP TRIGGER unindex_old_text; DROP TRIGGER index_new_text;"
            "DROP TABLE message_index; DROP TABLE short_word_index; DROP VIEW searchable_messages; "
            "PRAGMA user_version = 1;");
    {
        const ChatStore store = ChatStore::open(file);
        REQUIRE(store.notices().size() == 1);
        CHECK(contains(store.notices()[0], "chats.db.backup-v1"));
        CHECK(n_messages(store) == 24);
        CHECK(store.search("message").size() == 28);  // the titles too
        CHECK(store.search("me").size() == 28);
        CHECK(store.problems().empty());
    }
    CHECK(ChatStore::open(file).notices().empty());
    Connection backup(folder / "chats.db.backup-v1", Connection::Mode::read_write);
    CHECK(backup.integer("SELECT count(*) FROM messages") == 24);
    CHECK(backup.integer("PRAGMA user_version") == 1);
    CHECK(fs::status(folder / "chats.db.backup-v1").permissions() ==
          (fs::perms::owner_read | fs::perms::owner_write));
}

TEST_CASE("a file of the future or of another program is left alone") {
    const TempFolder folder;
    const fs::path file = folder / "chats.db";
    make_store(file);
    execute(file, "PRAGMA user_version = 99");
    const std::string future = read_file(file);
    CHECK(contains(message_of([&] { ChatStore::open(file); }, ErrorCode::bad_file),
                   "newer nemo (format 99"));
    CHECK(read_file(file) == future);

    const fs::path other = folder / "other.db";
    write_file(other, "");
    execute(other, "CREATE TABLE t (x); INSERT INTO t VALUES (1)");
    const std::string before = read_file(other);
    const fs::perms others = fs::status(other).permissions() | fs::perms::others_read;
    fs::permissions(other, others);
    CHECK(contains(message_of([&] { ChatStore::open(other); }, ErrorCode::bad_file),
                   "another program"));
    CHECK(read_file(other) == before);
    CHECK(fs::status(other).permissions() == others);
    CHECK(files_with(folder / "", "other.db").size() == 1);

    // One that counts its formats as we do.
    for (const char* application : {"PRAGMA application_id = 0", "PRAGMA application_id = 77"}) {
        execute(other, (std::string("PRAGMA user_version = 1; ") + application).c_str());
        const std::string counted = read_file(other);
        CHECK(contains(message_of([&] { ChatStore::open(other); }, ErrorCode::bad_file),
                       "another program"));
        CHECK(read_file(other) == counted);
        CHECK(files_with(folder / "", "other.db").size() == 1);
    }
}

TEST_CASE("a trigger that somebody planted never runs") {
    const TempFolder folder;
    const fs::path file = folder / "chats.db";
    make_store(file);
    execute(file,
            "CREATE TRIGGER spy AFTER UPDATE ON chats BEGIN DELETE FROM messages; END;"
            "UPDATE messages SET state = 'streaming' WHERE id = 1");
    const ChatStore store = ChatStore::open(file);
    CHECK(store.notices().size() == 1);
    CHECK(store.chats().empty());
    REQUIRE(files_with(folder / "", "chats.db.corrupt-").size() == 1);
    Connection kept(files_with(folder / "", "chats.db.corrupt-")[0], Connection::Mode::read_write);
    CHECK(kept.integer("SELECT count(*) FROM messages") == 24);
}

TEST_CASE("an empty file becomes a store; its orphaned log is kept") {
    const TempFolder folder;
    write_file(folder / "a.db", "");
    CHECK(ChatStore::open(folder / "a.db").notices().empty());

    write_file(folder / "b.db", "");
    write_file(folder / "b.db-wal", "the only copy");
    const ChatStore store = ChatStore::open(folder / "b.db");
    CHECK(store.notices().size() == 1);
    const std::vector<fs::path> kept = files_with(folder / "", "b.db.corrupt-");
    REQUIRE(kept.size() == 2);
    CHECK(read_file(kept[0]) + read_file(kept[1]) == "the only copy");
}

TEST_CASE("without its log a file opens at its last checkpoint") {
    const TempFolder folder;
    make_store(folder / "chats.db");
    ChatStore store = ChatStore::open(folder / "chats.db");
    store.add_message(store.chats().at(0).id, {.role = "user", .content = "in the log"});
    CHECK(n_messages(store) == 25);
    fs::copy_file(folder / "chats.db", folder / "copy.db");
    const ChatStore copy = ChatStore::open(folder / "copy.db");
    CHECK(n_messages(copy) == 24);
    CHECK(copy.problems().empty());
}

TEST_CASE("what is no database is set aside, unless somebody has it open") {
    const TempFolder folder;
    const fs::path file = folder / "chats.db";
    const std::string nonsense(10'000, 'n');
    write_file(file, nonsense);
    {
        const ChatStore store = ChatStore::open(file);
        REQUIRE(store.notices().size() == 1);
        CHECK(contains(store.notices()[0], "was kept as"));
        const std::vector<fs::path> kept = files_with(folder / "", "chats.db.corrupt-");
        REQUIRE(kept.size() == 1);
        CHECK(read_file(kept[0]) == nonsense);
    }
    const ChatStore user = ChatStore::open(file);
    write_file(file, nonsense);
    CHECK(contains(message_of([&] { ChatStore::open(file); }, ErrorCode::bad_file),
                   "still has it open"));
    CHECK(files_with(folder / "", "chats.db.corrupt-").size() == 1);
}

// By hand: TMPDIR=/dev/shm NEMO_TEST_MUTANTS=10000
TEST_CASE("a file with changed bytes opens or is set aside, and is never lost") {
    const char* wanted = std::getenv("NEMO_TEST_MUTANTS");
    const int n_mutants = wanted == nullptr ? 25 : std::atoi(wanted);
    const TempFolder folder;
    make_store(folder / "sound.db");
    const std::string sound = read_file(folder / "sound.db");
    std::mt19937 random(7);
    int n_set_aside = 0;
    int n_refused = 0;
    int n_failed_in_use = 0;
    for (int i = 0; i < n_mutants; ++i) {
        CAPTURE(i);
        const TempFolder own;
        const fs::path file = own / "chats.db";
        std::string mutant = sound;
        // Half of them where the structure is: the first pages, and the first bytes of all pages.
        for (unsigned k = 0; k < 1 + random() % 3; ++k) {
            size_t offset = random() % mutant.size();
            if (random() % 2 == 0) offset = offset / 4096 * 4096 + random() % 100;
            if (random() % 4 == 0) offset = random() % 100;
            mutant[offset % mutant.size()] = static_cast<char>(random());
        }
        if (i % 20 == 0) mutant.resize(random() % mutant.size());
        write_file(file, mutant);
        const auto use = [&] {
            ChatStore store = ChatStore::open(file);
            const int64_t chat = store.create_chat({.title = "new"});
            store.add_message(chat, {.role = "user", .content = "new message"});
            n_messages(store);
            store.search("message");
            store.search("me");
        };
        for (int attempt = 0; attempt < 2; ++attempt) {
            try {
                use();
                break;
            } catch (const Error& error) {
                const std::string message = error.what();
                CAPTURE(message);
                const bool is_refused = contains(message, "left as it is");
                if (is_refused) CHECK(read_file(file) == mutant);
                n_refused += is_refused;
                n_failed_in_use += !is_refused;
                if (is_refused) break;
                CHECK(attempt == 0);  // the second opening has set it aside
            }
        }
        const std::vector<fs::path> kept = files_with(own / "", "chats.db.corrupt-");
        n_set_aside += !kept.empty();
        CHECK(kept.size() <= 2);  // with its log
    }
    if (wanted != nullptr)
        MESSAGE(n_mutants << " mutants: " << n_set_aside << " set aside, " << n_refused
                          << " refused, " << n_failed_in_use << " noticed in use");
    CHECK(n_set_aside > n_mutants / 20);
}

TEST_CASE("where nothing can be written, chats can be read") {
    const TempFolder folder;
    const fs::path file = folder / "data/chats.db";
    make_store(file);
    const std::string before = read_file(file);
    const auto read_only = [&]() -> std::string {
        ChatStore store = ChatStore::open(file);
        if (!store.is_read_only()) return "not read-only";
        if (store.notices().size() != 1) return "not one notice";
        if (n_messages(store) != 24) return "not all messages";
        if (store.search("message").size() != 28 || store.search("me").size() != 28)
            return "not found";
        const std::string problem = message_of([&] { store.create_chat({}); }, ErrorCode::runtime);
        if (!contains(problem, "reading only")) return problem;
        const std::string new_one =
            message_of([&] { ChatStore::open(folder / "data/new.db"); }, ErrorCode::runtime);
        return contains(new_one, "cannot be written") ? "" : new_one;
    };
    const auto as_another_user = [&]() -> std::string {
        if (::getuid() == 0 && ::setresuid(65534, 65534, 65534) != 0) return "setresuid";
        return read_only();
    };
    using fs::perms;
    fs::permissions(folder / "", perms::owner_all | perms::others_exec | perms::group_exec);
    fs::permissions(folder / "data", perms(0555));
    for (const auto& entry : fs::directory_iterator(folder / "data"))
        fs::permissions(entry, perms(0444));
    CHECK(in_child(as_another_user) == "");
    fs::permissions(folder / "data", perms::owner_all);
    CHECK(read_file(file) == before);
}

TEST_CASE("a full disk costs nothing that was stored") {
    const TempFolder folder;
    make_store(folder / "chats.db");
    CHECK(in_child([&] {
              ::signal(SIGXFSZ, SIG_IGN);
              struct rlimit limit = {};
              ::getrlimit(RLIMIT_FSIZE, &limit);
              limit.rlim_cur = 300'000;
              ::setrlimit(RLIMIT_FSIZE, &limit);
              return fill_and_free(folder / "chats.db", [&] {
                  limit.rlim_cur = limit.rlim_max;
                  ::setrlimit(RLIMIT_FSIZE, &limit);
              });
          }) == "");
    if (::getuid() != 0) return;
    const fs::path disk = folder / "disk";
    fs::create_directory(disk);
    if (::mount("tmpfs", disk.c_str(), "tmpfs", 0, "size=4m") != 0) return;
    make_store(disk / "chats.db");
    write_file(disk / "ballast", std::string(500'000, 'b'));
    CHECK(in_child([&] {
              return fill_and_free(disk / "chats.db", [&] { fs::remove(disk / "ballast"); });
          }) == "");
    CHECK(::umount(disk.c_str()) == 0);
}

TEST_CASE("several programs write at once, and none is told to wait") {
    const TempFolder folder;
    const fs::path file = folder / "chats.db";
    constexpr int kWriters = 4;
    constexpr int kMessages = 40;
    std::vector<pid_t> writers;
    for (int i = 0; i < kWriters; ++i) {
        writers.push_back(::fork());
        if (writers.back() != 0) continue;
        try {
            ChatStore store = ChatStore::open(file);  // all create it at the same time
            const int64_t chat = store.create_chat({});
            for (int k = 0; k < kMessages; ++k)
                store.add_message(chat, {.role = "user", .content = "message"});
            ::_exit(0);
        } catch (const std::exception& error) {
            std::fputs(error.what(), stderr);
            ::_exit(1);
        }
    }
    for (const pid_t writer : writers) {
        int status = 0;
        ::waitpid(writer, &status, 0);
        CHECK(status == 0);
    }
    const ChatStore store = ChatStore::open(file);
    CHECK(store.chats().size() == kWriters);
    CHECK(n_messages(store) == kWriters * kMessages);
    CHECK(store.problems().empty());
}
