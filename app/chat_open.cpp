// Opening a chat file: who else has it, what a dead program left, what to do with a damaged one.
//
// Bytes of the lock file: kOpeningByte is held while a store opens, so that one at a time migrates
// or sets aside; kInstanceByte is shared by all open stores, so that a file in use is not set
// aside; kFirstChatByte + id belongs to whoever writes into that chat.
#include "app/chat_schema.h"
#include "app/chat_store.h"
#include "app/sqlite.h"
#include "core/environment.h"
#include "core/error.h"
#include "core/mapped_file.h"
#include "core/private_file.h"

#include <fmt/chrono.h>
#include <unistd.h>

#include <ctime>

namespace nemo {

namespace {

namespace fs = std::filesystem;

constexpr int64_t kOpeningByte = 0;
constexpr int64_t kInstanceByte = 1;
constexpr int64_t kFirstChatByte = 16;
constexpr std::chrono::milliseconds kOpeningPatience{5000};
// Some thousand messages, checked at every opening within 10 ms.
constexpr uintmax_t kQuicklyCheckedBytes = uintmax_t{32} << 20;
constexpr std::initializer_list<const char*> kThoroughChecks = {"PRAGMA integrity_check",
                                                                "PRAGMA foreign_key_check"};

fs::path sibling(const fs::path& file, const std::string& suffix) {
    return file.string() + suffix;
}

fs::path lock_file(const fs::path& file) {
    return sibling(file, "-lock");
}

uintmax_t size_or_zero(const fs::path& file) {
    std::error_code error;
    const uintmax_t size = fs::file_size(file, error);
    return error ? 0 : size;
}

fs::path default_path() {
    const fs::path& folder = environment().data_folder;
    if (folder.empty())
        fail(ErrorCode::usage,
             "where are the chats? Neither NEMO_DATA, XDG_DATA_HOME nor HOME is "
             "set");
    create_private_folder(folder);
    std::error_code ignored;  // somebody else's folder: the files are private by themselves
    fs::permissions(folder, fs::perms::owner_all, ignored);
    return folder / "chats.db";
}

// SQLite is told to follow no link, so the folder's are resolved here.
fs::path resolve(const fs::path& path) {
    const fs::path folder = fs::absolute(path).parent_path();
    create_private_folder(folder);
    return fs::canonical(folder) / path.filename();
}

bool can_write(const fs::path& file) {
    return ::access(file.parent_path().c_str(), W_OK) == 0 &&
           (!fs::exists(file) || ::access(file.c_str(), W_OK) == 0) &&
           (!fs::exists(lock_file(file)) || ::access(lock_file(file).c_str(), W_OK) == 0);
}

// Moves the file and its log to FILE.corrupt-DATE, where SQLite's tools find both.
fs::path set_aside(const fs::path& file) {
    const std::string date =
        fmt::format("{:%Y-%m-%dT%H-%M-%S}", fmt::localtime(std::time(nullptr)));
    fs::path target = sibling(file, ".corrupt-" + date);
    for (int i = 2; fs::exists(target) || fs::exists(sibling(target, "-wal")); ++i)
        target = sibling(file, fmt::format(".corrupt-{}-{}", date, i));
    for (const char* suffix : {"", "-wal"}) {
        std::error_code error;
        if (!fs::exists(sibling(file, suffix))) continue;
        fs::rename(sibling(file, suffix), sibling(target, suffix), error);
        if (error)
            throw DatabaseUnwritable(ErrorCode::runtime,
                                     fmt::format("{}: is damaged and cannot be set aside: {}",
                                                 file.string(), error.message()));
    }
    std::error_code ignored;
    fs::remove(sibling(file, "-shm"), ignored);  // an index of the log, made anew
    fs::remove(damage_mark(file), ignored);
    return target;
}

std::vector<std::string> table_problems(Connection& connection,
                                        std::initializer_list<const char*> checks) {
    std::vector<std::string> problems;
    try {
        for (const char* check : checks) {
            Statement rows = connection.prepare(check);
            while (rows.step())
                if (const std::string line = rows.text(0); line != "ok") problems.push_back(line);
        }
    } catch (const DatabaseDamaged& error) {
        problems.push_back(error.what());
    }
    return problems;
}

bool index_fits(Connection& connection) {
    try {
        connection.run(
            "INSERT INTO message_index (message_index, rank) VALUES ('integrity-check', 1);"
            "INSERT INTO short_word_index (short_word_index, rank) VALUES ('integrity-check', 1)");
        return true;
    } catch (const DatabaseDamaged&) {
        return false;
    }
}

}  // namespace

ChatStore ChatStore::open(const fs::path& path) {
    ChatStore store;
    check_library();
    store.path_ = resolve(path.empty() ? default_path() : path);
    for (const char* suffix : {"", "-wal", "-shm", "-lock"})
        refuse_special_file(sibling(store.path_, suffix));
    const bool has_content = size_or_zero(store.path_) > 0;
    // Without a lock file nemo never had it, and no store of this process has it open now: reading
    // it here would drop that one's locks.
    if (has_content && !fs::exists(lock_file(store.path_))) refuse_foreign_database(store.path_);
    if (!can_write(store.path_)) {
        if (!has_content)
            fail(ErrorCode::runtime, "{}: the folder cannot be written", store.path_.string());
        store.open_for_reading("it or its folder cannot be written");
        return store;
    }
    try {
        store.open_for_writing();
    } catch (const DatabaseUnwritable& error) {
        if (!has_content) throw;
        store.open_for_reading(error.what());
    }
    return store;
}

ChatStore ChatStore::open_named(const fs::path& path, bool creates) {
    if (!path.empty() && !(creates && !fs::exists(path))) {
        const MappedFile file = MappedFile::open(path);
        if (!file.text().empty() && !file.text().starts_with(kDatabaseStart))
            fail(ErrorCode::bad_file, "{}: is no file of chats, left as it is", path.string());
    }
    return open(path);
}

void ChatStore::open_for_writing() {
    ensure_private_file(path_);
    ensure_private_file(lock_file(path_));
    const std::optional<FileLock> opening =
        FileLock::take(lock_file(path_), kOpeningByte, FileLock::Kind::exclusive, kOpeningPatience);
    if (!opening)
        fail(ErrorCode::runtime, "{}: another program has been opening it for over {} s",
             path_.string(), kOpeningPatience.count() / 1000);
    // SQLite would delete the log of an empty file.
    if (size_or_zero(path_) == 0 && size_or_zero(sibling(path_, "-wal")) > 0)
        start_anew("it is empty, but its log is not");
    try {
        connect();
    } catch (const DatabaseDamaged& error) {
        connection_.reset();
        start_anew(error.what());
        connect();
    }
    instance_ = FileLock::take(lock_file(path_), kInstanceByte, FileLock::Kind::shared);
    interrupt_abandoned_answers();
}

void ChatStore::start_anew(const std::string& reason) {
    if (!FileLock::take(lock_file(path_), kInstanceByte, FileLock::Kind::exclusive))
        fail(ErrorCode::bad_file, "{}; another program still has it open: close that first",
             reason);
    const fs::path target = set_aside(path_);
    ensure_private_file(path_);
    notices_.push_back(fmt::format("{}. It was kept as {}, and a new chat file was started.",
                                   reason, target.string()));
}

void ChatStore::connect() {
    connection_ = std::make_unique<Connection>(path_, Connection::Mode::read_write);
    check_schema(*connection_, path_);
    connection_->run("PRAGMA journal_mode = WAL; PRAGMA secure_delete = ON;");
    migrate_schema(*connection_, path_, notices_);
    if (fs::exists(damage_mark(path_)))
        repair_or_fail();
    else if (size_or_zero(path_) < kQuicklyCheckedBytes)
        fail_on(table_problems(*connection_, {"PRAGMA quick_check"}));
}

void ChatStore::fail_on(const std::vector<std::string>& found) const {
    if (!found.empty())
        throw DatabaseDamaged(ErrorCode::bad_file, fmt::format("{}: the file is damaged ({})",
                                                               path_.string(), found.front()));
}

// The index can be made anew from the messages; a damaged table cannot.
void ChatStore::repair_or_fail() {
    fail_on(table_problems(*connection_, kThoroughChecks));
    if (!index_fits(*connection_)) {
        connection_->run(
            "INSERT INTO message_index (message_index) VALUES ('rebuild');"
            "INSERT INTO short_word_index (short_word_index) VALUES ('rebuild')");
        notices_.push_back("The search index was damaged and has been made anew.");
    }
    // Does it take anything at all?
    connection_->run(fmt::format("PRAGMA user_version = {}", kChatSchemaVersion).c_str());
    fs::remove(damage_mark(path_));
}

void ChatStore::open_for_reading(const std::string& reason) {
    is_read_only_ = true;
    notices_.push_back(fmt::format("The chats can only be read, nothing is saved: {}.", reason));
    try {
        connection_ = std::make_unique<Connection>(path_, Connection::Mode::read_only);
        check_schema(*connection_, path_);
    } catch (const DatabaseUnwritable&) {
        if (size_or_zero(sibling(path_, "-wal")) > 0)
            fail(ErrorCode::runtime,
                 "{}: cannot be read where nothing can be written, because the last messages are "
                 "still in {}: copy both to another folder",
                 path_.string(), sibling(path_, "-wal").string());
        connection_ = std::make_unique<Connection>(path_, Connection::Mode::immutable);
        check_schema(*connection_, path_);
    }
    if (connection_->integer("PRAGMA user_version") != kChatSchemaVersion)
        fail(ErrorCode::bad_file,
             "{}: is in an older format and cannot be brought to the new one: "
             "{}",
             path_.string(), reason);
}

std::optional<ChatLock> ChatStore::lock_chat(int64_t chat) const {
    need_writable();
    std::optional<FileLock> lock =
        FileLock::take(lock_file(path_), kFirstChatByte + chat, FileLock::Kind::exclusive);
    if (!lock) return std::nullopt;
    return ChatLock(std::move(*lock));
}

std::vector<std::string> ChatStore::problems() const {
    std::vector<std::string> problems = table_problems(*connection_, kThoroughChecks);
    if (!is_read_only_ && problems.empty() && !index_fits(*connection_))
        problems.push_back("the search index does not fit the messages");
    return problems;
}

void ChatStore::interrupt_abandoned_answers() {
    std::vector<int64_t> chats;
    Statement with_answers =
        connection_->prepare("SELECT DISTINCT chat FROM messages WHERE state = 'streaming'");
    while (with_answers.step()) chats.push_back(with_answers.integer(0));
    int64_t n_interrupted = 0;
    for (const int64_t chat : chats) {
        const std::optional<ChatLock> lock = lock_chat(chat);
        if (!lock) continue;  // its writer lives
        connection_
            ->prepare(
                "UPDATE messages SET state = 'interrupted' WHERE chat = ?1 AND state = "
                "'streaming'")
            .bind(chat)
            .run();
        n_interrupted += connection_->n_changed();
    }
    if (n_interrupted > 0)
        notices_.push_back(
            fmt::format("{} answer{} cut off when the program ended; what was "
                        "written until then is kept.",
                        n_interrupted, n_interrupted == 1 ? " was" : "s were"));
}

}  // namespace nemo
