// Disk space for what does not fit into memory while the program runs: one file without a name,
// which is gone with its last user, however that ends.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>

namespace nemo {

class SpillFile {
public:
    // In `folder`, which is created (mode 0700) if missing. Throws Error{runtime}.
    explicit SpillFile(const std::filesystem::path& folder);
    ~SpillFile();
    SpillFile(const SpillFile&) = delete;
    SpillFile& operator=(const SpillFile&) = delete;

    // Returns where the bytes are. Throws Error{runtime}, for instance if the disk is full; then
    // nothing was taken.
    uint64_t write(std::span<const std::byte> bytes);
    // Throws Error{bad_file} if they cannot be read.
    void read(uint64_t offset, std::span<std::byte> bytes) const;
    // Gives the space back.
    void discard(uint64_t offset, uint64_t n_bytes);

    // Bytes written and not discarded.
    uint64_t n_bytes() const { return n_bytes_; }
    // What the disk has left.
    uint64_t n_free_bytes() const;

private:
    std::filesystem::path folder_;
    int descriptor_ = -1;
    uint64_t end_ = 0;
    uint64_t n_bytes_ = 0;
};

}  // namespace nemo
