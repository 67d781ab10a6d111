// The tables of a chat file, and the way from an older version of them to this one.
#pragma once

#include <filesystem>
#include <string>
#include <vector>

namespace nemo {

class Connection;

// In SQLite's user_version; grows with every change of the tables.
constexpr int kChatSchemaVersion = 1;

// Throws Error{bad_file}, and has changed nothing, if the file is not one of nemo's or is of a
// newer version.
void check_schema_version(Connection& connection, const std::filesystem::path& file);

// Brings the file to kChatSchemaVersion. An older one is first copied to FILE.backup-vN; a sentence
// about that goes to `notices`.
void migrate_schema(Connection& connection, const std::filesystem::path& file,
                    std::vector<std::string>& notices);

}  // namespace nemo
