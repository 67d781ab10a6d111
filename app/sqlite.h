// The only door to SQLite: a connection, statements and transactions that clean up after
// themselves. Every file is opened as hostile: pages are checked as they are read, no symbolic link
// is followed, text that comes out is valid UTF-8.
#pragma once

#include "core/error.h"

#include <chrono>
#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <string_view>

struct sqlite3;
struct sqlite3_stmt;

namespace nemo {

// The file is no database or breaks its own format.
class DatabaseDamaged : public Error {
public:
    using Error::Error;
};
// The file, its folder or the disk does not take what must be written.
class DatabaseUnwritable : public Error {
public:
    using Error::Error;
};

// Beside a file in which damage was met: a reason to check it thoroughly when it is opened again,
// which takes too long to be done always.
std::filesystem::path damage_mark(const std::filesystem::path& path);

// One prepared statement. Parameters ?1, ?2, ... are bound in the order of the arguments; columns
// count from 0. Lives no longer than its connection.
class Statement {
public:
    Statement(Statement&& other) noexcept;
    ~Statement();

    Statement& bind(int64_t value);
    Statement& bind(std::optional<int64_t> value);  // nullopt: NULL
    Statement& bind(std::string_view text);         // ill-formed UTF-8 becomes U+FFFD

    // The next row; false after the last.
    bool step();
    void run();    // to its end, for statements without rows
    void reset();  // ready for other values

    bool is_null(int column) const;
    int64_t integer(int column) const;
    std::optional<int64_t> optional_integer(int column) const;
    std::string text(int column) const;

private:
    friend class Connection;
    Statement(class Connection& connection, sqlite3_stmt* statement)
        : connection_(&connection), statement_(statement) {}

    class Connection* connection_;
    sqlite3_stmt* statement_;
    int n_bound_ = 0;
};

// Not for two threads at once. The first damage or failure throws, and the connection stays usable.
class Connection {
public:
    enum class Mode {
        read_write,  // the file is there, perhaps empty
        read_only,
        immutable,  // read_only for places where nothing can be written: an unfinished -wal is not
                    // seen
    };
    Connection(const std::filesystem::path& path, Mode mode);
    Connection();  // an empty database in memory
    ~Connection();
    Connection(const Connection&) = delete;
    Connection& operator=(const Connection&) = delete;

    Statement prepare(std::string_view sql);
    // One or several statements without parameters and rows.
    void run(const char* sql);
    // The first column of the first row, 0 without one.
    int64_t integer(const char* sql);
    int64_t last_insert_id() const;
    int64_t n_changed() const;

    // A copy of the whole, consistent content in a file that does not exist yet or is empty.
    void copy_to(const std::filesystem::path& target);

    // Waiting for another program's transaction ends in an error after this time.
    static constexpr std::chrono::seconds kBusyTimeout{5};

private:
    friend class Statement;
    void open(const std::string& uri, int flags);
    [[noreturn]] void fail_now();

    std::filesystem::path path_;
    sqlite3* database_ = nullptr;
};

// Everything between construction and commit() happens, or nothing. Takes the write lock at once,
// so that two writers wait for each other instead of failing.
class Transaction {
public:
    explicit Transaction(Connection& connection);
    ~Transaction();
    Transaction(const Transaction&) = delete;
    Transaction& operator=(const Transaction&) = delete;
    void commit();

private:
    Connection& connection_;
    bool is_open_ = true;
};

}  // namespace nemo
