// Writes a new file so that the target is at every moment either the old one or the complete new
// one: a temporary file beside it, fsync, rename, fsync of the folder. Dropped before commit(), the
// temporary file is removed; one that a killed program left behind is removed by the next
// AtomicFile of the same target. For model files see core/resumable_file.h.
#pragma once

#include "core/temporary_file.h"

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string_view>
#include <vector>

namespace nemo {

// Throws Error{usage} if the target is there and is the very file that `source` names.
void refuse_to_replace(const std::filesystem::path& target, const std::filesystem::path& source);

// Throws Error{runtime} if the target is there and --force was not given.
void refuse_existing(const std::filesystem::path& target, bool force);

class AtomicFile {
public:
    // Throws Error{runtime} if the folder cannot be written, or the target is there but is no
    // regular file.
    explicit AtomicFile(const std::filesystem::path& target,
                        FileAccess access = FileAccess::as_umask);

    // As TemporaryFile::reserve(). What is not written in the end is given back by commit().
    void reserve(uint64_t n_bytes);
    void write(std::span<const std::byte> bytes);
    void write(std::string_view text);
    // Replaces bytes that were written before.
    void overwrite(uint64_t offset, std::span<const std::byte> bytes);
    void commit();

    uint64_t n_written() const { return n_flushed_ + buffer_.size(); }

private:
    void flush();

    TemporaryFile file_;
    uint64_t n_flushed_ = 0;
    bool reserved_ = false;
    std::vector<std::byte> buffer_;
};

}  // namespace nemo
