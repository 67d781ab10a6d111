// The tables of a chat file, and the way from an older version of them to this one.
#pragma once

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

namespace nemo {

class Connection;

// In SQLite's user_version; grows with every change of the tables.
constexpr int kChatSchemaVersion = 2;

// How a database file starts.
inline constexpr std::string_view kDatabaseStart("SQLite format 3\0", 16);

// Throws Error{bad_file} if the file is a database of another program, by its first bytes: opening
// it would take others' permissions away and leave files beside it.
void refuse_foreign_database(const std::filesystem::path& file);

// Throws Error{runtime} if this SQLite lacks something that the tables need.
void check_library();

// Throws Error{bad_file} if the file is not one of nemo's or is of a newer version, and
// DatabaseDamaged if its tables are not exactly those of its version: triggers that somebody else
// put there must not run. Has changed nothing then.
void check_schema(Connection& connection, const std::filesystem::path& file);

// Brings the file to kChatSchemaVersion. An older one is first copied to FILE.backup-vN; a sentence
// about that goes to `notices`.
void migrate_schema(Connection& connection, const std::filesystem::path& file,
                    std::vector<std::string>& notices);

}  // namespace nemo
