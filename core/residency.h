// Bringing mapped files into memory before they are needed. Nothing here changes what a program
// computes, only when it waits for the disk.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <thread>
#include <vector>

namespace nemo {

using MappedBytes = std::span<const std::byte>;

// Asks the kernel to read the files, in the background and in order, so that the disk is always
// busy while a program already works on their start. Does nothing if they are larger than the
// machine's memory: what is read too early would be thrown out before it is used.
class ReadAhead {
public:
    // The mappings must outlive this object.
    explicit ReadAhead(std::vector<MappedBytes> files);

private:
    std::jthread thread_;
};

// Reads all bytes in and maps them, so that later accesses wait for nothing as long as the memory
// suffices. Calls on_progress(bytes done) every 64 MiB; false ends the call.
void read_in(std::span<const MappedBytes> files,
             const std::function<bool(int64_t n_done)>& on_progress);

// Keeps the files' pages in memory, from when they are first touched until they are unmapped.
// Throws Error{out_of_memory} naming `what` and the limit on locked memory.
void lock_in_memory(std::span<const MappedBytes> files, const std::string& what);

}  // namespace nemo
