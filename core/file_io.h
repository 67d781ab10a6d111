// Reading and writing at a place of an open file, all of it: the system's calls may do less at a
// time and may be interrupted.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace nemo {

// False, with errno, if the file does not take all bytes.
bool write_all_at(int descriptor, uint64_t offset, std::span<const std::byte> bytes);

// How many bytes were read: fewer only at the end of the file (errno 0) or after an error (errno).
size_t read_all_at(int descriptor, uint64_t offset, std::span<std::byte> bytes);

}  // namespace nemo
