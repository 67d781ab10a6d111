// Writes a new file so that the target is at every moment either the old one or the complete new
// one: a temporary file beside it, fsync, rename, fsync of the folder. Dropped before commit(), the
// temporary file is removed. One that a killed program left behind is removed by the next
// AtomicFile of the same target: while a temporary file is being written it is locked, so an
// unlocked one is nobody's.
#pragma once

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace nemo {

// Throws Error{usage} if the target is there and is the very file that `source` names.
void refuse_to_replace(const std::filesystem::path& target, const std::filesystem::path& source);

class AtomicFile {
public:
    // Throws Error{runtime} if the folder cannot be written, or the target is there but is no
    // regular file.
    explicit AtomicFile(const std::filesystem::path& target);
    ~AtomicFile();
    AtomicFile(const AtomicFile&) = delete;
    AtomicFile& operator=(const AtomicFile&) = delete;

    // Takes the space from the disk now, where the file system can; throws Error{runtime} with both
    // sizes if the disk is too full. What is not written in the end is given back by commit().
    void reserve(uint64_t n_bytes);
    void write(std::span<const std::byte> bytes);
    void write(std::string_view text);
    // Replaces bytes that were written before.
    void overwrite(uint64_t offset, std::span<const std::byte> bytes);
    void commit();

    uint64_t n_written() const { return n_written_; }

private:
    void flush();
    void write_fully(const std::byte* data, size_t n);
    [[noreturn]] void fail_to_write() const;

    std::filesystem::path target_;
    std::filesystem::path temporary_;
    int descriptor_ = -1;
    uint64_t n_written_ = 0;
    bool reserved_ = false;
    std::vector<std::byte> buffer_;
};

}  // namespace nemo
