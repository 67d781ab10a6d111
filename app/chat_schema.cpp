#include "app/chat_schema.h"

#include "app/sqlite.h"
#include "core/error.h"
#include "core/mapped_file.h"
#include "core/private_file.h"

#include <array>

namespace nemo {

namespace {

// "nemo" in SQLite's application_id: a database of another program is left alone.
constexpr int64_t kApplicationId = 0x6E656D6F;

// kMigrations[v] leads from version v to v + 1. They are never changed, only added to.
constexpr std::array<const char*, kChatSchemaVersion> kMigrations = {
    R"(
CREATE TABLE chats (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    title TEXT NOT NULL,
    has_own_title INTEGER NOT NULL CHECK (has_own_title IN (0, 1)),
    folder TEXT NOT NULL,
    is_pinned INTEGER NOT NULL CHECK (is_pinned IN (0, 1)),
    system TEXT NOT NULL,
    model_path TEXT NOT NULL,
    model_name TEXT NOT NULL,
    settings TEXT NOT NULL,
    leaf INTEGER,
    created INTEGER NOT NULL,
    updated INTEGER NOT NULL,
    deleted INTEGER,
    FOREIGN KEY (id, leaf) REFERENCES messages (chat, id) DEFERRABLE INITIALLY DEFERRED
);
CREATE TABLE messages (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    chat INTEGER NOT NULL REFERENCES chats (id) ON DELETE CASCADE,
    parent INTEGER CHECK (parent < id),
    role TEXT NOT NULL,
    content TEXT NOT NULL,
    reasoning TEXT NOT NULL,
    state TEXT NOT NULL CHECK (state IN ('complete', 'streaming', 'interrupted', 'failed')),
    created INTEGER NOT NULL,
    stats TEXT NOT NULL,
    UNIQUE (chat, id),
    FOREIGN KEY (chat, parent) REFERENCES messages (chat, id)
);
CREATE INDEX messages_by_parent ON messages (chat, parent);
CREATE INDEX streaming_messages ON messages (chat) WHERE state = 'streaming';
PRAGMA application_id = 0x6E656D6F;
)",
    // The indexes have no copy of the texts: they read them through the view. One finds words of
    // three characters and more, the other shorter ones (app/short_words.h), of which it need not
    // know the places. An answer is indexed when it is whole, not again with every word.
    R"(
CREATE VIEW searchable_messages (id, content) AS
    SELECT id, content FROM messages WHERE state <> 'streaming';
CREATE VIRTUAL TABLE message_index USING fts5 (
    content, content = 'searchable_messages', content_rowid = 'id', tokenize = 'trigram');
CREATE VIRTUAL TABLE short_word_index USING fts5 (
    content, content = 'searchable_messages', content_rowid = 'id', tokenize = 'short_words',
    detail = none, columnsize = 0);
INSERT INTO message_index (message_index) VALUES ('rebuild');
INSERT INTO short_word_index (short_word_index) VALUES ('rebuild');
CREATE TRIGGER index_new_message AFTER INSERT ON messages WHEN new.state <> 'streaming' BEGIN
    INSERT INTO message_index (rowid, content) VALUES (new.id, new.content);
    INSERT INTO short_word_index (rowid, content) VALUES (new.id, new.content);
END;
CREATE TRIGGER unindex_deleted_message AFTER DELETE ON messages WHEN old.state <> 'streaming' BEGIN
    INSERT INTO message_index (message_index, rowid, content)
        VALUES ('delete', old.id, old.content);
    INSERT INTO short_word_index (short_word_index, rowid, content)
        VALUES ('delete', old.id, old.content);
END;
CREATE TRIGGER unindex_old_text AFTER UPDATE OF content, state ON messages
    WHEN old.state <> 'streaming' BEGIN
    INSERT INTO message_index (message_index, rowid, content)
        VALUES ('delete', old.id, old.content);
    INSERT INTO short_word_index (short_word_index, rowid, content)
        VALUES ('delete', old.id, old.content);
END;
CREATE TRIGGER index_new_text AFTER UPDATE OF content, state ON messages
    WHEN new.state <> 'streaming' BEGIN
    INSERT INTO message_index (rowid, content) VALUES (new.id, new.content);
    INSERT INTO short_word_index (rowid, content) VALUES (new.id, new.content);
END;
)"};

int64_t schema_version(Connection& connection) {
    return connection.integer("PRAGMA user_version");
}

struct DatabaseIdentity {
    bool is_empty = false;
    int64_t version = 0;
    int64_t application = 0;
};

void fail_if_foreign(const DatabaseIdentity& found, const std::filesystem::path& file) {
    const bool is_new = found.is_empty && found.version == 0 && found.application == 0;
    const bool is_ours =
        !found.is_empty && found.version >= 1 && found.application == kApplicationId;
    if (!is_new && !is_ours)
        fail(ErrorCode::bad_file,
             "{}: is a database of another program (application id {}, version {}), left as it is",
             file.string(), found.application, found.version);
}

std::filesystem::path with_suffix(const std::filesystem::path& file, const std::string& suffix) {
    return file.string() + suffix;
}

std::filesystem::path back_up(Connection& connection, const std::filesystem::path& file) {
    const std::string suffix = fmt::format(".backup-v{}", schema_version(connection));
    std::filesystem::path target = with_suffix(file, suffix);
    for (int i = 2; std::filesystem::exists(std::filesystem::symlink_status(target)); ++i)
        target = with_suffix(file, fmt::format("{}-{}", suffix, i));
    ensure_private_file(target);
    try {
        connection.copy_to(target);
    } catch (const Error&) {
        std::error_code ignored;
        std::filesystem::remove(target, ignored);
        throw;
    }
    return target;
}

void apply_migrations(Connection& connection, int64_t from, int64_t to) {
    for (int64_t version = from; version < to; ++version)
        connection.run(kMigrations[static_cast<size_t>(version)]);
}

// All definitions but those of the tables that FTS5 makes for itself.
std::string definitions(Connection& connection) {
    Statement rows = connection.prepare(
        "SELECT type, name, sql FROM sqlite_schema WHERE NOT (type = 'table' AND (name GLOB "
        "'message_index_*' OR name GLOB 'short_word_index_*')) ORDER BY type, name");
    std::string text;
    while (rows.step())
        for (const int column : {0, 1, 2}) text += rows.text(column) + '\n';
    return text;
}

}  // namespace

void refuse_foreign_database(const std::filesystem::path& path) {
    // https://www.sqlite.org/fileformat.html: the header, then the root page of the schema table.
    constexpr size_t kUserVersion = 60;
    constexpr size_t kApplication = 68;
    constexpr size_t kCellCount = 103;
    const MappedFile file = MappedFile::open(path);
    const std::string_view text = file.text();
    if (!text.starts_with(kDatabaseStart) || text.size() < kCellCount + 2) return;
    const auto big_endian = [&](size_t offset, size_t n_bytes) {
        int64_t value = 0;
        for (const char byte : text.substr(offset, n_bytes))
            value = value << 8 | static_cast<uint8_t>(byte);
        return value;
    };
    fail_if_foreign({.is_empty = big_endian(kCellCount, 2) == 0,
                     .version = big_endian(kUserVersion, 4),
                     .application = big_endian(kApplication, 4)},
                    path);
}

void check_library() {
    try {
        Connection sample;
        apply_migrations(sample, 0, kChatSchemaVersion);
    } catch (const DatabaseDamaged& error) {
        fail(ErrorCode::runtime, "SQLite was built without what the chats need: {}", error.what());
    }
}

void check_schema(Connection& connection, const std::filesystem::path& file) {
    const int64_t version = schema_version(connection);
    fail_if_foreign({.is_empty = connection.integer("SELECT count(*) FROM sqlite_schema") == 0,
                     .version = version,
                     .application = connection.integer("PRAGMA application_id")},
                    file);
    if (version > kChatSchemaVersion)
        fail(ErrorCode::bad_file,
             "{}: was written by a newer nemo (format {}, this one knows up to {}), left as it is",
             file.string(), version, kChatSchemaVersion);
    Connection expected;
    apply_migrations(expected, 0, version);
    if (definitions(connection) != definitions(expected))
        throw DatabaseDamaged(ErrorCode::bad_file,
                              fmt::format("{}: the file is damaged (its tables are not those of "
                                          "format {})",
                                          file.string(), version));
}

void migrate_schema(Connection& connection, const std::filesystem::path& file,
                    std::vector<std::string>& notices) {
    const int64_t version = schema_version(connection);
    if (version == kChatSchemaVersion) return;
    if (version > 0)
        notices.push_back(
            fmt::format("The chats were brought to a newer format; {} is a copy from "
                        "before.",
                        back_up(connection, file).string()));
    Transaction transaction(connection);
    apply_migrations(connection, version, kChatSchemaVersion);
    connection.run(fmt::format("PRAGMA user_version = {}", kChatSchemaVersion).c_str());
    transaction.commit();
}

}  // namespace nemo
