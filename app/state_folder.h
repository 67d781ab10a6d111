// Where the sessions' states of chats are kept between two runs: one file per chat, all of which
// can be made again by reading the chat.
#pragma once

#include <cstdint>
#include <filesystem>

namespace nemo {

// In the user's cache, for the usual chat file (empty), or one of its own for another: chats are
// told apart by their numbers only. Empty: there is no cache.
std::filesystem::path state_folder_of(const std::filesystem::path& chat_file);

// CHAT.state in the folder, which is created if need be. Throws Error{runtime}.
std::filesystem::path state_file(const std::filesystem::path& folder, int64_t chat);

// Removes what is kept of a chat, if anything is.
void remove_state(const std::filesystem::path& folder, int64_t chat);

// Removes the files in and below the folder that were written longest ago until the others take
// `most_bytes` at most, but never `newest`. What cannot be looked at or removed stays.
void trim_state_folder(const std::filesystem::path& folder, const std::filesystem::path& newest,
                       uint64_t most_bytes);

}  // namespace nemo
