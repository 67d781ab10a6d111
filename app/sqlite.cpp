#include "app/sqlite.h"

#include "app/short_words.h"
#include "core/private_file.h"
#include "core/utf8.h"

#include <sqlite3.h>

#include <cstring>
#include <new>
#include <utility>

namespace nemo {

namespace {

constexpr size_t kMaxTextBytes = size_t{256} << 20;

std::string uri_of(const std::filesystem::path& path, const char* parameters) {
    std::string uri = "file:";
    for (const char c : std::filesystem::absolute(path).string()) {
        if (c == '%' || c == '?' || c == '#')
            uri += fmt::format("%{:02X}", static_cast<unsigned char>(c));
        else
            uri.push_back(c);
    }
    return uri + parameters;
}

// Best effort: where it cannot be written, the damage will be met again.
void mark_damaged(const std::filesystem::path& path) {
    if (path.empty()) return;  // in memory
    try {
        ensure_private_file(damage_mark(path));
    } catch (const Error&) {
    }
}

[[noreturn]] void fail_damaged(const std::string& path, std::string_view problem) {
    mark_damaged(path);
    throw DatabaseDamaged(ErrorCode::bad_file,
                          fmt::format("{}: the file is damaged ({})", path, problem));
}

// Why the last access to the file or its log failed; 0 if that is not known.
int last_system_error(sqlite3* database) {
    if (const int error = sqlite3_system_errno(database); error != 0) return error;
    int error = 0;
    sqlite3_file* log = nullptr;
    sqlite3_file_control(database, "main", SQLITE_FCNTL_LAST_ERRNO, &error);
    sqlite3_file_control(database, "main", SQLITE_FCNTL_JOURNAL_POINTER, &log);
    if (error == 0 && log != nullptr && log->pMethods != nullptr)
        log->pMethods->xFileControl(log, SQLITE_FCNTL_LAST_ERRNO, &error);
    return error;
}

// Says what to do, where that is known.
[[noreturn]] void fail_with(int code, const char* message, int system_error,
                            const std::string& path) {
    const char* reason = system_error != 0 ? std::strerror(system_error) : message;
    switch (code & 0xFF) {
        case SQLITE_NOMEM:
            throw std::bad_alloc();
        case SQLITE_CORRUPT:
        case SQLITE_NOTADB:
            fail_damaged(path, message);
        case SQLITE_FULL:
            throw DatabaseUnwritable(
                ErrorCode::runtime, fmt::format("{}: the disk is full; nothing was changed", path));
        case SQLITE_READONLY:
            // Permissions have been looked at before, so it is the file's header that says so.
            if (code == SQLITE_READONLY) fail_damaged(path, "its header forbids writing");
            [[fallthrough]];
        case SQLITE_CANTOPEN:
        case SQLITE_PERM:
            throw DatabaseUnwritable(ErrorCode::runtime,
                                     fmt::format("{}: cannot open or write: {}", path, reason));
        case SQLITE_IOERR:
            // A file that ends too early is damage, not a failing disk.
            if (code == SQLITE_IOERR_SHORT_READ || code == SQLITE_IOERR_CORRUPTFS)
                fail_damaged(path, message);
            throw DatabaseUnwritable(ErrorCode::runtime,
                                     fmt::format("{}: reading or writing failed: {}; nothing was "
                                                 "changed",
                                                 path, reason));
        case SQLITE_BUSY:
        case SQLITE_LOCKED:
            fail(ErrorCode::runtime, "{}: another program has been writing to it for over {} s",
                 path, Connection::kBusyTimeout.count());
        case SQLITE_ERROR:
            // Our statements are right, so the content does not fit them. That the library can do
            // what they need is tried beforehand, in memory.
            fail_damaged(path, message);
        default:
            fail(ErrorCode::runtime, "{}: {}", path, message);
    }
}

}  // namespace

std::filesystem::path damage_mark(const std::filesystem::path& path) {
    return path.string() + "-damaged";
}

Statement::Statement(Statement&& other) noexcept
    : connection_(other.connection_),
      statement_(std::exchange(other.statement_, nullptr)),
      n_bound_(other.n_bound_) {}

Statement::~Statement() {
    sqlite3_finalize(statement_);
}

Statement& Statement::bind(int64_t value) {
    if (sqlite3_bind_int64(statement_, ++n_bound_, value) != SQLITE_OK) connection_->fail_now();
    return *this;
}

Statement& Statement::bind(std::optional<int64_t> value) {
    if (value) return bind(*value);
    if (sqlite3_bind_null(statement_, ++n_bound_) != SQLITE_OK) connection_->fail_now();
    return *this;
}

Statement& Statement::bind(std::string_view text) {
    if (text.size() > kMaxTextBytes)
        fail(ErrorCode::usage, "a text of {} bytes is too long; the limit is {}", text.size(),
             kMaxTextBytes);
    const std::string safe = is_valid_utf8(text) ? std::string(text) : sanitize_utf8(text);
    if (sqlite3_bind_text64(statement_, ++n_bound_, safe.data(), safe.size(), SQLITE_TRANSIENT,
                            SQLITE_UTF8) != SQLITE_OK)
        connection_->fail_now();
    return *this;
}

bool Statement::step() {
    const int code = sqlite3_step(statement_);
    if (code == SQLITE_ROW) return true;
    if (code == SQLITE_DONE) return false;
    connection_->fail_now();
}

void Statement::run() {
    while (step()) {
    }
}

void Statement::reset() {
    sqlite3_reset(statement_);  // repeats the last step's error, which was thrown already
    n_bound_ = 0;
}

bool Statement::is_null(int column) const {
    return sqlite3_column_type(statement_, column) == SQLITE_NULL;
}

int64_t Statement::integer(int column) const {
    return sqlite3_column_int64(statement_, column);
}

std::optional<int64_t> Statement::optional_integer(int column) const {
    if (is_null(column)) return std::nullopt;
    return integer(column);
}

std::string Statement::text(int column) const {
    const auto* text = reinterpret_cast<const char*>(sqlite3_column_text(statement_, column));
    if (text == nullptr) return "";
    const std::string_view view(text,
                                static_cast<size_t>(sqlite3_column_bytes(statement_, column)));
    return is_valid_utf8(view) ? std::string(view) : sanitize_utf8(view);
}

Connection::Connection(const std::filesystem::path& path, Mode mode) : path_(path) {
    open(uri_of(path, mode == Mode::immutable ? "?immutable=1" : ""),
         mode == Mode::read_write ? SQLITE_OPEN_READWRITE : SQLITE_OPEN_READONLY);
}

Connection::Connection() {
    open(":memory:", SQLITE_OPEN_READWRITE);
}

void Connection::open(const std::string& uri, int flags) {
    const int code = sqlite3_open_v2(uri.c_str(), &database_,
                                     flags | SQLITE_OPEN_URI | SQLITE_OPEN_NOMUTEX |
                                         SQLITE_OPEN_NOFOLLOW | SQLITE_OPEN_EXRESCODE,
                                     nullptr);
    try {
        if (code != SQLITE_OK || register_short_words(database_) != SQLITE_OK) fail_now();
        sqlite3_busy_timeout(database_, static_cast<int>(kBusyTimeout.count()) * 1000);
        sqlite3_db_config(database_, SQLITE_DBCONFIG_DEFENSIVE, 1, nullptr);
        run("PRAGMA cell_size_check = ON; PRAGMA foreign_keys = ON; PRAGMA synchronous = FULL;"
            "PRAGMA temp_store = MEMORY;");
    } catch (...) {
        sqlite3_close(database_);
        throw;
    }
}

Connection::~Connection() {
    sqlite3_close(database_);
}

void Connection::fail_now() {
    if (database_ == nullptr) throw std::bad_alloc();
    const int code = sqlite3_extended_errcode(database_);
    const bool is_io = (code & 0xFF) == SQLITE_IOERR || (code & 0xFF) == SQLITE_CANTOPEN;
    fail_with(code, sqlite3_errmsg(database_), is_io ? last_system_error(database_) : 0,
              path_.string());
}

Statement Connection::prepare(std::string_view sql) {
    sqlite3_stmt* statement = nullptr;
    if (sqlite3_prepare_v2(database_, sql.data(), static_cast<int>(sql.size()), &statement,
                           nullptr) != SQLITE_OK)
        fail_now();
    return Statement(*this, statement);
}

void Connection::run(const char* sql) {
    if (sqlite3_exec(database_, sql, nullptr, nullptr, nullptr) != SQLITE_OK) fail_now();
}

int64_t Connection::integer(const char* sql) {
    Statement statement = prepare(sql);
    return statement.step() ? statement.integer(0) : 0;
}

int64_t Connection::last_insert_id() const {
    return sqlite3_last_insert_rowid(database_);
}

int64_t Connection::n_changed() const {
    return sqlite3_changes64(database_);
}

void Connection::copy_to(const std::filesystem::path& target) {
    prepare("VACUUM INTO ?1").bind(std::string_view(target.string())).run();
}

Transaction::Transaction(Connection& connection) : connection_(connection) {
    connection_.run("BEGIN IMMEDIATE");
}

Transaction::~Transaction() {
    if (!is_open_) return;
    try {
        connection_.run("ROLLBACK");
    } catch (const std::exception&) {
        // SQLite has rolled back by itself: after a full disk, for instance.
    }
}

void Transaction::commit() {
    connection_.run("COMMIT");
    is_open_ = false;
}

}  // namespace nemo
