// Where the sessions' states of chats are kept between two runs: one file per chat, all of which
// can be made again by reading the chat.
#pragma once

#include <cstdint>
#include <filesystem>

namespace nemo {

// In the user's cache; empty: there is none.
std::filesystem::path default_state_folder();

// CHAT.state in the folder, which is created if need be. Throws Error{runtime}.
std::filesystem::path state_file(const std::filesystem::path& folder, int64_t chat);

// Removes what is kept of a chat, if anything is.
void remove_state(const std::filesystem::path& folder, int64_t chat);

// Removes the files written longest ago until the others take `most_bytes` at most, but never
// `newest`. What cannot be looked at or removed stays.
void trim_state_folder(const std::filesystem::path& folder, const std::filesystem::path& newest,
                       uint64_t most_bytes);

}  // namespace nemo
