// Files and folders that nobody but the user may read: chats, states, logs.
#pragma once

#include <filesystem>

namespace nemo {

// Creates the folder (mode 0700) and what is missing above it. An existing one stays as it is.
// Throws Error{runtime}.
void create_private_folder(const std::filesystem::path& folder);

// Creates an empty file (mode 0600, whatever the umask) unless there is one; takes an existing
// one's permissions for others away. Throws Error{runtime} if that cannot be done, or something
// else than a regular file is there, a symbolic link included.
void ensure_private_file(const std::filesystem::path& file);

// The check alone, for files that another library creates: nothing there, or a regular file.
void refuse_special_file(const std::filesystem::path& file);

}  // namespace nemo
